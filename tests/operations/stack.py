"""A stack that these commands find, as a pretended pulumi tells of it (conftest.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def say(folder: Path, outputs: Mapping[str, Any]) -> None:
    """From now on these are the stack's outputs."""
    (folder / "outputs.json").write_text(json.dumps(outputs))
