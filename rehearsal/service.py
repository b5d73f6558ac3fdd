"""The service's life on its host, in steps: from a launch template to stored studies, through changes and faults to its successor.

Each step proves what it says and returns what it measured, in a line. `python -m rehearsal` shows them; tests/host runs them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from infra.access import WITHOUT_RESOURCE
from laptop import study
from laptop.peer import Peer
from laptop.tell import Trouble
from operations import verify as verifying
from rehearsal import privilege as privileges
from rehearsal.hosts import Host
from rehearsal.scene import CT1, STACK, USERS, Scene, eventually, require

Step = Callable[[Scene], str]
# Between a change in the world and the host's next look at it lies a minute at most; the rest is work.
SOON: Final = 120
FAULT: Final = 420
MR7: Final = {"aet": "MR7", "may": ["store", "find"]}


# -- into existence --------------------------------------------------------------------------------------------------------


def deploy(scene: Scene) -> str:
    """Deploy the stack into an empty account with pulumi up"""
    scene.lab.pulumi("stack", "init", STACK)
    scene.say(instanceType="t3.small", modalities=scene.modalities, users=list(USERS), **scene.cloud.settings())
    seconds = scene.up()
    scene.cloud.database(STACK)
    return f"{seconds:.0f} s, most of it the provider's wait for the database"


def boot(scene: Scene) -> str:
    """Boot the host from its launch template: cloud-init, Docker, the release, the proof"""
    host = scene.cloud.launch(STACK)
    installed = host.booted(600)
    release = scene.outputs["release"]
    scene.until_proven(release, 600)
    took = host.seconds
    eventually("the launch hook was completed", lambda: "CONTINUE" in _hook(scene, host), 30)
    require(scene.cloud.holder(STACK) == host.id, "the address is not the host's")
    schema = host.run("cloud-init", "schema", "--system").stdout
    require("Valid cloud-config" in schema, f"cloud-init does not like its user data: {schema}")
    units = ("/etc/systemd/system/orthanc-converge.service", "/etc/systemd/system/orthanc-converge.timer")
    told = host.run("systemd-analyze", "verify", *units)
    require(not told.stderr.strip(), f"systemd-analyze verify: {told.stderr}")
    return f"{took:.0f} s from boot to proof (installed after {installed:.0f} s); launch hook completed, address taken"


def _hook(scene: Scene, host: Host) -> str:
    (reservation,) = scene.lab.aws("ec2").describe_instances(InstanceIds=[host.id])["Reservations"]
    return str({tag["Key"]: tag["Value"] for tag in reservation["Instances"][0]["Tags"]}.get("lifecycle:proven", ""))


def store(scene: Scene) -> str:
    """Store a study over mutual TLS with the bundle from the stack's outputs, and find it again"""
    peer = scene.peer("CT1")
    begun = time.monotonic()
    count = scene.store(peer, list(study.series(slices=20)))
    took = time.monotonic() - begun
    (found,) = peer.find_studies()
    require(int(found.NumberOfStudyRelatedInstances) == count, f"{count} images went in, {found.NumberOfStudyRelatedInstances} are there")
    status, studies = scene.web("/studies")
    require(status == 200 and len(studies) == 1, f"the web page shows {studies}")
    status, _ = scene.web(f"/studies/{studies[0]}", user="reader", method="DELETE")
    require(status == 403, f"a reader's DELETE was answered with {status}")
    logged = eventually("nginx's line about it is in CloudWatch", lambda: '"calling":"CT1"' in scene.containers_said(), 60)
    require(scene.lines() and scene.metric("Proof")[-1] == 1, "the host's own line and metrics are not in CloudWatch")
    return f"{count} images in {took:.1f} s, logged {logged:.0f} s later, found by C-FIND and at {scene.outputs['url']}"


def verify(scene: Scene) -> str:
    """Ask the service from outside as make verify does: every check good, and its test object gone again"""
    findings = list(verifying.verify(scene.target()))
    told, code = verifying.summary(findings)
    require(code == 0 and not any(f.verdict == "left out" for f in findings), "\n".join(map(str, (*findings, told))))
    return told


# -- change ----------------------------------------------------------------------------------------------------------------


