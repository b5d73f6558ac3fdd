"""A backup is whole or not there, and a restore replaces nothing.

Here with a pretended Docker; tests/service/test_recovery.py has the real one.
"""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from tests.laptop.clone import ENGINE, Clone, ended, files_below, strike_down

# A database: `held` is how many objects it has, `fails` which of its programs does.
DATABASE = r"""
folder=$(dirname "$0")
all=$*
fails() { [ "$(cat "$folder/fails" 2>/dev/null)" = "$1" ] && { echo "$all" >>"$folder/calls"; echo "$1: error: something" >&2; exit 1; }; }
case "$*" in
  *" psql "*)
    statements=$(cat)
    echo "$all $statements" >>"$folder/calls"
    case "$statements" in *pg_largeobject_metadata*) cat "$folder/held" ;; esac
    exit ;;
  *" pg_dump "*) printf PGDMP; head -c 200000 /dev/zero; fails pg_dump ;;
  *" pg_restore --file "*) wc -c >"$folder/read"; fails reading ;;
  *" pg_restore "*) cat >"$folder/restored"; fails pg_restore ;;
  *" stop "*) [ -e "$folder/late" ] && mv "$folder/late" "$folder/held" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path)
    made.program("docker", DATABASE + ENGINE)
    made.plan("CT1")
    hold(made, 0)
    return made


def hold(clone: Clone, count: int, name: str = "held") -> None:
    (clone.programs / name).write_text(f"{count}\n")


def serve(clone: Clone) -> None:
    assert clone.run("enrol", "CT2").code == 0


def let_fail(clone: Clone, program: str) -> None:
    (clone.programs / "fails").write_text(program)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "backups"
    made.mkdir()
    return made


@pytest.fixture
def kept(folder: Path) -> Path:
    """A backup."""
    file = folder / "kept.dump"
    file.write_bytes(b"PGDMP" + b"whole" * 1000)
    return file


def asked(clone: Clone, *words: str) -> list[str]:
    """In which order those were asked of docker."""
    return [word for call in clone.calls() for word in words if word in call]


# -- backup ----------------------------------------------------------------------------------------------------------------


def test_a_backup_is_whole_was_read_again_and_is_its_owners_alone(clone: Clone, folder: Path) -> None:
    serve(clone)
    hold(clone, 1234)
    said = clone.run("backup", str(folder / "studies.dump"))
    assert (said.code, said.err) == (0, "")
    assert "A backup of 1,234 large objects" in said.out
    assert files_below(folder) == ["studies.dump"]
    assert (folder / "studies.dump").read_bytes() == b"PGDMP" + bytes(200_000)
    assert stat.S_IMODE((folder / "studies.dump").stat().st_mode) == 0o600
    assert (clone.programs / "read").read_text().strip() == "200005"


@pytest.mark.parametrize(
    ("program", "told"), [("pg_dump", "pg_dump failed (pg_dump: error"), ("reading", "pg_restore failed (reading: error")]
)
def test_a_backup_that_fails_leaves_nothing(clone: Clone, folder: Path, program: str, told: str) -> None:
    serve(clone)
    let_fail(clone, program)
    assert clone.run("backup", str(folder / "studies.dump")).error().startswith(told)
    assert files_below(folder) == []


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("at", [" pg_dump ", " pg_restore --file "])
def test_a_backup_that_is_cut_off_has_no_name_and_the_next_one_takes_its_place(
    clone: Clone, folder: Path, at: str, by: signal.Signals
) -> None:
    serve(clone)
    clone.pause_at(at)
    process = clone.start("backup", str(folder / "studies.dump"))
    clone.wait_until_paused()
    strike_down(process, by)
    assert ended(process, 20).code == (-by if by == signal.SIGKILL else 130)
    if by == signal.SIGKILL:
        assert files_below(folder) == ["studies.dump.part"]
        assert stat.S_IMODE((folder / "studies.dump.part").stat().st_mode) == 0o600
    else:
        assert files_below(folder) == []
    assert clone.run("backup", str(folder / "studies.dump")).code == 0
    assert files_below(folder) == ["studies.dump"]


_ON_A_SMALL_DISK = """
mount -t tmpfs -o size=64k none "$1" || exit 77
"$2" -m laptop backup "$1/studies.dump"; echo "ended with $?"
ls "$1"
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(clone: Clone, folder: Path) -> None:
    serve(clone)
    done = clone.with_mounts_of_its_own(_ON_A_SMALL_DISK, str(folder))
    assert done.stderr.strip() == (
        f"error: {folder}/studies.dump: No space left on device. "
        "The disk is full, or your share of it. Make room, and run the same command again."
    )
    assert done.stdout.splitlines()[-1] == "ended with 1", "and nothing is listed after it"


