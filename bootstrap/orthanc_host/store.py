"""What the agent remembers between runs: state.json, in memory and on the disk.

The one on tmpfs counts while the host is up: a full disk must not make it forget. The one on the disk outlives a reboot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orthanc_host.decisions import Hold, Pointer, State
from orthanc_host.machine import Machine

RUN = Path("/run/orthanc-host")
DISK = Path("/var/lib/orthanc")
_STATE, _TAKEN = "state.json", "taken.json"


def load(machine: Machine) -> State:
    for folder in (RUN, DISK):
        text = machine.read(folder / _STATE)
        if text:
            try:
                return parse(json.loads(text))
            except (ValueError, KeyError, TypeError):
                continue  # half of it, or of another time: it can be learnt anew
    return State()


def save(machine: Machine, state: State) -> None:
    text = json.dumps(as_json(state), sort_keys=True)
    for folder in (RUN, DISK):
        try:
            machine.write(folder / _STATE, text)
        except OSError:
            continue


def parse(told: Mapping[str, Any]) -> State:
    hold = told.get("hold")
    return State(
        proven=_pointer(told.get("proven")),
        proven_since=float(told.get("proven_since", 0)),
        earlier=tuple(Pointer.parse(p) for p in told.get("earlier", ())),
        refused=dict(told.get("refused") or {}),
        hold=None if not hold else Hold(hold["against"], Pointer.parse(hold["run"]), hold["reason"]),
        revoked=dict(told.get("revoked") or {}),
        tries=int(told.get("tries", 0)),
        failures=int(told.get("failures", 0)),
        restarted=bool(told.get("restarted", False)),
        hook_completed=str(told.get("hook_completed", "")),
        told=str(told.get("told", "")),
        told_at=float(told.get("told_at", 0)),
        errors=tuple((float(at), str(why)) for at, why in told.get("errors", ())),
    )


def as_json(state: State) -> dict[str, Any]:
    told: dict[str, Any] = dict(vars(state))
    told["proven"] = None if state.proven is None else vars(state.proven)
    told["earlier"] = [vars(p) for p in state.earlier]
    told["hold"] = None if state.hold is None else {**vars(state.hold), "run": vars(state.hold.run)}
    return told


def _pointer(told: Mapping[str, Any] | None) -> Pointer | None:
    return Pointer.parse(told) if told else None


def taken(machine: Machine) -> dict[str, str]:
    """Digests of the files that the running containers have taken."""
    return dict(json.loads(machine.read(RUN / _TAKEN) or "{}"))


def take(machine: Machine, digests: Mapping[str, str]) -> None:
    machine.write(RUN / _TAKEN, json.dumps(digests, sort_keys=True))
