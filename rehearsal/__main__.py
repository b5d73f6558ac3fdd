"""The whole life of a stack and its host, with the real Pulumi engine against an emulated AWS on this machine."""
# ruff: noqa: T201 - it talks to a person

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from laptop.tell import Trouble
from rehearsal import cloud, laboratory, service, steps
from rehearsal.cloud import Cloud
from rehearsal.laboratory import Laboratory, RehearsalError
from rehearsal.scene import Scene

ACTS = {
    "service": "from an empty account to a stored study, and what may happen to a host after that",
    "stack": "what Pulumi makes, changes and takes away, in two stacks of one account",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.add_argument(
        "act", nargs="*", metavar="ACT", help="; ".join(f"{name}: {what}" for name, what in ACTS.items()) + "; without one, both"
    )
    acts = parser.parse_args().act or list(ACTS)
    if unknown := set(acts) - set(ACTS):
        parser.error(f"no such act: {', '.join(sorted(unknown))}; there are {', '.join(ACTS)}")
    if lacking := laboratory.missing():
        print(f"rehearsal: missing: {', '.join(lacking)}. docs/aws.md, Rehearsal, says where they come from.", file=sys.stderr)
        return 2
    if "service" in acts and (lacking := cloud.missing()):
        print(
            f"rehearsal: for hosts this machine lacks: {', '.join(lacking)}. 'make rehearse' installs what can be installed.",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing of it stays behind then either
    begun = time.monotonic()
    try:
        for act in acts:
            print(f"\n{act.capitalize()}: {ACTS[act]}\n", flush=True)
            play(act)
    except (RehearsalError, Trouble) as error:
        print(*getattr(error, "__notes__", ()), f"rehearsal: {error}", sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrehearsal: stopped; nothing of it is left.", file=sys.stderr)
        return 130
    print(f"\nAll of it in {(time.monotonic() - begun) / 60:.0f} minutes; nothing of it is left.")
    return 0


def play(act: str) -> None:
    if act == "service":
        with Laboratory() as lab, Cloud(lab) as around:
            _play(service.STEPS, Scene(lab, around))
    else:
        with Laboratory() as lab:
            _play(steps.STEPS, lab)


def _play(todo: Sequence[Callable[[Any], str]], on: object) -> None:
    for number, step in enumerate(todo, start=1):
        title = f"[{number:2}/{len(todo)}] {(step.__doc__ or '').strip().rstrip('.')}"
        with _clock(title) as begun:
            found = step(on)
        print(f"        {found}  ({time.monotonic() - begun:.0f} s)", flush=True)


@contextmanager
def _clock(title: str) -> Iterator[float]:
    """Show the step that is at work, on a terminal with the seconds that it has taken so far."""
    begun = time.monotonic()
    if not sys.stdout.isatty():
        print(f"{title} ...", flush=True)
        yield begun
        return
    over = threading.Event()

    def tick() -> None:
        while True:
            print(f"\r{title} ... {time.monotonic() - begun:.0f} s", end="", flush=True)
            if over.wait(1):
                return

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield begun
    finally:
        over.set()
        ticking.join()
        print(f"\r{title}\033[K", flush=True)


if __name__ == "__main__":
    sys.exit(main())
