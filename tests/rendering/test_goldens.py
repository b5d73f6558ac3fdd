"""What a reviewer sees when a template changes: the files themselves, for each scenario."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

import config_templates
from config_templates import Service, render
from tests.rendering.scenarios import SCENARIOS, every_scenario

_HERE = Path(__file__).parent
_GOLDEN = _HERE / "golden"
_TEMPLATES = Path(config_templates.__file__).parent
_THE_SAME_EVERYWHERE = ("probe/log.sed", "probe/probe.py", "nginx/association.js")
_REMEDY = "if that is what you want, rewrite them with 'UPDATE_GOLDENS=1 pytest tests/rendering' and read the diff"


def _wanted() -> Mapping[str, str]:
    return {
        f"{scenario}/{name}": text
        for scenario, service in SCENARIOS.items()
        for name, text in render(service).items()
        if name not in _THE_SAME_EVERYWHERE
    }


def _found() -> set[str]:
    return {path.relative_to(_GOLDEN).as_posix() for path in _GOLDEN.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _rewrite_when_asked() -> None:
    if os.environ.get("UPDATE_GOLDENS") != "1":
        return
    wanted = _wanted()
    for name in _found() - wanted.keys():
        (_GOLDEN / name).unlink()
    for name, text in wanted.items():
        path = _GOLDEN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", _wanted())
def test_every_rendered_file_equals_its_golden_file(name: str) -> None:
    path = _GOLDEN / name
    assert path.exists(), f"golden/{name} is missing; {_REMEDY}"
    assert _wanted()[name] == path.read_text(encoding="utf-8"), f"golden/{name} differs from what is rendered; {_REMEDY}"


def test_there_is_no_golden_file_that_nothing_renders() -> None:
    assert sorted(_found() - _wanted().keys()) == [], f"stray golden files; {_REMEDY}"


@every_scenario
def test_files_that_depend_on_no_value_are_delivered_as_they_lie_beside_the_templates(service: Service) -> None:
    files = render(service)
    for name in _THE_SAME_EVERYWHERE:
        assert files[name] == (_TEMPLATES / name).read_text(encoding="utf-8")


@every_scenario
def test_the_same_service_gives_the_same_bytes(service: Service) -> None:
    again = Service.model_validate_json(service.model_dump_json())
    assert again == service
    assert list(render(service).items()) == list(render(service).items()) == list(render(again).items())


@every_scenario
def test_every_file_is_plain_text_that_ends_with_one_newline(service: Service) -> None:
    for name, text in render(service).items():
        assert text.isascii(), name
        assert text.endswith("\n"), name
        assert not text.endswith("\n\n"), name
        assert not any(line != line.rstrip() for line in text.splitlines()), name
