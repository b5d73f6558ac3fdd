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
# What the first row has to reach (docs/performance.md).
TIMES_THE_ORIGINAL: Final = 4.0
SHARE_OF_NO_TLS: Final = 0.85
# Of its limit. What a program has taken between two looks is not seen, and what the kernel can take back is not counted.
MOST_MEMORY: Final = 0.95

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
class Memory:
    """How one of the service's containers got along with its memory."""

    peak_mb: float
    limit_mb: float
    killed: int  # processes, by the kernel
    restarts: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was measured besides the rows."""

    processors: int
    load: float  # before the bench began
    small: float  # images a second
    memory: Mapping[str, Memory]  # of this service's containers
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
        f"- small images of 8 KiB, 1 association: {findings.small:.0f} a second",
        f"- CT studies of {SLICES_OF_A_STUDY} images: {_studies(rates[main])} an hour by one association, {_studies(rates[four])} by four",
        f"- an archive of 1 TB in CT images, by four associations: {_days(rates[four]):.1f} days",
        f"- a stored GB takes {findings.database_bytes:.2f} GB in PostgreSQL, and writes {findings.log_bytes:.2f} GB of its log",
        f"- most memory in use: {', '.join(f'{name} {memory.peak_mb:.0f} MB' for name, memory in findings.memory.items())}",
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


def missed(rounds: Sequence[Round]) -> list[str]:
    """The aims that the first row misses. Judged unrounded, so a decimal more is told than in the verdict."""
    original, plain = ratio(rounds, ORIGINAL.name).middle, ratio(rounds, NO_TLS.name).middle
    found = []
    if original < TIMES_THE_ORIGINAL:
        found.append(f"{original:.2f} times the original, and {TIMES_THE_ORIGINAL} are the aim")
    if plain < SHARE_OF_NO_TLS:
        found.append(f"{100 * plain:.1f} % of no TLS, and {_percent(SHARE_OF_NO_TLS)} are the aim")
    return found


def cramped(memory: Mapping[str, Memory]) -> list[str]:
    """The containers that had too little memory."""
    found = []
    for name, had in memory.items():
        if had.killed or had.restarts:
            found.append(f"{name} had {had.killed} processes killed for their memory and restarted {had.restarts} times")
        elif had.peak_mb > MOST_MEMORY * had.limit_mb:
            found.append(f"{name} took {had.peak_mb:.0f} MB of the {had.limit_mb:.0f} MB that it may have")
    return found