def enrol(scene: Scene) -> str:
    """Enrol a modality with make up, then strike it; another one keeps storing"""
    begun, before = time.monotonic(), _containers(scene.host)
    with scene.steady() as steady:
        scene.modalities = [CT1, MR7]
        scene.say(modalities=scene.modalities)
        scene.make_up()
        scene.store(scene.peer("MR7"), list(study.series(slices=2, seed="mr7")))
        enrolled, peer = time.monotonic() - begun, scene.peer("MR7")
        require(enrolled < SOON, f"MR7 could store after {enrolled:.0f} s only")
        scene.modalities = [CT1]
        scene.say(modalities=scene.modalities)
        begun = time.monotonic()
        scene.make_up()
        struck = time.monotonic() - begun
        require(not _associates(peer), "MR7 was struck, and still gets an association")
    require(_containers(scene.host) == before, "a container was restarted")
    return f"could store after {enrolled:.0f} s, was refused after {struck:.0f} s; {steady.unbroken()}"


def rotate(scene: Scene) -> str:
    """Rotate the database's password, then fail the database over: every session breaks, the new ones need the new password"""
    database, before = scene.cloud.database(STACK), _containers(scene.host)
    with scene.steady() as steady:
        database.rotate()
        version = "/run/orthanc/agent/database-version"
        old = scene.host.read(version)
        took = eventually("the host has the new password", lambda: scene.host.read(version) != old, SOON)
        time.sleep(5)
    rotated = steady.unbroken()
    with scene.steady() as steady:
        time.sleep(3)
        database.restart(away=5)
        gap = eventually("images are stored again", lambda: _stores(scene), 90)
        time.sleep(3)
    require(_containers(scene.host) == before, "a container was restarted")
    return (
        f"taken after {took:.0f} s, {rotated}; failover: 5 s without a database, "
        f"{steady.longest_gap:.0f} s between two stored images, {len(steady.refused)} associations failed; good again after {gap:.0f} s"
    )


def renew(scene: Scene) -> str:
    """Renew the server's certificate while an association is open"""
    old = _shown(scene)
    peer, before = scene.peer("CT1"), _containers(scene.host)
    with peer.association() as association, scene.steady() as steady:
        scene.say(serverCertificate=2)
        scene.make_up()
        require(_shown(scene) != old, "the old certificate is still shown")
        answer = association.send_c_echo()
        require(getattr(answer, "Status", None) == 0, "the open association was dropped")
    require(_containers(scene.host) == before, "a container was restarted")
    return f"new certificate shown; the open association went on; {steady.unbroken()}"


def refuse(scene: Scene) -> str:
    """Deploy a release that Orthanc refuses: back to the old one, and everybody can see why"""
    good = scene.outputs["release"]
    with _spoilt(scene):
        with scene.steady() as steady:
            said = scene.make_up(code=1)
            require("the host refused the release" in said, f"make up does not say so:\n{said[-2000:]}")
            bad = scene.outputs["release"]
            scene.until_proven(good)
            time.sleep(5)
        told = scene.proven
        require(told["release"] == good and bad in told["refused"], f"`proven` says {told}")
        status = scene.host.run("orthanc-host", "status").stdout
        require("NOT TAKEN" in status and bad[:12] in status, f"status says:\n{status}")
        require(scene.metric("ReleaseFailed")[-1] == 1, "the metric ReleaseFailed is not 1")
        require([line for line in scene.lines() if line["status"] == "refused" and line["release"] == bad[:12]], "the log does not tell it")
        tries = _tries(scene, bad)
        time.sleep(70)  # one more run
        require(_tries(scene, bad) == tries, "the refused release was tried again")
        gap = steady.longest_gap
        successor = _successor(scene, good)
    scene.move_on()
    scene.make_up()
    scene.until_proven(scene.outputs["release"])
    require(not scene.lost(), "acknowledged images were lost")
    return f"refused after {tries} runs, {gap:.0f} s between two stored images; {successor}; the next good release was taken"


