"""The commands on the host, in plain words, with exit codes that scripts can use.

0 done, or the service is proven; 1 it could not be done; 2 the command was wrong; 65 the release was refused; 69 the service is
not proven; 75 another run is at work.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, TextIO

from orthanc_host import files, store
from orthanc_host.agent import REFUSED, UNPROVEN, Agent
from orthanc_host.configuration import Configuration, ConfigurationError, merged, validated
from orthanc_host.containers import Containers
from orthanc_host.decisions import Hold, Pointer, State
from orthanc_host.machine import Failed, Machine
from orthanc_host.proof import Prober, certificate_days

DONE, FAILED, WRONG, BUSY = 0, 1, 2, 75
PULLER = "/usr/local/sbin/orthanc-pull"
RELEASES = Path("/opt/orthanc/releases")
_LOCK = store.RUN / "lock"
_CURRENT = store.RUN / "current.json"  # what this host runs, for whoever looks
_PATIENCE = 120  # seconds that a person's command waits for the run that is at work


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="orthanc-host", description="Look after the imaging service on this host.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("status", help="what runs, since when, whether it is proven, certificates, disk, last errors")
    logs = commands.add_parser("logs", help="what the containers and the agent logged last")
    logs.add_argument("service", nargs="?", choices=("orthanc", "nginx", "agent"), help="only this one")
    logs.add_argument("--lines", type=int, default=100, metavar="N", help="how many of each (100)")
    commands.add_parser("converge", help="take the newest release now, and prove it")
    revoke = commands.add_parser("revoke-now", help="end what struck modalities still have open; AET: refuse that modality at once")
    revoke.add_argument("aet", nargs="?", metavar="AET", help="this modality is refused until the next release decides")
    rollback = commands.add_parser("rollback", help="run the release that was proven before, and stay with it")
    rollback.add_argument("--hold", required=True, metavar="REASON", help="why; kept until the next release is pointed to")
    asked = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print(f"orthanc-host: only root may do this: sudo orthanc-host {' '.join(arguments)}", file=sys.stderr)
        return WRONG
    work: dict[str, Callable[[argparse.Namespace], int]] = {
        "status": lambda _: status(Machine()),
        "logs": lambda a: show_logs(a.service, a.lines),
        "converge": lambda _: converge(Machine()),
        "revoke-now": lambda a: revoke_now(a.aet),
        "rollback": lambda a: roll_back(a.hold),
    }
    try:
        return work[asked.command](asked)
    except (Failed, ConfigurationError) as error:
        print(f"orthanc-host {asked.command}: {error}", file=sys.stderr)
        return FAILED


# -- the agent -------------------------------------------------------------------------------------------------------------


def converge(machine: Machine) -> int:
    """Run by the puller, which says by the environment what is wanted; run by a person, it runs the puller."""
    if "ORTHANC_RELEASE" not in os.environ:
        return _pull()
    lock = _lock(0)
    if lock is None:
        print("another run is at work")
        return BUSY
    folder = Path(__file__).resolve().parent.parent
    release = Pointer.parse(json.loads(os.environ["ORTHANC_RELEASE"]))
    wanted = Pointer.parse(json.loads(os.environ["ORTHANC_WANTED"]))
    try:
        configuration = configuration_of(machine, folder)
    except ConfigurationError as error:
        print(error, flush=True)
        state = store.load(machine)
        store.save(machine, replace(state, refused={**state.refused, release.sha256: str(error).replace("\n", "; ")}))
        return REFUSED
    machine.write(_CURRENT, json.dumps({"release": vars(release), "wanted": vars(wanted)}))
    machine.link(RELEASES.parent / "current", folder)
    not_taken = os.environ.get("ORTHANC_NOT_TAKEN", "")
    return Agent(machine, configuration, folder, release=release, wanted=wanted, not_taken=not_taken).run()


def _pull() -> int:
    """Have the puller run, after the one that may be at work."""
    end = time.monotonic() + _PATIENCE
    while True:
        code = subprocess.call([PULLER])
        if code != BUSY or time.monotonic() > end:
            return code
        time.sleep(2)


def _lock(patience: float) -> TextIO | None:
    """The one lock of this host; None when another holds it for longer. It is given back when the file is closed."""
    _LOCK.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = _LOCK.open("w")
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                file.close()
                return None
            time.sleep(0.5)
        else:
            return file


def configuration_of(machine: Machine, folder: Path) -> Configuration:
    text = machine.read(folder / "host.json")
    if text is None:
        raise ConfigurationError(f"{folder / 'host.json'} can't be read")
    return validated(merged(json.loads(text)))


# -- for people ------------------------------------------------------------------------------------------------------------


def current(machine: Machine) -> Pointer:
    told = machine.read(_CURRENT)
    if told is None:
        raise Failed("no release has been run here since the host started; 'journalctl -u orthanc-converge' says why")
    return Pointer.parse(json.loads(told)["release"])


def status(machine: Machine) -> int:
    state = store.load(machine)
    release = current(machine)
    wanted = Pointer.parse(json.loads(machine.read(_CURRENT) or "{}")["wanted"])
    folder = RELEASES / release.sha256
    configuration = configuration_of(machine, folder)
    found = Prober(machine, configuration).findings()
    health = Containers(machine, folder / "compose.yaml", configuration.up_seconds).health()
    for line in report(state, release, wanted, machine.now()):
        print(line)
    print(f"proof:        {'good, just now' if not found.failed else 'FAILED: ' + '; '.join(found.failed)}")
    if found.database:
        print(f"database:     {found.database}")
    print(f"containers:   {', '.join(f'{name} {what}' for name, what in sorted(health.items())) or 'none'}")
    days = certificate_days(configuration, machine.now())
    print("certificates: days left")
    for name in sorted(days, key=lambda n: days[n]):
        print(f"              {days[name]:5} {name}{'  DUE' if days[name] < 45 else ''}")
    print(f"disk:         {found.free_bytes >> 20} MB free")
    if found.stored_bytes is not None:
        print(f"archive:      {found.stored_bytes / 1e9:.1f} GB of images")
    for at, why in state.errors:
        print(f"error:        {_when(at)} {why}")
    return DONE if not found.failed else UNPROVEN


def report(state: State, release: Pointer, wanted: Pointer, now: float) -> Iterable[str]:
    """The part of the status that is remembered."""
    proven = state.proven is not None and state.proven.sha256 == release.sha256
    yield f"release:      {release.sha256[:12]}, {f'proven {_when(state.proven_since)}' if proven else 'never proven'}"
    if state.hold is not None:
        yield f"HELD:         {state.hold.reason} (until another release than {state.hold.against[:12]} is pointed to)"
    elif wanted.sha256 != release.sha256:
        yield f"NOT TAKEN:    {wanted.sha256[:12]}, which is pointed to: {state.refused.get(wanted.sha256, 'it could not be fetched')}"
    for aet in sorted(state.revoked):
        yield f"REVOKED:      {aet}, refused by hand until the next release"
    if state.failures:
        yield f"failing:      for {state.failures} runs{', the stack was restarted' if state.restarted else ''}"
    if state.told:
        minutes = max(0, now - state.told_at) / 60
        yield f"told AWS:     {json.loads(state.told)['status']}, {_when(state.told_at)} ({minutes:.0f} minutes ago)"


def show_logs(service: str | None, lines: int) -> int:
    if service in (None, "agent"):
        subprocess.call(["journalctl", "--unit", "orthanc-converge", "--no-pager", "--output", "short-iso", "--lines", str(lines)])
    if service != "agent":
        folder = RELEASES / current(Machine()).sha256
        command = ["docker", "compose", "--file", str(folder / "compose.yaml"), "logs", "--no-color", "--tail", str(lines)]
        subprocess.call([*command, *([service] if service else [])])
    return DONE


def revoke_now(aet: str | None) -> int:
    """Let what was struck end now, not when its association ends; with an AE title, strike that one here and now."""
    machine = Machine()
    if aet is not None:
        release = current(machine)
        allowed = files.revocable(machine.read(RELEASES / release.sha256 / "nginx/nginx.conf") or "")
        if aet not in allowed:
            print(f"orthanc-host revoke-now: {aet} is not enrolled; enrolled are {', '.join(allowed) or 'none'}", file=sys.stderr)
            return WRONG
        wanted = json.loads(machine.read(_CURRENT) or "{}")["wanted"]["sha256"]
        if not _change(lambda state: replace(state, revoked={**state.revoked, aet: wanted})):
            return BUSY
    code = _pull()
    release = current(machine)
    folder = RELEASES / release.sha256
    ended = Containers(machine, folder / "compose.yaml", configuration_of(machine, folder).up_seconds).end_old_associations()
    print(f"ended the associations that began under an earlier configuration ({ended} old worker{'' if ended == 1 else 's'} of nginx)")
    if aet is not None:
        print(f"{aet} is refused from now on. Strike it in the stack's settings too: the next release decides anew.")
    return code


def roll_back(reason: str) -> int:
    machine = Machine()
    state = store.load(machine)
    release = current(machine)
    before = next((p for p in (state.proven, *state.earlier) if p is not None and p.sha256 != release.sha256), None)
    if before is None:
        print("orthanc-host rollback: no other release was proven on this host; move the pointer with pulumi up instead", file=sys.stderr)
        return WRONG
    against = json.loads(machine.read(_CURRENT) or "{}")["wanted"]["sha256"]
    if not _change(lambda now: replace(now, hold=Hold(against, before, reason))):
        return BUSY
    print(f"going back to {before.sha256[:12]}, and staying there until another release than {against[:12]} is pointed to")
    return _pull()


def _change(how: Callable[[State], State]) -> bool:
    """Change what the agent remembers, while no run is at work."""
    lock = _lock(_PATIENCE)
    if lock is None:
        print(f"orthanc-host: a run of the agent has been at work for {_PATIENCE} s; try again", file=sys.stderr)
        return False
    with lock:
        machine = Machine()
        store.save(machine, how(store.load(machine)))
    return True


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
