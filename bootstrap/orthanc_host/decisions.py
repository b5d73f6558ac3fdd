"""What to do next, as a pure function: `step(state, seen) -> (state, actions)`. No clock, no disk, no network.

One run of the agent asks `step` again and again, each time with what the actions before have shown:
nothing tried yet -> apply and prove; proven -> tell; not proven -> once more, wait, go back, restart the stack or give the host up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

RELEASE_TRIES = 3  # proofs of a release that was never proven, before the one before is taken again
TRY_AGAIN_SECONDS = (5, 15)  # between them
RESTART_AFTER = 3  # failed runs in a row (a minute each) until the stack is restarted, once
GIVE_UP_AFTER = 6  # and until the host asks to be replaced
REPLACEMENTS = 2  # so often within
REPLACEMENT_HOURS = 6  # hours, by the group's own history: a fault that new hosts share is not cured by more of them
TELL_AGAIN_SECONDS = 3600  # `proven` is written when something changed, and at least this often
REMEMBERED_RELEASES = 5
REASON_LENGTH = 600  # a Parameter Store value holds 4096 bytes


@dataclass(frozen=True)
class Pointer:
    """Where one release lies: a version of an object, and the checksum that names it."""

    bucket: str
    key: str
    version: str
    sha256: str

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Pointer:
        return cls(*(str(told[name]) for name in ("bucket", "key", "version", "sha256")))


@dataclass(frozen=True)
class Hold:
    """An operator's wish to stay with an older release until the pointer moves on from `against`."""

    against: str
    run: Pointer
    reason: str


@dataclass(frozen=True)
class State:
    """What outlives one run of the agent (state.json). The puller reads proven, refused, hold and writes refused."""

    proven: Pointer | None = None  # the release that was last proven: by this host, or by the one before it
    proven_since: float = 0.0
    earlier: tuple[Pointer, ...] = ()  # releases proven before that, the newest first
    refused: Mapping[str, str] = field(default_factory=dict)  # sha256 of a release that was given up -> why
    hold: Hold | None = None
    revoked: Mapping[str, str] = field(default_factory=dict)  # AE title refused by hand -> the pointer it was refused under
    tries: int = 0  # failed proofs of a release that was never proven
    failures: int = 0  # runs in a row that ended without a proof
    restarted: bool = False  # in this row of failures
    hook_completed: str = ""  # the instance whose launch hook was completed: a snapshot of the volume is another instance
    told: str = ""  # what `proven` says now
    told_at: float = 0.0
    errors: tuple[tuple[float, str], ...] = ()  # the last ones, the newest first


@dataclass(frozen=True)
class Proof:
    """What the checks found: nothing wrong when `failed` is empty."""

    failed: tuple[str, ...] = ()
    # A reason outside this host (the database, AWS): then it is waited for, and nothing is restarted or gone back from.
    outside: str = ""

    @property
    def good(self) -> bool:
        return not self.failed and not self.outside

    @property
    def why(self) -> str:
        return "; ".join(self.failed if not self.outside else (self.outside,))[:REASON_LENGTH]


@dataclass(frozen=True)
class Seen:
    """What the agent knows in this run. None means: not looked yet."""

    now: float
    instance: str
    release: Pointer  # whose agent this is
    wanted: Pointer  # what the parameter points to
    not_taken: str = ""  # why the wanted release could not even be fetched
    wanted_by_group: bool = False  # target-lifecycle-state is InService
    has_address: bool | None = None
    proof: Proof | None = None
    replacements: int | None = None  # hosts that gave up lately


@dataclass(frozen=True)
class Action:
    """Something for the runner to do; `detail` is its argument."""

    kind: str
    detail: str = ""


APPLY = Action("apply")
PROVE = Action("prove")
TAKE_ADDRESS = Action("take-address")
COMPLETE_HOOK = Action("complete-hook")
RESTART_STACK = Action("restart-stack")
ASK_HISTORY = Action("ask-history")


def step(state: State, seen: Seen) -> tuple[State, list[Action]]:
    """The next actions. The run is over when they end with `end`, whose detail is the outcome."""
    if seen.proof is None:
        return state, [APPLY, PROVE]
    if seen.proof.good:
        return _proven(state, seen)
    return _not_proven(state, seen)


def may_fall_back(state: State, seen: Seen) -> bool:
    """There is a proven release that is not the one that just failed."""
    return state.proven is not None and state.proven.sha256 != seen.release.sha256


