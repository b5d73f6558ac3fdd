"""What the host's words mean for whoever has just run `make up`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from operations.proven import PATIENCE_SECONDS, POLL_SECONDS, verdict, watch

NEW, OLD = "b" * 64, "a" * 64


@pytest.mark.parametrize(
    ("told", "proven", "final", "text"),
    [
        ({}, False, False, "has not taken"),
        ({"status": "proven", "release": OLD, "wanted": OLD}, False, False, "has not taken"),
        ({"status": "proven", "release": NEW, "wanted": NEW, "host": "i-7"}, True, True, "proven by i-7"),
        ({"status": "failed", "release": NEW, "reason": "HTTPS: 503"}, False, False, "failed: HTTPS: 503"),
        ({"status": "waiting", "release": NEW, "reason": "no database"}, False, False, "waiting: no database"),
        ({"status": "refused", "release": NEW, "refused": {NEW: "it crashed"}}, False, True, "refused the release: it crashed"),
        ({"status": "proven", "release": OLD, "refused": {NEW: "it crashed"}}, False, True, "it crashed; aaaaaaaaaaaa serves on"),
        ({"status": "proven", "release": OLD, "wanted": NEW, "hold": "vendor is here"}, False, True, "held on an earlier release: vendor"),
        ({"status": "proven", "release": OLD, "not_taken": f"release {NEW[:12]} was not taken: checksum"}, False, False, "checksum"),
    ],
)
def test_verdicts(told: dict[str, Any], proven: bool, final: bool, text: str) -> None:
    found = verdict(told, NEW)
    assert (found.proven, found.final) == (proven, final)
    assert text in found.text


def test_it_says_each_thing_once_and_ends_with_the_last_word() -> None:
    answers = iter([{}, {}, {"status": "failed", "release": NEW, "reason": "starting"}, {"status": "proven", "release": NEW}])
    said = list(watch(lambda: json.dumps(next(answers)), NEW, sleep=lambda _: None))
    assert [v.text for v in said] == ["the host has not taken the release yet", "failed: starting", "proven by the host"]


def test_its_patience_ends() -> None:
    def passing() -> Iterator[float]:
        at = 0.0
        while True:
            yield at
            at += POLL_SECONDS

    clock = passing()
    said = list(watch(lambda: "{}", NEW, clock=lambda: next(clock), sleep=lambda _: None))
    assert not said[-1].final
    assert next(clock) > PATIENCE_SECONDS
