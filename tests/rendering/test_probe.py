"""What the probe does with the modalities that are wanted and those that Orthanc knows. Its connection is tried with the real Orthanc."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from config_templates import render
from tests.rendering.scenarios import SCENARIOS

_WANTED = {"CT": {"AET": "CT", "AllowStore": True}, "MR": {"AET": "MR", "AllowStore": False}}


class _Orthanc:
    def __init__(self, known: Mapping[str, Any]) -> None:
        self.known = dict(known)
        self.calls: list[tuple[str, str]] = []

    def call(self, method: str, path: str, body: object = None) -> object:
        self.calls.append((method, path))
        if method == "GET":
            return self.known
        name = path.removeprefix("/modalities/")
        if method == "DELETE":
            del self.known[name]
        else:
            self.known[name] = body
        return None


def _probe(folder: Path, orthanc: _Orthanc) -> ModuleType:
    probe = ModuleType("probe")
    path = folder / "probe.py"
    path.write_text(render(SCENARIOS["none"])["probe/probe.py"], encoding="utf-8")
    probe.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), vars(probe))  # noqa: S102 - our own file, as it is delivered
    vars(probe)["call"] = orthanc.call
    return probe


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        ({}, [("PUT", "/modalities/CT"), ("PUT", "/modalities/MR")]),
        (_WANTED, []),
        ({name: {**properties, "Timeout": 0} for name, properties in _WANTED.items()}, []),  # what nobody asked about
        ({**_WANTED, "OLD": {}}, [("DELETE", "/modalities/OLD")]),
        ({**_WANTED, "MR": {"AET": "MR", "AllowStore": True}}, [("PUT", "/modalities/MR")]),
        ({"OLD": {}, "CT": _WANTED["CT"]}, [("DELETE", "/modalities/OLD"), ("PUT", "/modalities/MR")]),
    ],
)
def test_modalities_are_added_changed_and_removed_and_otherwise_left_alone(
    tmp_path: Path, known: Mapping[str, Any], changes: list[tuple[str, str]]
) -> None:
    (tmp_path / "modalities.json").write_text(json.dumps(_WANTED), encoding="utf-8")
    orthanc = _Orthanc(known)
    assert _probe(tmp_path, orthanc).main(["modalities"]) == 0
    assert orthanc.calls == [("GET", "/modalities?expand"), *changes]
    assert {name: {key: orthanc.known[name][key] for key in _WANTED[name]} for name in orthanc.known} == _WANTED


def test_health_is_asked_where_the_answer_must_come_from_the_database(tmp_path: Path) -> None:
    orthanc = _Orthanc({})
    assert _probe(tmp_path, orthanc).main(["health"]) == 0
    assert orthanc.calls == [("GET", "/changes?last")]


def test_what_goes_wrong_is_one_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe = _probe(tmp_path, _Orthanc({}))
    assert probe.main(["modalities"]) == 1  # no modalities.json
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert probe.main([]) == 2
    assert probe.main(["other"]) == 2


def test_orthancs_certificate_is_verified_under_its_name() -> None:
    text = render(SCENARIOS["none"])["probe/probe.py"]
    assert 'ssl.create_default_context(cafile=str(HOME / "orthanc-authority.crt"))' in text
    assert "server_hostname=NAME" in text
    assert "context.minimum_version = ssl.TLSVersion.TLSv1_2" in text
    assert "check_hostname" not in text
    assert "verify_mode" not in text
    assert "unverified" not in text
