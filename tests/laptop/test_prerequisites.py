"""What `make demo` does before Python runs: `laptop/prerequisites`, and the Makefile's virtual environment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.laptop.clone import ROOT
from tests.service.stack import eventually


class Machine:
    """A machine that has only the named programs, and pretends the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "programs"
        self.folder.mkdir()
        for name in ("sh", "grep", "sed", "cat", "env", "rm", "mktemp", "touch"):
            (self.folder / name).symlink_to(str(shutil.which(name)))
        self.pretend("id", 'case "$1" in -un) echo somebody ;; *) echo 1000 ;; esac')
        self.pretend("apt-get", 'echo "$@" >>"${0%/*}/apt-calls"')

    def pretend(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    def prerequisites(self, *parts: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "laptop" / "prerequisites"), *parts]
        return subprocess.run(command, env={"PATH": str(self.folder), **environment}, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_engine_elsewhere_that_does_not_answer_is_neither_installed_nor_started_here(machine: Machine) -> None:
    machine.pretend("docker", "exit 1")
    machine.pretend("sudo", 'touch "${0%/*}/became-root"')
    done = machine.prerequisites("docker", DOCKER_HOST="tcp://10.0.0.9:2376")
    assert done.returncode == 1
    assert done.stderr == (
        "\nerror: Docker Engine does not answer at tcp://10.0.0.9:2376. Start it there, or unset DOCKER_HOST, and try again.\n"
    )
    assert not (machine.folder / "became-root").exists()
    assert not (machine.folder / "apt-calls").exists()


def test_who_may_use_neither_docker_nor_root_is_told_what_to_ask_for(machine: Machine) -> None:
    machine.pretend("docker", 'echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1')
    done = machine.prerequisites("docker")
    assert done.returncode == 1
    assert done.stderr == (
        "\nerror: you may not use Docker. Have somebody with root add you to its group, 'usermod -aG docker somebody', "
        "log in again, and try again.\n"
    )


def test_an_installation_that_was_cut_off_is_ended_first(machine: Machine) -> None:
    machine.pretend("id", "echo 0")
    machine.pretend("dpkg", '[ "$*" = "--configure -a" ] && touch "${0%/*}/configured"')
    cut_off = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem."
    machine.pretend("apt-get", f'[ "$1" = update ] || [ -e "${{0%/*}}/configured" ] || {{ echo "{cut_off}" >&2; exit 100; }}')
    done = machine.prerequisites("registry")
    assert done.returncode == 0, done.stderr


def test_a_mirror_that_cannot_be_reached_is_told_with_the_remedy(machine: Machine) -> None:
    machine.pretend("id", "echo 0")
    machine.pretend("apt-get", 'echo "E: Failed to fetch http://mirror/InRelease" >&2; exit 100')
    done = machine.prerequisites("registry")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: 'apt-get update' failed: see above. Install Debian's docker-registry."


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "laptop").mkdir()
    for name in ("Makefile", "laptop/prerequisites"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "laptop" / "requirements.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("demo-enrol", "say which: make demo-enrol AET=CT1"),
        ("demo-strike", "say which: make demo-strike AET=CT1"),
        ("up", "say which: make up STACK=dev"),
        ("modality", "say which: make modality AET=CT1 STACK=dev"),
        ("gateway", "say which: make gateway AET=CT1 STACK=dev"),
        ("modality AET=CT1", "say of which stack: make modality AET=CT1 STACK=dev"),
        ("rehearse ACT=nonsense", "there are two acts: make rehearse ACT=service, make rehearse ACT=stack; without ACT, both"),
    ],
)
def test_what_a_command_lacks_is_said_before_anything_is_installed_for_it(checkout: Path, target: str, says: str) -> None:
    done = subprocess.run(["make", *target.split()], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.count(f"*** {says}.  Stop.") == 1
    assert not (checkout / ".venv").exists()


def make_environment(checkout: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["make", "--no-print-directory", f"PYTHON={sys.executable}", ".venv/laptop"],
        cwd=checkout,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_python_packages_whose_installation_was_cut_off_are_installed_anew(checkout: Path) -> None:
    cut = make_environment(checkout)
    eventually("there is a Python", (checkout / ".venv" / "bin" / "python").exists, 60)
    os.killpg(cut.pid, signal.SIGKILL)
    cut.communicate()
    assert not (checkout / ".venv" / "laptop").exists()
    (checkout / ".venv" / "half").touch()

    (checkout / "laptop" / "requirements.txt").write_text("orthanc-has-no-such-package==1\n")
    offline = make_environment(checkout, PIP_NO_INDEX="1")
    _, said = offline.communicate()
    assert offline.returncode != 0
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    assert told == ["error: Python packages could not be installed: see above. Connect to the internet, or make room, and try again."]
    assert not (checkout / ".venv" / "half").exists(), "what was half made is gone"

    (checkout / "laptop" / "requirements.txt").write_text("")
    whole = make_environment(checkout)
    _, said = whole.communicate()
    assert whole.returncode == 0, said
    assert (checkout / ".venv" / "laptop").exists()
    assert not (checkout / ".venv" / "unfinished").exists()
    subprocess.run([str(checkout / ".venv" / "bin" / "pip"), "--version"], check=True, capture_output=True)