def _proven(state: State, seen: Seen) -> tuple[State, list[Action]]:
    if state.proven is None or state.proven.sha256 != seen.release.sha256:
        before = () if state.proven is None else (state.proven,)
        rest = tuple(p for p in (*before, *state.earlier) if p.sha256 != seen.release.sha256)
        state = replace(state, proven=seen.release, proven_since=seen.now, earlier=rest[:REMEMBERED_RELEASES])
    # A fresh host knows from the one before it which release is proven, and not since when.
    state = replace(state, tries=0, failures=0, restarted=False, proven_since=state.proven_since or seen.now)
    actions = []
    if seen.wanted_by_group and seen.has_address is False:
        actions.append(TAKE_ADDRESS)
    told, actions_of_telling = _tell(state, seen, "proven", "")
    actions += actions_of_telling
    if told.hook_completed != seen.instance:
        actions.append(COMPLETE_HOOK)
    return told, [*actions, Action("end", "proven")]


def _not_proven(state: State, seen: Seen) -> tuple[State, list[Action]]:
    proof = seen.proof
    assert proof is not None  # noqa: S101 - step() has looked
    if proof.outside:
        # Restarting would not bring it back, and another host or release would meet the same.
        state, tell = _tell(_remember(state, seen, proof.why), seen, "waiting", proof.why)
        return state, [*tell, Action("end", "waiting")]
    if may_fall_back(state, seen):
        state = replace(state, tries=state.tries + 1)
        if state.tries < RELEASE_TRIES:
            return state, [Action("wait", str(TRY_AGAIN_SECONDS[min(state.tries, len(TRY_AGAIN_SECONDS)) - 1])), APPLY, PROVE]
        state = replace(_remember(state, seen, proof.why), tries=0, refused={**state.refused, seen.release.sha256: proof.why})
        state, tell = _tell(state, seen, "refused", proof.why)
        return state, [*tell, Action("end", "refused")]
    state = replace(_remember(state, seen, proof.why), failures=state.failures + 1) if seen.replacements is None else state
    actions: list[Action] = []
    why = proof.why
    if state.failures >= RESTART_AFTER and not state.restarted:
        state = replace(state, restarted=True)
        actions.append(RESTART_STACK)
        why = f"{why}; the stack was restarted"[:REASON_LENGTH]
    elif state.failures >= GIVE_UP_AFTER and state.proven is not None and seen.wanted_by_group:
        if seen.replacements is None:
            return state, [ASK_HISTORY]
        if seen.replacements < REPLACEMENTS:
            actions.append(Action("give-up", why))
            why = f"{why}; this host asked to be replaced"
        else:
            why = f"{why}; {seen.replacements} hosts gave up within {REPLACEMENT_HOURS} hours, so this one stays and tries on"
    state, tell = _tell(state, seen, "failed", why)
    return state, [*tell, *actions, Action("end", "failed")]


def _remember(state: State, seen: Seen, why: str) -> State:
    return replace(state, errors=((seen.now, why), *state.errors)[:5])


def told_now(state: State, seen: Seen, status: str, why: str) -> dict[str, Any]:
    """What `proven` shall say: for `make up`, for the next host (last, refused), and for whoever is on call."""
    told: dict[str, Any] = {
        "status": status,
        "release": seen.release.sha256,
        "wanted": seen.wanted.sha256,
        "host": seen.instance,
        "last": None if state.proven is None else vars(state.proven),
        # Only what is pointed to matters to the next host, and to whoever waits for it.
        "refused": {sha: reason for sha, reason in state.refused.items() if sha == seen.wanted.sha256},
    }
    if why:
        told["reason"] = why
    if seen.not_taken:
        told["not_taken"] = seen.not_taken[:REASON_LENGTH]
    if state.hold is not None and state.hold.against == seen.wanted.sha256:
        told["hold"] = state.hold.reason[:REASON_LENGTH]
    return told


def _tell(state: State, seen: Seen, status: str, why: str) -> tuple[State, list[Action]]:
    """Write `proven` when it would say something else, or is old; in any case one line to the log and the metrics."""
    body = _text(told_now(state, seen, status, why))
    actions = [Action("emit", status)]
    if body != state.told or seen.now - state.told_at > TELL_AGAIN_SECONDS or seen.now < state.told_at:
        actions.insert(0, Action("write-proven", body))
    return state, actions


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def forget_what_moved_on(state: State, wanted: Pointer) -> State:
    """The pointer is what ends a hold and what was revoked by hand: another release decides anew."""
    hold = state.hold if state.hold is not None and state.hold.against == wanted.sha256 else None
    revoked = {aet: against for aet, against in state.revoked.items() if against == wanted.sha256}
    return replace(state, hold=hold, revoked=revoked)
