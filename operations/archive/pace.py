"""How fast it goes, and how long the rest will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

TELL_EVERY_SECONDS: Final = 5.0


@dataclass
class Pace:
    """`count` and `bytes` went over the line; `bytes_dealt_with` are of every file that is done with, whatever became of it."""

    bytes_in_all: int
    count: int = 0
    bytes: int = 0
    bytes_dealt_with: int = 0
    began: float = field(default_factory=time.monotonic)

    def went(self, size: int) -> None:
        self.count += 1
        self.bytes += size
        self.bytes_dealt_with += size

    def __str__(self) -> str:
        return self.after(time.monotonic() - self.began)

    def after(self, seconds: float) -> str:
        seconds = max(seconds, 0.001)
        return f"{self.count / seconds:.1f} a second, {megabytes(self.bytes / seconds)} a second"

    def left(self, seconds: float) -> str:
        """As long as the same speed lasts; bytes count, because images differ more in size than bytes do in speed."""
        if not self.bytes_dealt_with:
            return "?"
        return duration((self.bytes_in_all - self.bytes_dealt_with) * seconds / self.bytes_dealt_with)


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """In one or two units: 40 s, 12 min, 3 h 20 min, 2 days 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} days {hours % 24} h"
