"""What is given to `make` as VARIABLE=value reaches a command as an option: what is wrong with it is said of the variable."""

from __future__ import annotations

from collections.abc import Callable

from laptop.tell import Trouble


def number(variable: str, example: int) -> Callable[[str], int]:
    """A `type` for argparse, which lets a Trouble through where it would wrap a ValueError into its usage."""

    def read(said: str) -> int:
        try:
            return int(said)
        except ValueError:
            raise Trouble(f"{variable}={said} is no whole number. Give one, like {variable}={example}.") from None

    return read
