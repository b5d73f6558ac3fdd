"""What `make bench` says of its measurements. Pure: seconds in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal, TypeAlias

from laptop.bench_images import Kind
from laptop.bench_variants import NO_TLS, ORIGINAL, THIS

SLICES_OF_A_STUDY: Final = 200  # a CT of chest or abdomen, 512 KiB a slice
CT_BYTES: Final = 512 * 1024

# The seconds that each variant took for the same transfer, one right after the other.
Round: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of transfer: `images` by each of `associations` at once; `prompt` senders set TCP_NODELAY."""

    what: Literal["C-STORE", "C-GET", "WADO"]
    kind: Kind
    associations: int
    images: int
    prompt: bool = True
    turns: int = 1  # in each round

    @property
    def title(self) -> str:
        if self.what == "WADO":
            return f"WADO {self.kind}, 1 request"
        title = f"{self.what} {self.kind}, {self.associations} association{'s' if self.associations > 1 else ''}"
        return title if self.what == "C-GET" else f"{title}, client {'with' if self.prompt else 'without'} TCP_NODELAY"

    def rate(self, seconds: float) -> float:
        """Images a second."""
        return self.associations * self.images / seconds


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How much faster the service is than another variant: the median of the rounds' own ratios, the least and the greatest."""

    middle: float
    least: float
    most: float


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was measured besides the rows."""

    processors: int
    load: float  # before the bench began
    small: float  # images a second
    peaks_mb: Mapping[str, float]  # of this service's containers
    database_bytes: float  # that a stored byte takes in the database
    log_bytes: float  # that a stored byte writes to its write-ahead log


def ratio(rounds: Sequence[Round], other: str) -> Ratio:
    each = [one[other] / one[THIS.name] for one in rounds]
    return Ratio(middle=median(each), least=min(each), most=max(each))


def report(measured: Mapping[Row, Sequence[Round]], findings: Findings) -> list[str]:
    """Everything that the bench says, in Markdown. The first row decides the last line."""
    main = next(iter(measured))
    rates = {row: row.rate(median(one[THIS.name] for one in rounds)) for row, rounds in measured.items()}
    four = next(row for row in measured if (row.kind, row.associations, row.prompt) == ("CT", 4, True))
    return [
        f"{findings.processors} processors, load {findings.load:.1f} before.",
        f"Medians of {len(measured[main])} turns in the first row, {min(map(len, measured.values()))} in others (least to greatest).",
        "CT: 512 KiB an image, CR: 8 MiB.",
        "",
        *_table(measured, rates),
        "",
        f"- small images of 8 KiB, 4 associations: {findings.small:.0f} a second",
        f"- CT studies of {SLICES_OF_A_STUDY} images: {_studies(rates[main])} an hour by one association, {_studies(rates[four])} by four",
        f"- an archive of 1 TB in CT images, by four associations: {_days(rates[four]):.1f} days",
        f"- a stored GB takes {findings.database_bytes:.2f} GB in PostgreSQL, and writes {findings.log_bytes:.2f} GB of its log",
        f"- most memory in use: {', '.join(f'{name} {peak:.0f} MB' for name, peak in findings.peaks_mb.items())}",
        "",
        _verdict(measured[main]),
    ]


def _table(measured: Mapping[Row, Sequence[Round]], rates: Mapping[Row, float]) -> list[str]:
    lines = ["| transfer | images a second | of no TLS | times the original |", "|---|---|---|---|"]
    for row, rounds in measured.items():
        plain, original = ratio(rounds, NO_TLS.name), ratio(rounds, ORIGINAL.name)
        shares = f"{_percent(plain.middle)} ({_percent(plain.least)} to {_percent(plain.most)})"
        times = f"{original.middle:.1f} ({original.least:.1f} to {original.most:.1f})"
        lines.append(f"| {row.title} | {rates[row]:.1f} | {shares} | {times} |")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _studies(images_a_second: float) -> int:
    """Studies an hour."""
    return round(images_a_second * 3600 / SLICES_OF_A_STUDY)


def _days(images_a_second: float) -> float:
    """How long 1 TB of CT images takes."""
    return 10**12 / (images_a_second * CT_BYTES) / 86400


def _verdict(rounds: Sequence[Round]) -> str:
    original, plain = ratio(rounds, ORIGINAL.name).middle, ratio(rounds, NO_TLS.name).middle
    return f"ingest: {original:.1f} times the original, {_percent(plain)} of no TLS"
