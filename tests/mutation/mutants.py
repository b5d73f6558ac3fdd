"""Mutants, derived from the files as they are: a new line has its mutants from its first day.

Templates are changed line by line (lines.py), Python by its syntax tree (syntax.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.mutation import lines, syntax

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ("__main__.py", "config_templates/**/*", "infra/*.py", "policy/*.py")


@dataclass(frozen=True)
class Mutant:
    path: str
    line: int
    what: str
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        """By what the tables know it: no line number, so that it survives edits elsewhere."""
        return f"{self.path}: {self.what}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def files() -> Iterator[str]:
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


def mutants(path: str) -> Iterator[Mutant]:
    text = (ROOT / path).read_text(encoding="utf-8")
    seen = {text}
    for line, what, mutated in syntax.changes(text) if path.endswith(".py") else lines.changes(text, script=path.endswith(".js")):
        if mutated not in seen:
            seen.add(mutated)
            yield Mutant(path, line, what, mutated)
