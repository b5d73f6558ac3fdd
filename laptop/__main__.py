"""`python -m laptop COMMAND`; `make` calls it."""

from __future__ import annotations

import signal
import sys


def main(arguments: list[str] | None = None) -> int:
    try:
        from laptop.commands import obey  # noqa: PLC0415 - its libraries take half a second to load: Ctrl-C is one line then, too

        return obey(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to go on where it stopped\n")
        return 130


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal stops what was half-started, as Ctrl-C does
        signal.signal(ending, signal.default_int_handler)
    sys.exit(main())
