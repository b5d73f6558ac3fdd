"""Break every line that keeps somebody out, one at a time, and see whether a test notices.

Ends with 1 when a mutant survives without an explanation (table.py), or when a line of that table fits nothing any more.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.mutation.judging import SECONDS, Court, court, judges
from tests.mutation.mutants import Mutant, files, mutants
from tests.mutation.table import EXPLAINED, NO_MATTER


def fitting(mutant: Mutant, table: Sequence[tuple[str, str]]) -> list[str]:
    """The patterns of `table` that fit."""
    return [pattern for pattern, _ in table if re.search(pattern, mutant.name)]


def tried() -> list[Mutant]:
    return [mutant for path in files() for mutant in mutants(path) if not fitting(mutant, NO_MATTER)]


def _sound(room: Court, paths: Sequence[str]) -> bool:
    """Whether the judges pass while nothing is wrong. It also leaves their bytecode behind, for the runs to come."""
    tests = sorted({test for path in paths for asked in judges(path) for test in asked})
    if not room.passes(tests):
        print(f"without any mutant, these fail already: {' '.join(tests)}\n{room.last_words()}")
        return False
    room.warm_up()
    return True


def _tally(chosen: Sequence[Mutant], explained: Sequence[Mutant], survivors: Sequence[Mutant]) -> str:
    noticed = len(chosen) - len(explained) - len(survivors)
    return f"{len(chosen)} mutants, {noticed} noticed, {len(explained)} explained, {len(survivors)} survive"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    made.add_argument("--list", action="store_true", help="list the mutants, and try none")
    made.add_argument("--only", metavar="TEXT", nargs="+", default=[""], help="those whose file or change contains a TEXT")
    made.add_argument("--quick", action="store_true", help="ask the closest tests alone: others may notice what then survives")
    return made


def main() -> int:
    asked = parser().parse_args()
    everything = tried()
    chosen = [mutant for mutant in everything if any(text in str(mutant) for text in asked.only)]
    if asked.list:
        print(*chosen, sep="\n")
        print(f"{len(chosen)} mutants: {', '.join(f'{path} {n}' for path, n in Counter(m.path for m in chosen).items())}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that scratch folder and tests in progress end with it
    began = time.monotonic()
    explained: list[Mutant] = []
    survivors: list[Mutant] = []
    with court() as room:
        if not _sound(room, [mutant.path for mutant in chosen]):
            return 1
        for number, mutant in enumerate(chosen, 1):
            if room.noticed(mutant, quickly=asked.quick):
                if room.gave_up:  # an endless loop, or a machine that is busy otherwise
                    print(f"[{number}/{len(chosen)}] noticed, because no test ended in {SECONDS} s: {mutant}", flush=True)
                continue
            known = bool(fitting(mutant, EXPLAINED))
            (explained if known else survivors).append(mutant)
            print(f"[{number}/{len(chosen)}] {'survives, as explained' if known else 'SURVIVES'}: {mutant}", flush=True)
    used = {pattern for mutant in explained for pattern in fitting(mutant, EXPLAINED)}
    stale = [p for p, _ in EXPLAINED if p not in used] if len(chosen) == len(everything) else []
    for pattern in stale:
        print(f"explains nothing that survives: {pattern}")
    for path in dict.fromkeys(mutant.path for mutant in chosen):
        print(f"{path}: {_tally(*([mutant for mutant in those if mutant.path == path] for those in (chosen, explained, survivors)))}")
    print(f"{_tally(chosen, explained, survivors)}, in {time.monotonic() - began:.0f} s")
    return 1 if survivors or stale else 0


if __name__ == "__main__":
    sys.exit(main())