@contextlib.contextmanager
def _spoilt(scene: Scene) -> Iterator[None]:
    """The program makes a configuration that Orthanc can't start with: an AE title longer than DICOM allows."""
    path = scene.lab.project / "config_templates/orthanc/__init__.py"
    text = path.read_text(encoding="utf-8")
    require('"DicomAet": service.aet' in text, "the template has changed: spoil it in another way")
    path.write_text(text.replace('"DicomAet": service.aet', '"DicomAet": "MUCH-TOO-LONG-FOR-DICOM"'), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def _tries(scene: Scene, release: str) -> int:
    return scene.host.journal("orthanc-converge").count(f"release {release[:12]} ended with") or len(
        [line for line in scene.lines() if line["release"] == release[:12]]
    )


def _successor(scene: Scene, release: str) -> str:
    """The host dies while a bad release is pointed to."""
    scene.host.kill()
    host = scene.cloud.replace(STACK)
    eventually("the successor has proven the old release", lambda: scene.proven.get("host") == host.id, 600)
    require(scene._is_proven(release), f"the successor runs something else: {scene.proven}")  # noqa: SLF001
    return f"its successor proved the old release {host.seconds:.0f} s after its boot"


# -- faults ----------------------------------------------------------------------------------------------------------------


def reboot(scene: Scene) -> str:
    """Reboot, and lose the power"""
    took = []
    for hard in (False, True):
        at = time.time()
        scene.host.reboot(hard=hard)
        took.append(_proven_again(scene, at))
    require(not scene.lost(), "acknowledged images were lost")
    return f"until the proof was back: {took[0]:.0f} s after a reboot, {took[1]:.0f} s after a power failure"


def breakdowns(scene: Scene) -> str:
    """Kill each container, hang Orthanc"""
    took = []
    for service, signal in (("nginx", "KILL"), ("orthanc", "KILL"), ("orthanc", "STOP")):
        at = time.time()
        if signal == "KILL":
            scene.host.run("docker", "kill", f"orthanc-{STACK}-{service}-1")
        else:
            scene.host.run("pkill", "-STOP", "-x", "Orthanc")
        took.append(f"{service} {signal} {_proven_again(scene, at):.0f} s")
    require(not scene.lost(), "acknowledged images were lost")
    return f"until the proof was back: {', '.join(took)}"


def away(scene: Scene) -> str:
    """Take AWS away, one service after another, while it runs and at boot"""
    with scene.steady() as steady:
        for service in ("s3", "ssm", "secretsmanager", "logs", "monitoring"):
            with scene.cloud.away(service):
                scene.host.run("/usr/local/sbin/orthanc-pull", check=False)
    later = steady.unbroken()
    took = []
    for services in (("ssm",), ("secretsmanager",), ("s3", "logs", "cloudwatch")):
        with scene.cloud.away(*services):
            scene.host.reboot()
            scene.host.until("systemctl", "is-active", "docker")
            scene.host.run("sh", "-c", "/usr/local/sbin/orthanc-pull; true", seconds=300)
        took.append(f"{'+'.join(services)} {_proven_again(scene, time.time()):.0f} s")
    require(not scene.lost(), "acknowledged images were lost")
    return f"while it ran: {later}; at boot, until the proof was back after they were: {', '.join(took)}"


def broken_release(scene: Scene) -> str:
    """Cut a release off, and falsify one: neither is taken, the old one runs on"""
    old = scene.outputs["release"]
    told = []
    scene.move_on()
    with scene.cloud.truncated("s3"), scene.steady() as steady:
        scene.up()
        new = scene.outputs["release"]
        for_long = eventually("the host tells that it can't take it", lambda: "not_taken" in scene.proven, SOON)
        told.append(scene.proven["not_taken"])
        require(scene.proven["release"] == old, "something else runs than before")
    with scene.cloud.corrupted("s3"):
        ran = scene.host.run("/usr/local/sbin/orthanc-pull", check=False).stdout
        require("checksum is wrong" in ran, f"a wrong bit went unnoticed:\n{ran}")
    scene.until_proven(new)
    return f"told after {for_long:.0f} s ('{told[0]}'); taken once it was whole; {steady.unbroken()}"


def two_at_once(scene: Scene) -> str:
    """Run two agents at once: one works, the other steps back"""
    # The timer's own run would be one more of them.
    scene.host.run("systemctl", "stop", "orthanc-converge.timer")
    # A run that is at work is called activating, not active.
    scene.host.until(
        "sh", "-c", "case $(systemctl show --property ActiveState --value orthanc-converge.service) in activating) exit 1; esac"
    )
    with scene.steady() as steady, ThreadPoolExecutor() as pool:
        runs = [pool.submit(scene.host.run, "/usr/local/sbin/orthanc-pull", check=False) for _ in range(3)]
        codes = sorted(run.result().returncode for run in runs)
    scene.host.run("systemctl", "start", "orthanc-converge.timer")
    require(codes[0] == 0 and 75 in codes and set(codes) <= {0, 75}, f"exit codes {codes}")
    return f"exit codes {codes}; {steady.unbroken()}"


def operate(scene: Scene) -> str:
    """What an operator does on the host: status, rollback and hold, revoke-now"""
    host = scene.host
    now = scene.outputs["release"]
    host.run("orthanc-host", "rollback", "--hold", "the vendor is here")
    status = host.run("orthanc-host", "status").stdout
    require("HELD:         the vendor is here" in status, f"status says:\n{status}")
    require(scene.proven["release"] != now and scene.proven["hold"] == "the vendor is here", f"`proven` says {scene.proven}")
    eventually("the metric Held is 1", lambda: scene.metric("Held")[-1] == 1, 10)
    scene.move_on()
    scene.make_up()
    require("HELD" not in host.run("orthanc-host", "status").stdout, "a new release did not end the hold")
    peer = scene.peer("CT1")
    with peer.association() as association:
        begun = time.monotonic()
        host.run("orthanc-host", "revoke-now", "CT1")
        took = time.monotonic() - begun
        answer = association.send_c_echo() if association.is_established else None
        require(getattr(answer, "Status", None) != 0, "the open association of a revoked modality goes on")
    require(not _associates(peer), "a revoked modality gets an association")
    wrong = host.run("orthanc-host", "revoke-now", "NOBODY", check=False)
    require(wrong.returncode == 2 and "not enrolled" in wrong.stderr, f"NOBODY could be revoked: {wrong}")
    scene.move_on()
    scene.make_up()
    require(_stores(scene), "the next release did not let CT1 in again")
    return f"held and released; revoke-now cut a modality off in {took:.0f} s; the next release let it in again"


def fill(scene: Scene) -> str:
    """Fill the disk for good: the stack is restarted once, then the host gives itself up, and the group replaces it"""
    host, scratch = scene.host, "/var/lib/orthanc/scratch"
    begun = time.monotonic()
    host.run("mount", "-t", "tmpfs", "-o", "size=1100m,mode=0700,uid=999,gid=999", "tmpfs", scratch)  # a small disk of its own
    host.run("fallocate", "-l", "1000M", f"{scratch}/full")
    said: list[str] = []

    def called(action: str) -> bool:
        return any(str(call) == f"autoscaling:{action}" for call in scene.cloud.asked(host))

    while len(said) < 10 and not called("SetInstanceHealth"):
        said.append(host.run("/usr/local/sbin/orthanc-pull", check=False).stdout)  # instead of waiting for a minute each time
    gave_up = time.monotonic() - begun
    require(called("SetInstanceHealth"), "the host did not give itself up")
    require(called("DescribeScalingActivities"), "it did not ask how many did so before")
    require("disk:" in scene.proven["reason"], f"`proven` does not tell the reason: {scene.proven}")
    told = "".join(said) + host.journal("orthanc-converge")  # the timer's own runs are among them
    require(told.count("restarting all containers") == 1, "the stack was not restarted exactly once before")
    new = scene.cloud.replace(STACK)
    host.kill()
    eventually("images are stored again", lambda: scene.cloud.holder(STACK) == new.id and _stores(scene), 600)
    require(not scene.lost(), "acknowledged images were lost")
    return f"gave up after {len(said)} failed proofs ({gave_up:.0f} s without the pauses); successor: {new.seconds:.0f} s"


def privilege(scene: Scene) -> str:
    """Hold every AWS call that hosts made against the role's policy"""
    iam = scene.lab.aws("iam")
    (role,) = [r["RoleName"] for r in iam.list_roles()["Roles"] if r["RoleName"].startswith("host-role")]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policy = [s for name in names for s in privileges.statements(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])]
    calls = scene.cloud.asked()
    account = scene.lab.aws("sts").get_caller_identity()["Account"]
    group = f"orthanc-{STACK}"
    excess = {str(c) for c in calls if not privileges.allowed(c, policy, account=account, group=group, stack=STACK)}
    require(not excess, f"hosts called what their role does not allow: {sorted(excess)}")
    idle = privileges.never_called(policy, calls)
    require(not idle, f"the role allows what no host needed: {idle}")
    wide = sorted(privileges.everywhere(policy))
    unknown = set(wide) - set(WITHOUT_RESOURCE)
    require(not unknown, f"allowed upon every resource, without a page that demands it: {sorted(unknown)}")
    return f"{len(calls)} calls, {len({str(c) for c in calls})} kinds, each allowed; {len(wide)} actions upon '*', each with AWS's page"


