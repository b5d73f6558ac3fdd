"""The repository itself: nothing lies where no test or check would see it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import __main__ as everything

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_file_is_collected() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "--no-header", str(ROOT / "tests")]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert {line.partition("::")[0] for line in collected.splitlines() if "::" in line} == files
    assert list((ROOT / "tests").rglob("*_test.py")) == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "laptop/requirements.txt"])
def test_every_requirement_is_pinned(name: str) -> None:
    for line in (ROOT / name).read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        assert not requirement or requirement.startswith("-r ") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", requirement), line


def test_one_package_has_one_version() -> None:
    pins: dict[str, set[str]] = {}
    for name in ("requirements.txt", "requirements-dev.txt", "laptop/requirements.txt"):
        for package, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+)", (ROOT / name).read_text()):
            pins.setdefault(package.lower(), set()).add(version)
    assert {package: versions for package, versions in pins.items() if len(versions) > 1} == {}


def test_make_alone_lists_every_target_that_people_use() -> None:
    listed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = set(re.findall(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text()))
    assert {line.split()[1] for line in listed.splitlines() if line.strip().startswith("make ")} == phony


@pytest.mark.parametrize(
    "script",
    [
        "laptop/prerequisites",
        ".ci/run",
        "bootstrap/install.sh",
        "bootstrap/orthanc-host.sh",
        "docs/images/draw",
        "laptop/standins/nginx/nginx",
        "laptop/standins/postgres/docker-ensure-initdb.sh",
        "rehearsal/rootfs/boot",
    ],
)
def test_scripts_are_sound(script: str) -> None:
    command = [str(Path(sys.executable).parent / "shellcheck"), str(ROOT / script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_workflows_are_sound() -> None:
    command = [str(Path(sys.executable).parent / "zizmor"), "--offline", "--quiet", str(ROOT / ".github" / "workflows")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("engine", "others"), [(0, 0), (1, 0), (0, 1), (5, 2)])
def test_all_tests_fail_when_some_fail_on_either_side(
    engine: int, others: int, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pretended = f"import sys; beside = sys.argv[1] == 'tests/engine'; print('ran', sys.argv[1]); sys.exit({engine} if beside else {others})"
    monkeypatch.setattr(everything, "_PYTEST", (sys.executable, "-c", pretended))
    assert everything.main() == (others or engine)
    said = capfdbinary.readouterr().out.decode().splitlines()
    assert said == ["ran --ignore=tests/engine", "", "tests/engine, beside the others:", "ran tests/engine"]
