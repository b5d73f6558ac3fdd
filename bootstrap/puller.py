#!/usr/bin/python3
"""Fetch the release that this host shall run, verify it, run its agent: python3 <release>/orthanc_host converge.

Being user data, it must serve every later release: pointer, state.json (proven, refused, hold), environment and exit codes
(0 done, 65 refused, 69 not proven, 75 another run is at work) are its contract with them.
"""

import hashlib, json, os, shutil, subprocess, sys, tarfile, tempfile, time

STACK = json.load(open("/etc/orthanc/stack.json"))
RELEASES, STATE, RUN = "/opt/orthanc/releases", "/var/lib/orthanc/state.json", "/run/orthanc-host/"
DONE, REFUSED, UNPROVEN, BUSY = 0, 65, 69, 75


def aws(*words):
    command = ["aws", "--region", STACK["region"], "--output", "json", "--cli-connect-timeout", "5", "--cli-read-timeout", "20", *words]
    done = subprocess.run(command, stdout=-1, stderr=-1, timeout=90, universal_newlines=True)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or ["aws said nothing"])[-1])
    return json.loads(done.stdout or "{}")


def parameter(name):
    return json.loads(aws("ssm", "get-parameter", "--name", name)["Parameter"]["Value"])


def load(*paths):
    for path in paths:
        try:
            return json.load(open(path))
        except (OSError, ValueError):
            pass
    return {}


def save(name, value):
    os.makedirs(RUN, 0o700, True)
    with open(RUN + name + ".new", "w") as file:
        json.dump(value, file)
    os.rename(RUN + name + ".new", RUN + name)


def state():
    return load(RUN + "state.json", STATE)


def fetch(pointer):
    """The folder of a release, there whole or not at all."""
    place = RELEASES + "/" + pointer["sha256"]
    if os.path.isdir(place):
        return place
    os.makedirs(RELEASES, 0o755, True)
    folder = tempfile.mkdtemp(prefix=".new-", dir=RELEASES)
    try:
        packed = folder + "/packed"
        aws("s3api", "get-object", "--bucket", pointer["bucket"], "--key", pointer["key"], "--version-id", pointer["version"], packed)
        if hashlib.sha256(open(packed, "rb").read()).hexdigest() != pointer["sha256"]:
            raise OSError("its checksum is wrong")
        with tarfile.open(packed) as tar:
            for entry in tar:
                if not entry.isfile() or entry.name.startswith("/") or ".." in entry.name:
                    raise OSError("it holds %r" % entry.name)
                tar.extract(entry, folder + "/release")
        os.sync()  # a power failure must not leave a folder of empty files
        os.rename(folder + "/release", place)
    except (EOFError, KeyError, tarfile.TarError) as error:
        raise OSError("it can't be unpacked: %r" % error)
    finally:
        shutil.rmtree(folder, True)
    return place


def wanted():
    """The pointer; while Parameter Store is silent the last one; None before the first."""
    for _ in range(12):
        try:
            pointer = parameter(STACK["pointer"])
            save("pointer.json", pointer)
            return pointer
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            seen = load(RUN + "pointer.json") or state().get("proven")
            if seen:
                print("pointer:", error)
                return seen
            time.sleep(5)


def candidates(pointer):
    now = state()
    if not now:  # a fresh host learns from the one before it
        try:
            told = parameter(STACK["proven"])
            now = {"proven": told.get("last"), "refused": told.get("refused", {})}
            save("state.json", now)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            print("proven:", error)
    last, hold = now.get("proven"), now.get("hold")
    if hold and hold["against"] == pointer["sha256"]:
        return [hold["run"], last]
    if last and pointer["sha256"] in now["refused"]:
        return [last]
    return [pointer, last]


def main():
    pointer = wanted()
    not_taken, tried, code = "", [None], 0
    for release in candidates(pointer) if pointer else ():
        if release in tried:
            continue
        tried.append(release)
        name = "release %.12s" % release["sha256"]
        try:
            place = fetch(release)
        except (OSError, subprocess.SubprocessError) as error:
            not_taken = not_taken or "%s was not taken: %s" % (name, error)
            print(not_taken, flush=True)
            code = 1
            continue
        told = {"ORTHANC_WANTED": json.dumps(pointer), "ORTHANC_RELEASE": json.dumps(release), "ORTHANC_NOT_TAKEN": not_taken}
        code = subprocess.call(["python3", place + "/orthanc_host", "converge"], env={**os.environ, **told})
        print(name, "ended with", code, flush=True)
        if code in (DONE, UNPROVEN, BUSY):
            break
        now = state()
        if code != REFUSED and now.get("proven") != release:
            now["refused"] = {**now.get("refused", {}), release["sha256"]: "its agent broke off (%s)" % code}
            save("state.json", now)
    return code


sys.exit(main())