def succeed(scene: Scene) -> str:
    """The group replaces its host: a false compose plugin and an absent AWS delay the successor, then it takes over"""
    old, files = scene.host, scene.cloud.files
    (plugin,) = [path for path in files if path.endswith("x86_64")]
    right = files[plugin]
    with scene.steady() as steady:
        scene.cloud.terminate(STACK)
        files[plugin] = right[:-1] + bytes([right[-1] ^ 1])
        with scene.cloud.away("s3", "ssm", "secretsmanager", "logs"):
            new = scene.cloud.launch(STACK)
            eventually("the false plugin is refused", lambda: "failed: compose" in new.log(), 180)
            require(new.run("docker", "compose", "version", check=False).returncode != 0, "the false plugin was installed")
            files[plugin] = right
            new.booted(300)
            time.sleep(10)
        eventually("the new host has the address", lambda: scene.cloud.holder(STACK) == new.id, 600)
        took = new.seconds
        old.run("/usr/local/sbin/orthanc-pull", check=False)
        require(scene.cloud.holder(STACK) == new.id, "the dying host took the address back")
        time.sleep(5)
    old.kill()
    require(not scene.lost(), "acknowledged images were lost")
    gap, failed = steady.longest_gap, len(steady.refused)
    return (
        f"address and service taken {took:.0f} s after its boot, {failed} associations failed meanwhile (longest gap {gap:.1f} s); "
        f"the dying host did not take it back; all {len(scene.kept)} acknowledged images are there"
    )


