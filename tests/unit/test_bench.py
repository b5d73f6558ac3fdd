"""What `make bench` sends, and what it makes of its measurements."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest

from laptop import bench
from laptop.bench_images import Batch, Kind, batch
from laptop.bench_table import Findings, Memory, Ratio, Row, cramped, missed, ratio, report
from laptop.bench_variants import VARIANTS, Variant
from laptop.tell import Trouble

ROUNDS = [
    {"this": 2.0, "no-tls": 1.8, "original": 8.0},
    {"this": 1.0, "no-tls": 0.7, "original": 5.0},
    {"this": 4.0, "no-tls": 3.8, "original": 14.0},
]
ORTHANC = Memory(peak_mb=301.2, limit_mb=3072, killed=0, restarts=0)
NGINX = Memory(peak_mb=20.0, limit_mb=320, killed=0, restarts=0)
FINDINGS = Findings(processors=2, load=0.25, small=123.4, memory={"orthanc": ORTHANC, "nginx": NGINX}, database_bytes=1.234, log_bytes=1.5)


def test_a_ratio_is_the_median_of_neighbours_not_of_all() -> None:
    # The medians' own ratio would be 4.0 and 0.9 as well, but the middle round's neighbours say otherwise.
    assert ratio(ROUNDS, "original") == Ratio(middle=4.0, least=3.5, most=5.0)
    assert ratio(ROUNDS, "no-tls") == Ratio(middle=0.9, least=0.7, most=0.95)


def test_the_report_has_a_line_for_every_row_and_ends_with_the_verdict() -> None:
    lines = report(dict.fromkeys(bench.ROWS, ROUNDS), FINDINGS)
    assert "Medians of 3 turns in the first row, 3 in others" in lines[1]
    for row in bench.ROWS:
        (line,) = (line for line in lines if line.startswith(f"| {row.title} |"))
        assert f"| {row.associations * row.images / 2:.1f} | 90 % (70 % to 95 %) | 4.0 (3.5 to 5.0) |" in line
    assert lines[-1] == "ingest: 4.0 times the original, 90 % of no TLS"
    said = "\n".join(lines)
    assert "1800 an hour by one association" in said  # one in 2 s
    assert "1 TB in CT images, by four associations: 0.3 days" in said  # 80 a second, 524,288 bytes each
    assert "a stored GB takes 1.23 GB in PostgreSQL, and writes 1.50 GB of its log" in said
    assert "orthanc 301 MB, nginx 20 MB" in said


@pytest.mark.parametrize(
    ("original", "no_tls", "said"),
    [
        (4.0, 0.85, []),
        (3.999, 0.9, ["4.00 times the original, and 4.0 are the aim"]),
        (4.2, 0.849, ["84.9 % of no TLS, and 85 % are the aim"]),
        (2.0, 0.5, ["2.00 times the original, and 4.0 are the aim", "50.0 % of no TLS, and 85 % are the aim"]),
    ],
)
def test_below_an_aim_is_missed_and_at_it_is_not(original: float, no_tls: float, said: list[str]) -> None:
    assert missed([{"this": 1.0, "no-tls": no_tls, "original": original}]) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"killed": 2}, ["orthanc had 2 processes killed for their memory and restarted 0 times"]),
        ({"restarts": 1}, ["orthanc had 0 processes killed for their memory and restarted 1 times"]),
        ({"peak_mb": 3000}, ["orthanc took 3000 MB of the 3072 MB that it may have"]),
        ({"peak_mb": 2900}, []),
    ],
)
def test_a_container_that_had_too_little_memory_is_told(change: dict[str, int], said: list[str]) -> None:
    assert cramped({"nginx": NGINX, "orthanc": replace(ORTHANC, **change)}) == said


@pytest.mark.parametrize(
    ("quick", "change", "error"),
    [
        (False, {}, "the aim is missed: 3.50 times the original, and 4.0 are the aim; 70.0 % of no TLS, and 85 % are the aim."),
        (True, {}, None),
        (True, {"killed": 1}, "memory was short: orthanc had 1 processes killed"),
    ],
)
def test_it_ends_with_an_error_after_its_verdict(
    quick: bool, change: dict[str, int], error: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = [{"this": 1.0, "no-tls": 0.7, "original": 3.5}]
    findings = replace(FINDINGS, memory={"orthanc": replace(ORTHANC, **change)})
    with pytest.raises(Trouble, match=f"^{re.escape(error)}") if error else nullcontext():
        bench.conclude(dict.fromkeys(bench.ROWS, rounds), findings, quick=quick)
    assert capsys.readouterr().out.splitlines()[-1] == "ingest: 3.5 times the original, 70 % of no TLS"


def test_it_ends_well_when_every_aim_is_reached() -> None:
    bench.conclude(dict.fromkeys(bench.ROWS, ROUNDS), FINDINGS, quick=False)


def test_every_transfer_is_measured_right_after_one_that_warms_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every service gets the same images, in the order of the round, and what warmed up counts for nobody's time."""
    row, warm_up = (Row(what="C-STORE", kind="small", associations=1, images=images) for images in (2, 1))
    sent: list[tuple[str, Row, str]] = []
    tidied: list[str] = []

    @dataclass(frozen=True)
    class Running:
        variant: Variant

        def awake(self) -> AbstractContextManager[str]:
            return nullcontext(self.variant.name)

        def tidy(self) -> None:
            tidied.append(self.variant.name)

    def transfer(row: Row, target: str, batches: list[Batch]) -> float:
        sent.append((target, row, batches[0].series))
        return 1.0 if row.images == 2 else 99.0

    monkeypatch.setattr(bench, "_transfer", transfer)
    supply = bench._Supply(tmp_path)
    backwards = tuple(reversed(VARIANTS))
    measured = bench._measure([row], warm_up, [Running(variant) for variant in VARIANTS], supply, [backwards])  # type: ignore[misc]
    assert measured == {row: [{"original": 1.0, "no-tls": 1.0, "this": 1.0}]}
    assert [one[:2] for one in sent] == [(variant.name, each) for variant in (*VARIANTS, *backwards) for each in (warm_up, row)]
    assert len({series for _, _, series in sent}) == 4, "two in the round that fills caches, and two in the other, the same for all"
    assert tidied == 2 * [variant.name for variant in VARIANTS]
    assert supply.images == 6, "what warmed up has to be kept too"


