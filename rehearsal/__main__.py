# ruff: noqa: T201 - it talks to a person
"""Show a person the stack's whole life, step by step, and how long each took."""

from __future__ import annotations

import signal
import sys
import time

from rehearsal.laboratory import Laboratory, RehearsalError, missing
from rehearsal.steps import STEPS


def main() -> int:
    if lacking := missing():
        print(f"rehearsal: not on PATH: {', '.join(lacking)}. docs/aws.md, Rehearsal, says where they come from.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing of it stays behind then either
    begun = time.monotonic()
    try:
        with Laboratory() as lab:
            for number, step in enumerate(STEPS, start=1):
                print(f"[{number:2}/{len(STEPS)}] {(step.__doc__ or '').rstrip('.')} ...", flush=True)
                start = time.monotonic()
                found = step(lab)
                print(f"        {found}  ({time.monotonic() - start:.0f} s)", flush=True)
    except RehearsalError as error:
        print(f"rehearsal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rehearsal: stopped; nothing of it is left.", file=sys.stderr)
        return 130
    print(f"From an empty account to two stacks and back in {(time.monotonic() - begun) / 60:.0f} minutes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
