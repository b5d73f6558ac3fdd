"""What is not tried, and what is known to survive: each a pattern that is looked for in `file: change`, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Lines that keep nobody out and tell nothing.
NO_MATTER: Final[Sequence[tuple[str, str]]] = ()

# Tried, and noticed by no fast test.
EXPLAINED: Final[Sequence[tuple[str, str]]] = ()
