"""Waiting until a stack's host says that a release is proven, or why it is not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A host polls every minute; a release with new images, or a first boot, takes a few more.
PATIENCE_SECONDS = 20 * 60
POLL_SECONDS = 3


@dataclass(frozen=True)
class Verdict:
    """What became of a release. `final`: it will not change by waiting."""

    proven: bool
    final: bool
    text: str


def verdict(told: Mapping[str, Any], release: str) -> Verdict:
    """What `told`, the host's parameter `proven`, means for this release."""
    reason = told.get("refused", {}).get(release)
    back = f"; {told['release'][:12]} serves on" if told.get("status") == "proven" and told.get("release") != release else ""
    if reason:
        return Verdict(proven=False, final=True, text=f"the host refused the release: {reason}{back}")
    if told.get("hold") and told.get("wanted") == release and told.get("release") != release:
        return Verdict(proven=False, final=True, text=f"the host is held on an earlier release: {told['hold']}")
    if told.get("release") == release and told.get("status") == "proven":
        return Verdict(proven=True, final=True, text=f"proven by {told.get('host', 'the host')}")
    if told.get("release") == release:
        return Verdict(proven=False, final=False, text=f"{told.get('status', 'nothing')}: {told.get('reason', 'no reason given')}")
    if told.get("not_taken") and release[:12] in told["not_taken"]:
        return Verdict(proven=False, final=False, text=f"{told['not_taken']}{back}")
    return Verdict(proven=False, final=False, text="the host has not taken the release yet")


def watch(
    ask: Callable[[], str],
    release: str,
    *,
    patience: float = PATIENCE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Verdict]:
    """Each new verdict about `release`, until one is final or the patience is at its end. `ask` returns the parameter's text."""
    end = clock() + patience
    said = None
    while True:
        now = verdict(json.loads(ask()), release)
        if now != said:
            yield now
            said = now
        if now.final or clock() > end:
            return
        sleep(POLL_SECONDS)
