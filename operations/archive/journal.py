"""What the service has acknowledged, a line for each file, so that a run goes on where the one before it ended, however it ended."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from laptop.private import private_directory
from laptop.tell import Trouble


class Journal:
    """Lines are only ever appended, by one run at a time. What of a line was not written before a crash is taken for nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        private_directory(path.parent)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Trouble(f"another run writes {path}. Wait for it, or give this one a folder of its own: OUT=...") from None
        *whole, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
        self.lines = dict.fromkeys(whole)  # in their order, and found at once
        if rest:  # the next line must not be joined to it
            self._write("\n")

    def add(self, line: str) -> None:
        """By one write, so that a run that is killed leaves all of it or a cut-off end, never a mixture."""
        self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        if os.write(self._file, text.encode()) < len(text.encode()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)
