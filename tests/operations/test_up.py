"""`make up`: what would stop it halfway is told before Pulumi makes anything; afterwards the host's word counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws

from operations.__main__ import main

REGION = "us-east-1"
RELEASE = "b" * 64
PROVEN = "/orthanc/dev/proven"


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pulumi that knows one stack with nothing in it, and writes down how it is called; `up` succeeds."""
    calls = tmp_path / "calls"
    said = {
        "config --json": json.dumps({"aws:region": {"value": REGION}}),
        "stack export": json.dumps({"deployment": {}}),
        "stack output": json.dumps({"release": RELEASE, "proven": PROVEN, "url": "https://192.0.2.1/"}),
    }
    cases = "\n".join(f"'{words}') echo '{text}' ;;" for words, text in said.items())
    program = tmp_path / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{calls}\ncase "$1 $2" in\n{cases}\nesac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with mock_aws():
        yield calls


def tell(**proven: object) -> None:
    """What the host says."""
    told: Mapping[str, object] = {"release": RELEASE, "host": "i-1", **proven}
    boto3.client("ssm", region_name=REGION).put_parameter(Name=PROVEN, Type="String", Value=json.dumps(told))


def test_what_would_stop_it_halfway_is_told_and_nothing_is_begun(pulumi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boto3.client("ssm", region_name=REGION).put_parameter(Name="/orthanc/dev/release", Type="String", Value="somebody else's")
    assert main(["up", "dev"]) == 2
    said = capsys.readouterr().err
    assert "nothing was begun" in said
    assert "name taken: parameter /orthanc/dev/release" in said
    assert not [line for line in pulumi.read_text().splitlines() if line.startswith("up ")]


def test_a_proven_release_ends_it_well(pulumi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(status="proven")
    assert main(["up", "dev", "--", "--yes"]) == 0
    assert "up --stack dev --yes" in pulumi.read_text()
    assert "The service is proven: https://192.0.2.1/" in capsys.readouterr().out


@pytest.mark.usefixtures("pulumi")
def test_a_refused_release_ends_it_with_the_hosts_reason(capsys: pytest.CaptureFixture[str]) -> None:
    tell(status="refused", refused={RELEASE: "Orthanc: the AE title is too long"})
    assert main(["up", "dev"]) == 1
    said = capsys.readouterr()
    assert "the host refused the release: Orthanc: the AE title is too long" in said.out
    assert "orthanc-host status" in said.err


def test_without_pulumi_it_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["up", "dev"]) == 2
    assert (
        "pulumi is not on PATH, and it alone can read the stack dev. Install Pulumi's CLI (pulumi.com/docs/install)"
        in capsys.readouterr().err
    )
