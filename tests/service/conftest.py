"""The service that all tests of this folder share: real containers, brought up once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from laptop import demo
from laptop.docker import check_engine, docker
from laptop.tell import Trouble
from tests.lacking import leave_out
from tests.laptop.clone import Clone
from tests.service.stack import OTHER_PROJECT, Stack, left_of

HERE = Path(__file__).parent
PROJECTS = ("orthanc-test", OTHER_PROJECT, "orthanc-gateway-gw-test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("service")


def _missing() -> str | None:
    try:
        check_engine()
    except Trouble as trouble:
        return str(trouble)
    lacking = [program for program in ("storescu", "storescp", "openssl") if shutil.which(program) is None]
    return f"not installed: {', '.join(lacking)} ('make test' installs them)" if lacking else None


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if missing := _missing():
        leave_out(missing)
    in_use = docker("network", "ls", "--filter", "name=no-metadata", "--format", "{{.Name}}").split()
    others = [name for name in in_use if name.removesuffix("_no-metadata") not in PROJECTS]
    if others:
        pytest.exit(f"another service runs here ({others[0]}); stop it first: make demo-down", returncode=1)
    for project in PROJECTS:  # what tests that were cut off have left
        docker("compose", "--project-name", project, "down", "--volumes", "--timeout", "1", folder=Path("/"))
    home = tmp_path_factory.mktemp("service")
    yield Stack(home)
    demo.remove(home)
    label = "label=com.docker.compose.project=orthanc-test"
    left = [docker(kind, "ls", "--quiet", "--filter", label).split() for kind in ("container", "volume", "network")]
    assert (left, home.exists()) == ([[], [], []], False), "a demo that is removed leaves nothing behind"


@pytest.fixture(scope="module")
def clone(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone in which nothing has been made yet. The service of the other tests makes room for it: there is room for one."""
    demo.stop(stack.home)
    made = Clone(tmp_path_factory.mktemp("cut"))
    made.plan(project=OTHER_PROJECT)
    yield made
    demo.remove(made.home)
    assert left_of(OTHER_PROJECT) == []
    demo.run(stack.home, dicom_port=None, web_port=None)
    stack.enrol_receiver()
