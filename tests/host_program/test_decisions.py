"""The agent's decisions as tables: what it remembers and sees, and what it does then. No clock, disk or network."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from orthanc_host.decisions import (
    APPLY,
    ASK_HISTORY,
    GIVE_UP_AFTER,
    PROVE,
    RELEASE_TRIES,
    REMEMBERED_RELEASES,
    REPLACEMENTS,
    RESTART_AFTER,
    TELL_AGAIN_SECONDS,
    Action,
    Hold,
    Pointer,
    Proof,
    Seen,
    State,
    forget_what_moved_on,
    step,
)


def release(letter: str) -> Pointer:
    return Pointer("bucket", "release.tar.gz", f"version-{letter}", letter * 64)


A, B = release("a"), release("b")
GOOD, BAD = Proof(), Proof(("HTTPS: refused",))
SICK_DATABASE = Proof(("HTTPS: 503",), "the database is not there: it is starting up")
AT = 1_000_000.0


def seen(proof: Proof | None = GOOD, *, of: Pointer = A, wanted: Pointer | None = None, **more: object) -> Seen:
    known = {"instance": "i-1", "wanted_by_group": True, "has_address": True, **more}
    return Seen(now=AT, release=of, wanted=wanted or of, proof=proof, **known)  # type: ignore[arg-type]  # a table of tests


def kinds(actions: list[Action]) -> list[str]:
    return [f"end: {a.detail}" if a.kind == "end" else a.kind for a in actions]


def settled(state: State) -> State:
    """The same state, to which the runner has added that everything was told."""
    after, actions = step(state, seen())
    (body,) = [a.detail for a in actions if a.kind == "write-proven"]
    return replace(after, told=body, told_at=AT, hook_completed="i-1")


SETTLED = settled(State())


@pytest.mark.parametrize(
    ("state", "saw", "then"),
    [
        pytest.param(State(), seen(None), ["apply", "prove"], id="a run begins by applying and proving"),
        pytest.param(State(), seen(), ["write-proven", "emit", "complete-hook", "end: proven"], id="the first proof of a host"),
        pytest.param(
            State(),
            seen(has_address=False),
            ["take-address", "write-proven", "emit", "complete-hook", "end: proven"],
            id="the address is taken before anybody is told",
        ),
        pytest.param(
            State(),
            seen(has_address=False, wanted_by_group=False),
            ["write-proven", "emit", "complete-hook", "end: proven"],
            id="a host that the group does not want leaves the address where it is",
        ),
        pytest.param(SETTLED, seen(), ["emit", "end: proven"], id="nothing new: metrics and a line, no more"),
        pytest.param(
            replace(SETTLED, told_at=AT - TELL_AGAIN_SECONDS - 1),
            seen(),
            ["write-proven", "emit", "end: proven"],
            id="told again each hour",
        ),
        pytest.param(replace(SETTLED, told_at=AT + 9), seen(), ["write-proven", "emit", "end: proven"], id="a clock that was set back"),
        pytest.param(
            SETTLED, seen(instance="i-2"), ["write-proven", "emit", "complete-hook", "end: proven"], id="a copy of the disk is another host"
        ),
        pytest.param(SETTLED, seen(SICK_DATABASE), ["write-proven", "emit", "end: waiting"], id="a sick database is waited for"),
        pytest.param(
            replace(SETTLED, failures=99, restarted=True), seen(SICK_DATABASE), ["write-proven", "emit", "end: waiting"], id="however long"
        ),
        pytest.param(SETTLED, seen(SICK_DATABASE, of=B), ["write-proven", "emit", "end: waiting"], id="and no release is blamed for it"),
        pytest.param(SETTLED, seen(BAD, of=B), ["wait", "apply", "prove"], id="a new release gets another try"),
        pytest.param(
            replace(SETTLED, tries=RELEASE_TRIES - 1), seen(BAD, of=B), ["write-proven", "emit", "end: refused"], id="but not for ever"
        ),
        pytest.param(State(), seen(BAD), ["write-proven", "emit", "end: failed"], id="without a proven one there is nothing to go back to"),
        pytest.param(
            replace(SETTLED, failures=RESTART_AFTER - 1),
            seen(BAD),
            ["write-proven", "emit", "restart-stack", "end: failed"],
            id="a restart",
        ),
        pytest.param(
            replace(SETTLED, failures=RESTART_AFTER, restarted=True), seen(BAD), ["write-proven", "emit", "end: failed"], id="only once"
        ),
        pytest.param(replace(SETTLED, failures=GIVE_UP_AFTER - 1, restarted=True), seen(BAD), ["ask-history"], id="before giving up"),
        pytest.param(
            replace(SETTLED, failures=GIVE_UP_AFTER, restarted=True),
            seen(BAD, replacements=0),
            ["write-proven", "emit", "give-up", "end: failed"],
            id="giving up",
        ),
        pytest.param(
            replace(SETTLED, failures=GIVE_UP_AFTER, restarted=True),
            seen(BAD, replacements=REPLACEMENTS),
            ["write-proven", "emit", "end: failed"],
            id="not a third time in six hours",
        ),
        pytest.param(
            replace(SETTLED, failures=GIVE_UP_AFTER, restarted=True),
            seen(BAD, wanted_by_group=False),
            ["write-proven", "emit", "end: failed"],
            id="a host on its way out asks for nothing",
        ),
        pytest.param(
            State(failures=99, restarted=True),
            seen(BAD),
            ["write-proven", "emit", "end: failed"],
            id="never proven: another host is no cure",
        ),
    ],
)
def test_what_is_done(state: State, saw: Seen, then: list[str]) -> None:
    assert kinds(step(state, saw)[1]) == then


def told(state: State, saw: Seen) -> dict[str, object]:
    (body,) = [a.detail for a in step(state, saw)[1] if a.kind == "write-proven"]
    found: dict[str, object] = json.loads(body)
    return found


@pytest.mark.parametrize(
    ("state", "saw", "says"),
    [
        pytest.param(State(), seen(), {"status": "proven", "release": A.sha256, "host": "i-1", "last": vars(A)}, id="the good case"),
        pytest.param(State(), seen(BAD), {"status": "failed", "reason": "HTTPS: refused", "last": None}, id="why not"),
        pytest.param(
            replace(SETTLED, tries=RELEASE_TRIES - 1),
            seen(BAD, of=B),
            {"status": "refused", "release": B.sha256, "refused": {B.sha256: "HTTPS: refused"}, "last": vars(A)},
            id="a refused release names the proven one for the next host",
        ),
        pytest.param(
            replace(SETTLED, refused={B.sha256: "HTTPS: refused"}),
            seen(of=A, wanted=B),
            {"status": "proven", "release": A.sha256, "wanted": B.sha256, "refused": {B.sha256: "HTTPS: refused"}},
            id="back on the old release, the failure stays visible",
        ),
        pytest.param(
            replace(SETTLED, refused={B.sha256: "old"}),
            seen(of=A, not_taken="checksum"),
            {"refused": {}, "not_taken": "checksum"},
            id="else",
        ),
        pytest.param(
            replace(SETTLED, hold=Hold(B.sha256, A, "scanner trouble")), seen(of=A, wanted=B), {"hold": "scanner trouble"}, id="a hold"
        ),
        pytest.param(SETTLED, seen(SICK_DATABASE), {"status": "waiting", "reason": SICK_DATABASE.outside}, id="what is waited for"),
    ],
)
def test_what_is_told(state: State, saw: Seen, says: dict[str, object]) -> None:
    said = told(state, saw)
    assert {key: said.get(key) for key in says} == says


def test_what_is_told_fits_into_a_parameter() -> None:
    bad = Proof(("x" * 5000,))
    state = replace(SETTLED, tries=RELEASE_TRIES - 1, hold=Hold(B.sha256, A, "y" * 5000))
    body = json.dumps(told(state, seen(bad, of=B, not_taken="z" * 5000)))
    assert len(body) <= 4096


def test_a_bad_release_is_tried_three_times_then_never_again_by_this_host() -> None:
    state, tried = SETTLED, 0
    actions = [APPLY, PROVE]
    while actions[-1] == PROVE:
        tried += 1
        state, actions = step(state, seen(BAD, of=B))
    assert tried == RELEASE_TRIES
    assert state.refused == {B.sha256: "HTTPS: refused"}
    assert state.proven == A, "the release to go back to"
    assert state.failures == 0, "the host is not to blame"


def test_a_minute_of_failure_counts_once_though_the_history_is_asked() -> None:
    state = replace(SETTLED, failures=GIVE_UP_AFTER - 1, restarted=True)
    state, actions = step(state, seen(BAD))
    assert actions == [ASK_HISTORY]
    state, actions = step(state, seen(BAD, replacements=0))
    assert state.failures == GIVE_UP_AFTER
    assert Action("give-up", "HTTPS: refused") in actions


def test_a_good_proof_ends_a_row_of_failures() -> None:
    state, _ = step(replace(SETTLED, failures=5, restarted=True, tries=1), seen())
    assert (state.failures, state.restarted, state.tries) == (0, False, 0)


def test_from_sound_to_replaced_in_six_runs_with_one_restart() -> None:
    state, did = SETTLED, []
    for _ in range(GIVE_UP_AFTER):
        state, actions = step(state, seen(BAD))
        if actions == [ASK_HISTORY]:
            state, actions = step(state, seen(BAD, replacements=0))
        did += [a.kind for a in actions if a.kind in ("restart-stack", "give-up")]
    assert did == ["restart-stack", "give-up"]


def test_the_releases_to_go_back_to_are_the_last_ones_and_each_once() -> None:
    state = State()
    for letter in "abcdefg" + "a":
        state, _ = step(state, seen(of=release(letter)))
    assert state.proven == release("a")
    assert [p.sha256[0] for p in state.earlier] == list("gfedc")
    assert len(state.earlier) == REMEMBERED_RELEASES


def test_another_pointer_ends_hold_and_revocations() -> None:
    state = State(hold=Hold(B.sha256, A, "why"), revoked={"CT1": B.sha256, "MR1": A.sha256})
    assert forget_what_moved_on(state, B) == replace(state, revoked={"CT1": B.sha256})
    assert forget_what_moved_on(state, A) == replace(state, hold=None, revoked={"MR1": A.sha256})
