"""An outage is waited out: by everybody who works at the same time, told once, and not for ever."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from laptop import tell
from laptop.tell import Trouble

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 15.0
TOLD_AFTER_SECONDS: Final = 3.0
TRIES: Final = 3  # of what the service, though it is well, does not take or give
GIVEN_UP_AFTER_SECONDS = 900.0  # a host of AWS's is replaced within; docs/host.md


T = TypeVar("T")


def pause(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return float(min(FIRST_SECONDS * 2 ** min(failures - 1, 16), LONGEST_SECONDS))


class Refused(Exception):  # noqa: N818 - it is a finding, not a fault
    """The service will not take, or give, this one; says why."""


class Failing(Exception):  # noqa: N818 - as above
    """Not this time. `reached`: the service heard of it, so that the fault may be this one's."""

    def __init__(self, why: str, *, reached: bool) -> None:
        super().__init__(why)
        self.reached = reached


class Stopped(Exception):  # noqa: N818 - it is no fault
    """Somebody else has ended the work."""


class Patience:
    """Shared by the threads of one run; `stop` ends all of them. `is_well` asks the service whether it could do its work."""

    def __init__(self, is_well: Callable[[], bool]) -> None:
        self.stop = threading.Event()
        self._is_well = is_well
        self._succeeded = 0.0  # when something last did
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told = False

    def insist(self, attempt: Callable[[], T]) -> T:
        """What it returns, in the end. Raises Refused as it does, or when it fails again and again at a service that is well."""
        failures, tries, failed, was_well = 0, 0, 0.0, False
        while not self.stop.is_set():
            try:
                result = attempt()
            except Failing as failing:
                failures += 1
                tries += failing.reached
                if tries >= TRIES:
                    is_well = self._succeeded > failed > 0 or self._is_well()
                    if is_well and was_well:  # before this attempt and after it: the fault is not the service's
                        raise Refused(f"{failing}, {tries} times") from None
                    was_well = is_well
                failed = time.monotonic()
                self._wait(str(failing), failures)
            else:
                self._success()
                return result
        raise Stopped

    def next_of(self, waiting: queue.Queue[Sequence[T]]) -> Sequence[T]:
        """The next batch of work; nothing once all has been stopped, or when an empty batch says that there is no more."""
        while not self.stop.is_set():
            with suppress(queue.Empty):
                return waiting.get(timeout=0.2)
        return ()

    def _success(self) -> None:
        with self._lock:
            self._succeeded = time.monotonic()
            if self._told and self._since is not None:
                tell.detail(f"it goes on, after {self._succeeded - self._since:.0f} s")
            self._since, self._told = None, False

    def _wait(self, why: str, failures: int) -> None:
        """Return when it is time to try again. Raises Trouble when nothing has succeeded for too long."""
        now = time.monotonic()
        with self._lock:
            self._since = now if self._since is None else self._since
            lasts = now - self._since
            if not self._told and lasts >= TOLD_AFTER_SECONDS:
                self._told = True
                tell.detail(f"waiting for the service: {why}")
        if lasts >= GIVEN_UP_AFTER_SECONDS:
            raise Trouble(
                f"the service has not answered for {lasts / 60:.0f} minutes ({why}). What was done is noted: when 'make verify' finds the "
                f"service well, run the same command again."
            )
        self.stop.wait(pause(failures))
