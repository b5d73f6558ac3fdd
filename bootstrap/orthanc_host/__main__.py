"""orthanc-host: what an operator runs on the host, and the agent that the puller runs every minute (converge)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orthanc_host.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
