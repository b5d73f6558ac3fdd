"""Plain text for people: rows of name and value, and paragraphs, wrapped for a printed page."""

from __future__ import annotations

import textwrap
from typing import Final

WIDTH: Final = 100


def rows(*rows: tuple[str, str]) -> list[str]:
    return [line for name, text in rows for line in wrapped(text, first=f"  {name:22}", indent=" " * 24)]


def wrapped(text: str, *, first: str | None = None, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
