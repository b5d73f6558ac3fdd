"""Ctrl-C, a closed terminal and `kill -9` at each thing that is asked of Docker; the engine is pretended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.laptop.clone import ENGINE, Clone, ended, files_below, strike_down

INTERRUPTED = "\ninterrupted; run the same command again to go on where it stopped\n"
STARTING = [("version", signal.SIGINT), ("image inspect", signal.SIGKILL)]
STARTING += [(" up ", by) for by in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)]
STARTING += [("probe.py modalities", by) for by in (signal.SIGINT, signal.SIGKILL)]
UPDATING = [(" up ", by) for by in (signal.SIGINT, signal.SIGKILL)]
UPDATING += [("nginx.conf -q -t", signal.SIGKILL), ("-s reload", signal.SIGINT), ("probe.py modalities", signal.SIGKILL)]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path)
    made.program("docker", ENGINE)
    made.plan("CT1")
    return made


def interrupt(clone: Clone, *command: str, at: str, by: signal.Signals) -> str:
    """Begin a command, end it in the middle of that call of docker, and return what it said on its way out."""
    clone.pause_at(at)
    process = clone.start(*command)
    clone.wait_until_paused()
    strike_down(process, by)
    said = ended(process, 20)
    assert said.code == (-by if by == signal.SIGKILL else 130)
    (clone.programs / "paused").unlink()
    return said.err


@pytest.mark.parametrize(("at", "by"), STARTING)
def test_a_start_that_is_cut_off_leaves_nothing_running_and_is_made_good_by_the_next(clone: Clone, at: str, by: signal.Signals) -> None:
    said = interrupt(clone, "enrol", "CT2", at=at, by=by)
    if by != signal.SIGKILL:
        assert said == INTERRUPTED
        assert not (clone.programs / "serving").exists()
    assert not (clone.home / "taken.json").exists()
    again = clone.run("enrol", "CT2")
    assert (again.code, again.err) == (0, "")
    assert clone.calls()[-1].endswith("probe.py modalities")
    assert (clone.home / "taken.json").exists()


@pytest.mark.parametrize(("at", "by"), UPDATING)
def test_a_change_that_is_cut_off_lets_the_service_go_on_and_is_made_good_by_the_next(clone: Clone, at: str, by: signal.Signals) -> None:
    assert clone.run("enrol", "CT2").code == 0
    interrupt(clone, "enrol", "CT3", at=at, by=by)
    assert not any(" down " in call for call in clone.calls())
    before = len(clone.calls())
    assert clone.run("enrol", "CT3").code == 0
    assert any("-s reload" in call for call in clone.calls()[before:]), "nginx takes the new modality at the latest now"
    assert clone.calls()[-1].endswith("probe.py modalities")


@pytest.mark.parametrize("at", [" up ", "probe.py modalities"])
def test_a_strike_that_is_cut_off_is_made_good_by_the_same_command(clone: Clone, at: str) -> None:
    assert clone.run("enrol", "CT2").code == 0
    interrupt(clone, "strike", "CT2", at=at, by=signal.SIGKILL)
    before = len(clone.calls())
    again = clone.run("strike", "CT2")
    assert (again.code, again.out) == (0, "    CT2 is refused from now on\n")
    assert any("-s reload" in call for call in clone.calls()[before:])
    assert clone.run("strike", "CT2").error() == "no modality CT2 is enrolled here. Enrolled: CT1."


def test_an_interruption_while_its_libraries_load_is_one_line_too(clone: Clone) -> None:
    (clone.folder / "laptop" / "commands.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    process = clone.start("demo")
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    strike_down(process, signal.SIGINT)
    said = ended(process, 20)
    assert (said.code, said.err) == (130, INTERRUPTED)


def test_an_interruption_while_a_stand_in_is_built_leaves_nothing_of_it(clone: Clone) -> None:
    clone.program("docker", "case \"$*\" in 'image inspect'*) exit 1 ;; pull*) echo 'no such host' >&2; exit 1 ;; esac\n" + ENGINE)
    clone.program("sudo", 'exec "$@"\n')
    clone.program("debootstrap", 'mkdir -p "$3/bin"; touch "$(dirname "$0")/paused"; sleep 60\n')
    temporary = clone.folder / "temporary"
    temporary.mkdir()
    process = clone.start("enrol", "CT2", environment={"TMPDIR": str(temporary)})
    clone.wait_until_paused()
    assert files_below(temporary) != []
    strike_down(process, signal.SIGINT)
    said = ended(process, 20)
    assert (said.code, said.err) == (130, INTERRUPTED)
    assert files_below(temporary) == []


def test_containers_that_do_not_start_are_stopped_and_what_they_said_is_shown(clone: Clone) -> None:
    fails = (
        'case "$*" in *" logs "*) echo "postgres-1 | no space left"; exit ;;\n'
        '*" up "*) echo "Container postgres-1 Starting" >&2; echo "container postgres-1 is unhealthy" >&2; exit 1 ;; esac\n'
    )
    clone.program("docker", fails + ENGINE.replace("exit 0", 'echo "$*" >>"$folder/calls"; exit 0'))
    said = clone.run("enrol", "CT2")
    assert said.error().endswith("(container postgres-1 is unhealthy). Mend that, and run the same command again.")
    assert "    | postgres-1 | no space left\n" in said.err
    assert " down " in clone.calls()[-1]
    clone.program("docker", ENGINE)
    assert clone.run("enrol", "CT2").code == 0