def test_a_name_that_will_not_do_is_refused_before_anything_is_read(clone: Clone, folder: Path, kept: Path) -> None:
    assert clone.run("backup", str(folder / "new.dump")).error().startswith("there is no demo that runs here, and so nothing to back up")
    serve(clone)
    assert clone.run("backup", str(kept)).error().startswith(f"{kept} is there already, and no backup is written over anything.")
    assert clone.run("backup", str(folder / "gone" / "new.dump")).error().startswith(f"there is no folder {folder / 'gone'}.")
    assert "would go with it ('make demo-clean')" in clone.run("backup", str(clone.home / "new.dump")).error()
    assert asked(clone, " pg_dump ") == []


# -- restore ---------------------------------------------------------------------------------------------------------------


def test_a_restore_brings_up_a_service_around_what_the_backup_holds(clone: Clone, kept: Path) -> None:
    said = clone.run("restore", str(kept))
    assert (said.code, said.err) == (0, "")
    assert (clone.programs / "restored").read_bytes() == kept.read_bytes()
    order = ("--wait --pull never postgres", " stop nginx orthanc", "DROP OWNED", " pg_restore ", " vacuumdb ", "--remove-orphans")
    assert list(dict.fromkeys(asked(clone, *order))) == list(order)
    assert (clone.home / "modalities" / "DEMO" / "DEMO.key").exists()
    assert len(list((clone.home / "keys").glob("*.password"))) == 5


def test_a_service_that_holds_objects_is_left_as_it_is(clone: Clone, kept: Path) -> None:
    serve(clone)
    hold(clone, 3)
    told = clone.run("restore", str(kept)).error()
    assert told.startswith(f"the service in {clone.home} holds 3 large objects, images that is, and a restore would replace them.")
    assert asked(clone, " stop ", "DROP OWNED", " pg_restore ", " down ") == []


def test_a_stopped_service_that_holds_objects_is_stopped_again(clone: Clone, kept: Path) -> None:
    hold(clone, 3)
    assert "holds 3 large objects" in clone.run("restore", str(kept)).error()
    assert asked(clone, "DROP OWNED", " pg_restore ", " down ") == [" down "]


def test_an_object_that_comes_at_the_last_moment_is_not_lost(clone: Clone, kept: Path) -> None:
    serve(clone)
    hold(clone, 1, "late")
    assert "holds 1 large objects" in clone.run("restore", str(kept)).error()
    assert asked(clone, "DROP OWNED", " pg_restore ", " down ") == []
    assert "--remove-orphans" in asked(clone, " stop nginx orthanc", "--remove-orphans")[-1], "it serves again"


@pytest.mark.parametrize("served", [True, False])
def test_a_restore_that_fails_leaves_no_half_service(clone: Clone, kept: Path, served: bool) -> None:
    if served:
        serve(clone)
    let_fail(clone, "pg_restore")
    assert clone.run("restore", str(kept)).error().startswith("pg_restore failed (pg_restore: error: something).")
    after = clone.calls()[[" pg_restore " in call for call in clone.calls()].index(True) :]
    assert any(" down " in call for call in after) != served
    assert any("--remove-orphans" in call and " up " in call for call in after) == served
    let_fail(clone, "")
    assert clone.run("restore", str(kept)).code == 0


def test_what_is_no_backup_is_refused_before_anything_is_made(clone: Clone, folder: Path, kept: Path) -> None:
    (clone.home / "site.json").unlink()
    clone.home.rmdir()
    (folder / "thesis").write_text("PGDM, but no dump")
    assert clone.run("restore", str(folder / "thesis")).error().startswith(f"{folder / 'thesis'} is no backup")
    for name in ("gone", "."):
        assert clone.run("restore", str(folder / name)).error().startswith(f"there is no file {folder / name}".removesuffix("/."))
    assert files_below(clone.home) == []
    assert kept.exists()
