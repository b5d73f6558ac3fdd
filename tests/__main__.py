"""All tests, `make test`: the engine's beside the others, because for most of their minutes they wait for the provider's own pauses."""

from __future__ import annotations

import subprocess
import sys
from tempfile import TemporaryFile
from typing import Final

_PYTEST: Final = (sys.executable, "-m", "pytest")
_ENGINE: Final = "tests/engine"


def main() -> int:
    """The first exit code that is not 0. What the engine's tests say is shown when all have ended."""
    with TemporaryFile() as said:
        with subprocess.Popen([*_PYTEST, _ENGINE], stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as engine:
            try:
                others = subprocess.run([*_PYTEST, f"--ignore={_ENGINE}"], check=False).returncode
            finally:  # Ctrl-C reaches both, and each cleans up
                engine.wait()
        said.seek(0)
        sys.stdout.write(f"\n{_ENGINE}, beside the others:\n")
        sys.stdout.flush()
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    return others or engine.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
