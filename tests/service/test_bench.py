"""`make bench` works; how fast anything is, no test can say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from laptop import bench
from laptop.docker import docker


@pytest.mark.usefixtures("stack")
def test_a_quick_bench_prints_every_row_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the service that runs already, as the bench's own three run beside each other."""
    bench.run(tmp_path / "bench", quick=True)
    lines = capsys.readouterr().out.splitlines()
    number = r"[0-9.]+"
    for row in bench.ROWS:
        (line,) = (line for line in lines if line.startswith(f"| {row.title} |"))
        assert re.search(rf"\| {number} \| {number} % \({number} % to {number} %\) \| {number} \({number} to {number}\) \|$", line), line
    assert re.fullmatch(rf"ingest: {number} times the original, {number} % of no TLS", lines[-1])
    assert re.search(r"most memory in use: orthanc [1-9]\d+ MB, nginx [1-9]\d* MB, postgres [1-9]\d* MB", "\n".join(lines))
    assert not (tmp_path / "bench").exists()
    for kind in ("container", "volume", "network"):
        assert docker(kind, "ls", "--quiet", "--filter", "name=orthanc-bench").split() == []