# -- helpers ---------------------------------------------------------------------------------------------------------------


def _containers(host: Host) -> str:
    """Which containers run, and since when."""
    form = "{{.Name}} {{.Id}} {{.State.StartedAt}}"
    return host.run("sh", "-c", f"docker inspect --format '{form}' $(docker ps -q)").stdout


def _associates(peer: Peer) -> bool:
    try:
        return peer.echo() == 0
    except (OSError, Trouble):
        return False


def _proven_again(scene: Scene, since: float) -> float:
    """Wait until images are stored and the host has proven itself after `since`. Returns how long ago that was, in seconds."""
    time.sleep(5)  # the fault takes effect
    eventually("images are stored again", lambda: _stores(scene), FAULT)
    eventually("the host has proven it", lambda: (proof := scene.last_proof())[0] > since + 5 and proof[1] == 1, FAULT)
    return time.time() - since


def _stores(scene: Scene) -> bool:
    """CT1 can store an image at the stack's address."""
    return scene.store(scene.peer("CT1"), list(study.series(slices=1, seed=f"at {time.time()}"))) == 1


def _shown(scene: Scene) -> str:
    """The certificate that the DICOM port shows."""
    context = scene.peer("CT1").context()
    with socket.create_connection((scene.address, 11112), 10) as plain, context.wrap_socket(plain, server_hostname=scene.address) as sock:
        return ssl.DER_cert_to_PEM_cert(sock.getpeercert(binary_form=True) or b"")


STEPS: tuple[Step, ...] = (
    *(deploy, boot, store, verify, enrol, rotate, renew, operate, refuse),
    *(reboot, breakdowns, away, broken_release, two_at_once, succeed, fill, privilege),
)