def test_rows_are_told_apart_by_their_titles() -> None:
    assert len({row.title for row in bench.ROWS}) == len(bench.ROWS)


def test_what_comes_back_was_sent_before_and_bigger_series_have_pushed_it_out_of_the_cache() -> None:
    sizes = {"CT": 2**19, "CR": 2**23, "small": 2**13}
    sent = [row for row in bench.ROWS if row.what == "C-STORE" for _ in range(row.turns)]
    back = [row for row in bench.ROWS if row.what != "C-STORE"]
    for row, source in zip(back, sent, strict=False):
        assert (row.kind, row.images) == (source.kind, source.images)
    after = sum(row.associations * row.images * sizes[row.kind] for row in sent[len(back) :])
    assert after > 2 * 128 * 2**20  # twice Orthanc's MaximumStorageCacheSize


@pytest.mark.parametrize(("kind", "pixels"), [("CT", 512 * 512 * 2), ("CR", 8 * 2**20), ("small", 64 * 64 * 2)])
def test_every_image_of_every_batch_is_another_one(kind: Kind, pixels: int, tmp_path: Path) -> None:
    one, other = (batch(kind, serial=serial, images=2, folder=tmp_path / str(serial)) for serial in (1, 2))
    images = [pydicom.dcmread(path) for made in (one, other) for path in sorted(made.folder.iterdir())]
    assert len({image.SOPInstanceUID for image in images}) == 4
    assert [image.StudyInstanceUID for image in images] == [one.study, one.study, other.study, other.study]
    assert [image.SeriesInstanceUID for image in images] == [one.series, one.series, other.series, other.series]
    assert {image.PatientID for image in images} == {"BENCH-000001", "BENCH-000002"}
    for image in images:
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert image.SOPInstanceUID.is_valid
        assert len(image.PixelData) == pixels == image.pixel_array.nbytes
    assert one.bytes == sum(path.stat().st_size for path in one.folder.iterdir())


def test_a_row_s_rate_counts_the_images_of_all_its_associations() -> None:
    assert Row(what="C-STORE", kind="CT", associations=4, images=50).rate(2.0) == 100
