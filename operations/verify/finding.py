"""A finding: one line of the report. How a check becomes one, whatever happens in it."""

from __future__ import annotations

import ssl
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from laptop import certificates
from laptop.tell import Trouble

# Below, CloudWatch's alarms speak too (infra/monitoring.py): told first, then urgent.
SOON_DAYS: Final = 45
URGENT_DAYS: Final = 14
# An echo is one round trip: this long means that Orthanc has no thread for it, or the database does not answer.
SLOW_SECONDS: Final = 2.0

Verdict = Literal["good", "BAD", "left out"]


class Bad(Exception):  # noqa: N818 - it is a finding, not a fault of the program
    """What a check found that must not be so."""


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    check: str
    measured: str

    def __str__(self) -> str:
        return f"{self.verdict:9} {self.check:32} {self.measured}"


def look(check: str, measure: Callable[[], str]) -> Finding:
    """What `measure` returns is good; whatever it raises is BAD."""
    try:
        return Finding("good", check, measure())
    except ssl.SSLError as error:
        return Finding("BAD", check, f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}")
    except (Bad, OSError, Trouble, ValueError, KeyError, RuntimeError) as error:
        return Finding("BAD", check, f"{error or type(error).__name__}")


def left_out(why: str, *checks: str) -> Iterator[Finding]:
    for check in checks:
        yield Finding("left out", check, why)


def summary(findings: Sequence[Finding]) -> tuple[str, int]:
    """The last line, and the exit code: 0 when nothing is bad, else 1."""
    bad, omitted = ([f.check for f in findings if f.verdict == verdict] for verdict in ("BAD", "left out"))
    parts = [f"{len(findings) - len(bad) - len(omitted)} good", f"{len(bad)} BAD{': ' if bad else ''}{', '.join(bad)}"]
    if omitted:
        parts.append(f"{len(omitted)} left out: {', '.join(omitted)}")
    return "; ".join(parts), 1 if bad else 0


def ms(begun: float) -> str:
    return f"{(time.monotonic() - begun) * 1000:.0f} ms"


def latency(took: Sequence[float]) -> str:
    """The median in words. Raises Bad when it is slow."""
    median = statistics.median(took)
    text = f"answers in {median * 1000:.0f} ms (median of {len(took)}, at most {max(took) * 1000:.0f})"
    if median > SLOW_SECONDS:
        raise Bad(f"{text}: slower than {SLOW_SECONDS * 1000:.0f} ms")
    return text


def days_left(pem: str, whose: str = "") -> str:
    """How long a certificate lives, in words. Raises Bad when that is not long."""
    end = certificates.expiry(pem)
    days = (end - datetime.now(UTC)).days
    text = f"{whose}{days} days left, ends {end:%Y-%m-%d}"
    if days < URGENT_DAYS:
        raise Bad(f"{text}: renew it now")
    return text if days >= SOON_DAYS else f"{text}: renew it soon"
