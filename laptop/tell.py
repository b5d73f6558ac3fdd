"""How the laptop's commands speak: what they are doing, and one clear error that says what to do."""

from __future__ import annotations

import sys

from pydantic import ValidationError
from pydantic_core import ErrorDetails


class Trouble(Exception):  # noqa: N818 - it is what users read, not a fault of the program
    """Something the user can mend: what went wrong, why, and what to do, in one line.

    What programs said about it at length goes along as a note, and is shown before that line.
    """


def failed(what: str, said: str, remedy: str = "Mend that, and run the same command again.") -> Trouble:
    """A Trouble whose reason is what a program said last: apt's and debootstrap's errors ("E: ..."), or else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    reason = next((line for line in reversed(lines) if line.startswith("E: ")), lines[-1])
    trouble = Trouble(f"{what} ({reason.rstrip('.')}). {remedy}")
    if len(lines) > 1:
        trouble.add_note("\n".join(lines)[-2000:])
    return trouble


def step(text: str) -> None:
    """A new part of the work begins."""
    sys.stdout.write(f"\n==> {text}\n")
    sys.stdout.flush()


def detail(text: str) -> None:
    sys.stdout.write(f"    {text}\n")
    sys.stdout.flush()


def complaints(error: ValidationError) -> str:
    """What pydantic found wrong, each with the setting's name, in one line."""

    def one(found: ErrorDetails) -> str:
        where = ".".join(map(str, found["loc"]))
        return f"{where}: {found['msg']}".removeprefix(": ").replace("Value error, ", "")

    return "; ".join(map(one, error.errors(include_url=False, include_input=False)))
