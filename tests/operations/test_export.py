"""`make export` from a service on this machine that lies, breaks off and goes away as a test says."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from laptop import certificates
from laptop.tell import Trouble
from operations.archive import patience
from operations.archive.exports import carry_out, name_of
from operations.verify.target import Login
from tests.operations.archived import Archived, archiving
from tests.unit.recording import ROOT


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.05)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Archived]:
    with archiving(tmp_path / "service") as archived:
        yield archived


def run(service: Archived, to: Path, *, parallel: int = 2) -> int:
    return carry_out(service.target(), to, parallel=parallel)


def manifest(to: Path) -> dict[str, tuple[int, str]]:
    header, *rows = (to / "manifest.csv").read_text().splitlines()
    assert header == "path,bytes,md5"
    return {path: (int(size), digest) for path, size, digest in (row.split(",") for row in rows)}


def fetched(service: Archived) -> list[str]:
    return [path for path in service.asked if path.endswith("/data")]


def missing(to: Path) -> list[list[str]]:
    return [line.split("\t") for line in (to / "missing.txt").read_text().splitlines()]


def test_every_object_gets_a_file_by_its_uids_for_its_owner_alone(
    service: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = {("1.1", "1.1.1", f"1.1.1.{number}"): f"object {number}".encode() for number in range(5)}
    objects |= {("1.2", "1.2.1", "1.2.1.1"): b"another", ("1.2", "1.2.2", "1.2.2.1"): b"x" * 3_000_000}
    for uids, data in objects.items():
        service.hold(*uids, data=data)
    to = tmp_path / "to"
    assert run(service, to) == 0
    paths = {"/".join(uids) + ".dcm": data for uids, data in objects.items()}
    assert {path: (to / path).read_bytes() for path in paths} == paths
    assert manifest(to) == {path: (len(data), hashlib.md5(data).hexdigest()) for path, data in paths.items()}  # noqa: S324
    assert {stat.S_IMODE(path.stat().st_mode) for path in to.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (to, *to.rglob("*")) if path.is_dir()} == {0o700}
    assert list(to.rglob("*.part")) == []
    said = capsys.readouterr().out
    assert "7 fetched, 3.0 MB" in said
    assert "complete: 7 files, and the service counts 7 objects" in said


def test_what_is_there_is_not_fetched_again(service: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "to"
    service.hold("1.1", "1.1.1", "1.1.1.1")
    assert run(service, to) == 0
    new = service.hold("1.1", "1.1.1", "1.1.1.2")
    service.asked.clear()
    assert run(service, to) == 0
    assert fetched(service) == [f"/instances/{new}/attachments/dicom/data"]
    assert len(manifest(to)) == 2
    assert "1 were there from an earlier run" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["gone", "empty"])
def test_a_file_that_is_not_there_whole_is_fetched_again(service: Archived, tmp_path: Path, damage: str) -> None:
    to = tmp_path / "to"
    service.hold("1.1", "1.1.1", "1.1.1.1", data=b"whole")
    assert run(service, to) == 0
    file = to / "1.1" / "1.1.1" / "1.1.1.1.dcm"
    file.unlink() if damage == "gone" else file.write_bytes(b"")
    assert run(service, to) == 0
    assert file.read_bytes() == b"whole"
    assert len(fetched(service)) == 2


def test_a_file_that_a_killed_run_had_not_noted_is_compared_and_noted(service: Archived, tmp_path: Path) -> None:
    to = tmp_path / "to"
    service.hold("1.1", "1.1.1", "1.1.1.1")
    service.hold("1.1", "1.1.1", "1.1.1.2")
    assert run(service, to, parallel=1) == 0
    before = manifest(to)
    whole = (to / "manifest.csv").read_bytes()
    (to / "manifest.csv").write_bytes(whole[:-10])  # as a run leaves it that is killed in the middle of a line
    service.asked.clear()
    assert run(service, to) == 0
    assert fetched(service) == []
    assert manifest(to) == before
    (to / "manifest.csv").write_bytes(whole[:-10])
    (to / "1.1" / "1.1.1" / "1.1.1.2.dcm").write_bytes(b"OTHER")  # as long, but not the same
    assert run(service, to) == 0
    assert len(fetched(service)) == 1
    assert (to / "1.1" / "1.1.1" / "1.1.1.2.dcm").read_bytes() == b"DICOM"


def test_an_object_that_is_not_what_was_received_is_missing_and_has_no_file(
    service: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = service.hold("1.1", "1.1.1", "1.1.1.1", md5="0" * 32)
    service.hold("1.1", "1.1.1", "1.1.1.2")
    to = tmp_path / "to"
    assert run(service, to) == 1
    ((what, why),) = missing(to)
    assert what == f"1.1/1.1.1/1.1.1.1.dcm (instance {bad})"
    assert why == "what came is not what the service once received: another MD5, 4 times"
    assert [path.name for path in to.rglob("*.dcm")] == ["1.1.1.2.dcm"]
    assert list(manifest(to)) == ["1.1/1.1.1/1.1.1.2.dcm"]
    said = capsys.readouterr().out
    assert f"1 missing: see {to / 'missing.txt'}" in said
    assert "complete" not in said


def test_an_object_that_cannot_be_read_is_missing_until_it_can(service: Archived, tmp_path: Path) -> None:
    bad = service.hold("1.1", "1.1.1", "1.1.1.1")
    path = f"/instances/{bad}/attachments/dicom/data"
    service.answers[path] = [500] * 4
    to = tmp_path / "to"
    assert run(service, to) == 1
    assert missing(to)[0][1] == f"{path} was answered with 500, 4 times"
    assert run(service, to) == 0
    assert missing(to) == []


def test_an_object_whose_file_is_lost_is_missing_and_not_deleted(
    service: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = service.hold("1.1", "1.1.1", "1.1.1.1")
    service.answers[f"/instances/{lost}/attachments/dicom/data"] = [404] * 4
    to = tmp_path / "to"
    assert run(service, to) == 1
    assert missing(to)[0][1] == "the service lists it and has lost its file (docs/alarms.md, store-cancelled), 4 times"
    assert "meanwhile" not in capsys.readouterr().out


def test_an_object_that_is_deleted_while_it_is_fetched_is_not_missing(service: Archived, tmp_path: Path) -> None:
    gone = service.hold("1.1", "1.1.1", "1.1.1.1")
    service.answers |= {
        f"/instances/{gone}/attachments/dicom/{what}": statuses for what, statuses in (("md5", [200, 404]), ("data", [404]))
    }
    service.counted = 0
    assert run(service, tmp_path / "to") == 0
    assert missing(tmp_path / "to") == []


def test_a_single_failure_is_none(service: Archived, tmp_path: Path) -> None:
    one = service.hold("1.1", "1.1.1", "1.1.1.1")
    for path in (
        "/statistics",
        "/studies",
        "/studies/st1.1/series",
        "/series/se1.1.1/instances",
        f"/instances/{one}/attachments/dicom/data",
    ):
        service.answers[path] = [500, 502]
    assert run(service, tmp_path / "to") == 0


def test_an_outage_is_waited_out(service: Archived, tmp_path: Path) -> None:
    for number in range(200):
        service.hold("1.1", f"1.1.{number % 5}", f"1.1.1.{number}", data=f"{number}".encode())

    def outage() -> None:
        while len(fetched(service)) < 20:
            time.sleep(0.002)
        service.down.set()
        time.sleep(0.5)
        service.down.clear()

    thread = threading.Thread(target=outage)
    thread.start()
    assert run(service, tmp_path / "to") == 0
    thread.join()
    assert len(manifest(tmp_path / "to")) == 200


def test_what_came_meanwhile_is_told_and_fetched_by_the_next_run(
    service: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.hold("1.1", "1.1.1", "1.1.1.1")
    service.counted = 3
    assert run(service, tmp_path / "to") == 1
    assert "2 objects came meanwhile: run the same command again to fetch them" in capsys.readouterr().out
    service.counted = None
    assert run(service, tmp_path / "to") == 0


def test_what_was_deleted_meanwhile_is_told_and_nothing_is_missing(
    service: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = service.hold("1.1", "1.1.1", "1.1.1.1")
    service.hold("1.1", "1.1.1", "1.1.1.2")
    service.answers[f"/instances/{gone}/attachments/dicom/md5"] = [404]
    service.counted = 1
    to = tmp_path / "to"
    assert run(service, to) == 0
    assert "1 deleted at the service meanwhile" in capsys.readouterr().out
    service.counted = None
    assert run(service, to) == 0
    del service.objects[gone]
    assert run(service, to) == 0
    assert "1 files are of objects that the service holds no longer" in capsys.readouterr().out


def test_two_patients_studies_of_one_uid_get_folders_of_their_own(service: Archived, tmp_path: Path) -> None:
    service.hold("1.1#one", "1.1.1", "1.1.1.1", data=b"one")
    service.hold("1.1#two", "1.1.2", "1.1.1.1", data=b"two")
    to = tmp_path / "to"
    assert run(service, to) == 0
    assert sorted(path.read_bytes() for path in to.rglob("*.dcm")) == [b"one", b"two"]


@pytest.mark.parametrize("uid", ["", ".", "..", "../../etc", "/etc/passwd", "1.2/3", "1" * 65, "1.2\n", ".1"])
def test_a_uid_that_is_none_is_no_path(uid: str) -> None:
    assert name_of(uid, "identifier") == "identifier"


def test_a_uid_is_a_name() -> None:
    assert name_of("1.2.840.10008", "identifier") == "1.2.840.10008"


def test_an_object_whose_uids_are_a_path_stays_in_the_folder(service: Archived, tmp_path: Path) -> None:
    service.hold("../..", "..", "../../../out")
    to = tmp_path / "deep" / "to"
    assert run(service, to) == 0
    assert [len(path.relative_to(to).parts) for path in to.rglob("*.dcm")] == [3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "service"]


def test_the_manifest_is_what_md5sum_checks(service: Archived, tmp_path: Path) -> None:
    service.hold("1.1", "1.1.1", "1.1.1.1")
    to = tmp_path / "to"
    assert run(service, to) == 0
    (check,) = [line for line in (ROOT / "docs" / "archives.md").read_text().splitlines() if line.startswith("awk ")]
    assert subprocess.run(check, shell=True, cwd=to, check=False).returncode == 0  # noqa: S602
    (to / "1.1" / "1.1.1" / "1.1.1.1.dcm").write_bytes(b"OTHER")
    assert subprocess.run(check, shell=True, cwd=to, check=False, capture_output=True).returncode != 0  # noqa: S602


def test_a_full_disk_ends_the_run_and_leaves_no_half_file(service: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service.hold("1.1", "1.1.1", "1.1.1.1")
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened(full if str(path).endswith(".part") else path, *rest))
    to = tmp_path / "to"
    with pytest.raises(OSError, match="No space left on device"):
        run(service, to)
    assert list(to.rglob("*.dcm*")) == []
    monkeypatch.undo()
    assert run(service, to) == 0


def test_bad_arguments_are_one_line_each(service: Archived, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").touch()

    def complaint(to: Path, parallel: int = 1, **changes: object) -> str:
        with pytest.raises(Trouble) as told:
            carry_out(service.target(**changes), to, parallel=parallel)
        return str(told.value)

    assert complaint(tmp_path / "file").endswith("file is a file. Give a folder: TO=...")
    assert "holds something else (thesis.txt). Give a new or an empty one: TO=..." in complaint(other)
    assert complaint(tmp_path / "new", 33) == "PARALLEL=33 is not between 1 and 32."
    assert complaint(tmp_path / "new", admin=None).startswith("no admin's password of the pretended service is known here")
    assert not (tmp_path / "new").exists()
    assert run(service, tmp_path / "new") == 0
    stranger = certificates.make_authority("another service's", "ecdsa").certificate
    assert "holds an export of another service" in complaint(tmp_path / "new", authority=stranger)
    assert "certificate can't be verified" in complaint(tmp_path / "newer", authority=stranger)
    assert "refuses the admin (status 401)" in complaint(tmp_path / "newest", admin=Login(name="admin", password="wrong"))
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o755)
    assert run(service, empty) == 0
    assert stat.S_IMODE(empty.stat().st_mode) == 0o700


def test_no_password_is_told_or_written(service: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service.hold("1.1", "1.1.1", "1.1.1.1")
    to = tmp_path / "to"
    assert run(service, to) == 0
    admin = service.target().admin
    assert admin is not None
    written = b"".join(path.read_bytes() for path in to.rglob("*") if path.is_file()).decode()
    assert admin.password not in capsys.readouterr().out + written
