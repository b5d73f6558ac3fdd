"""The operator's commands: what they ask of the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

import pytest
from orthanc_host import commands
from orthanc_host.decisions import Pointer

JOURNAL = "journalctl --unit orthanc-converge --no-pager --output short-iso --lines"
COMPOSE = f"docker compose --file /opt/orthanc/releases/{'a' * 64}/compose.yaml logs --no-color --tail"


@pytest.mark.parametrize(
    ("said", "asks"),
    [
        ("logs", [f"{JOURNAL} 100", f"{COMPOSE} 100"]),
        ("logs agent", [f"{JOURNAL} 100"]),
        ("logs nginx --lines 7", [f"{COMPOSE} 7 nginx"]),
        ("logs orthanc", [f"{COMPOSE} 100 orthanc"]),
    ],
)
def test_logs_are_those_of_the_containers_and_the_agent_or_of_one(said: str, asks: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(commands, "current", lambda _: Pointer("bucket", "release.tar.gz", "version-a", "a" * 64))
    monkeypatch.setattr(subprocess, "call", lambda command: asked.append(" ".join(command)))
    assert commands.main(said.split()) == 0
    assert asked == asks
