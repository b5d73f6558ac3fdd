"""What every test of these commands may ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operations.stack import say
from tests.unit.test_stack import deployed

# CT1 is renewed: certificate 1 with a key of the stack's, 2 by its own request.
RENEWING = "renewing, own certificates"


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What `pulumi stack output` prints, by a program on PATH that also keeps its arguments; change it and `say` it."""
    said: dict[str, Any] = json.loads(json.dumps(deployed(RENEWING).outputs))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pulumi").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\ncat {tmp_path}/outputs.json\n')
    (programs / "pulumi").chmod(0o755)
    (tmp_path / "arguments").touch()
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.chdir(tmp_path)
    say(tmp_path, said)
    yield said
    assert "PRIVATE" not in (tmp_path / "arguments").read_text()
