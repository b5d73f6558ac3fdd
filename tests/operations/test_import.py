"""`make import` against a service on this machine that refuses, breaks off and goes away as a test says."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    generate_uid,
)

from laptop import study
from laptop.tell import Trouble
from operations.__main__ import main
from operations.archive import patience
from operations.archive.folder import File, NotDicom, Unreadable, cut_off, examine, files, printable
from operations.archive.imports import bring_in, place_of
from operations.archive.journal import Journal
from operations.archive.pace import Pace, duration
from operations.archive.patience import Failing, Refused
from operations.archive.sender import MOST, Sender, contexts, judge
from operations.verify.target import Modality
from tests.operations.archived import Archived, archiving
from tests.operations.served import authority
from tests.unit.recording import ROOT

CT = (CTImageStorage, ExplicitVRLittleEndian)
MR = (MRImageStorage, ImplicitVRLittleEndian)
J2K = (CTImageStorage, JPEG2000Lossless)
DEFLATED = (CTImageStorage, DeflatedExplicitVRLittleEndian)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.05)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Archived]:
    with archiving(tmp_path / "service", CT, MR, J2K, DEFLATED) as archived:
        yield archived


def write_object(path: Path, kind: tuple[UID, UID] = CT, *, name: str = "Doe^Jane") -> str:
    """A DICOM file at that path; returns its SOP instance UID."""
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID, one.StudyInstanceUID = kind[0], generate_uid(), generate_uid()
    one.PatientName = name
    one.file_meta = FileMetaDataset()
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.TransferSyntaxUID = kind
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, enforce_file_format=True)
    return str(one.SOPInstanceUID)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def run(service: Archived, archive: Path, out: Path, *, parallel: int = 2) -> int:
    return bring_in(service.target(), archive, parallel=parallel, out=out)


def refused(out: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in (out / "refused.txt").read_text().splitlines()]
    return {Path(path).name: why for path, why in rows}


def test_every_object_is_sent_once_whatever_its_name_depth_class_and_transfer_syntax(
    service: Archived, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = [write_object(archive / "one.dcm"), write_object(archive / "a" / "b" / "c" / "IM000001", MR), write_object(archive / "ü\n", J2K)]
    (archive / "a" / "notes.txt").write_text("no image")
    (archive / "empty").touch()
    write_object(archive / "DICOMDIR", (MediaStorageDirectoryStorage, ExplicitVRLittleEndian))
    assert run(service, archive, tmp_path / "out") == 0
    assert sorted(service.received) == sorted(sent)
    said = capsys.readouterr().out
    assert "3 stored" in said
    assert "2 files are not DICOM, 1 are a DICOMDIR" in said
    assert "0 refused" in said


def test_no_patients_name_is_told_or_noted(service: Archived, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_object(archive / "one", name="Secret^Name")
    service.statuses[write_object(archive / "two", name="Secret^Name")] = [0xA900]
    assert run(service, archive, tmp_path / "out") == 1
    noted = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert "Secret" not in capsys.readouterr().out + noted
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_second_run_sends_only_what_was_not_acknowledged(
    service: Archived, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = write_object(archive / "bad"), write_object(archive / "good")
    service.statuses[bad] = [0xC000]
    assert run(service, archive, tmp_path / "out") == 1
    assert refused(tmp_path / "out") == {"bad": "status 0xc000"}
    service.statuses.clear()
    new = write_object(archive / "new")
    assert run(service, archive, tmp_path / "out") == 0
    assert "1 were stored by an earlier run" in capsys.readouterr().out
    assert service.received[0] == good
    assert sorted(service.received[1:]) == sorted([bad, new])
    assert refused(tmp_path / "out") == {}


def test_a_file_that_has_changed_since_is_sent_again(service: Archived, archive: Path, tmp_path: Path) -> None:
    write_object(archive / "one")
    assert run(service, archive, tmp_path / "out") == 0
    again = write_object(archive / "one", MR)
    assert run(service, archive, tmp_path / "out") == 0
    assert service.received[1:] == [again]


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_cut_off_last_line_of_the_journal_is_nothing_and_spoils_no_other(
    service: Archived, archive: Path, tmp_path: Path, cut: int
) -> None:
    for number in range(3):
        write_object(archive / f"{number}")
    assert run(service, archive, tmp_path / "out", parallel=1) == 0
    journal = tmp_path / "out" / "stored.journal"
    journal.write_bytes(journal.read_bytes()[:-cut])
    last = service.received[-1]
    assert run(service, archive, tmp_path / "out") == 0
    assert service.received[3:] == [last]
    assert run(service, archive, tmp_path / "out") == 0
    assert len(service.received) == 4, "what was appended after the cut-off line is read"


def test_kill_9_loses_nothing_that_was_acknowledged(service: Archived, archive: Path, tmp_path: Path) -> None:
    for number in range(300):
        write_object(archive / f"{number:03}")
    target = service.target()
    assert target.modality is not None
    program = (
        "import sys; from pathlib import Path; from operations.archive.imports import bring_in; from operations.verify.target import *\n"
        f"target = Target(name='x', short='x', host='127.0.0.1', aet='ORTHANC', "
        f"dicom_port={target.dicom_port}, web_port={target.web_port}, "
        f"authority=Path({str(target.modality.bundle / 'authority.crt')!r}).read_text(), admin=None, "
        f"modality=Modality(aet='CT1', bundle=Path({str(target.modality.bundle)!r}), may=('store',)))\n"
        f"bring_in(target, Path({str(archive)!r}), parallel=2, out=Path({str(tmp_path / 'out')!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while len(service.received) < 40 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    acknowledged = len(service.received)
    assert 40 <= acknowledged < 300
    assert run(service, archive, tmp_path / "out") == 0
    assert len(set(service.received)) == 300
    assert len(service.received) <= 302, "each association may have had one answer under way"


def test_what_the_service_does_not_want_is_refused_and_listed_and_keeps_nobody_else(
    service: Archived, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_object(archive / "pdf", (EncapsulatedPDFStorage, ExplicitVRLittleEndian))
    write_object(archive / "private", (UID("1.2.840.113619.4.27"), ExplicitVRLittleEndian))
    write_object(archive / "implicit", (CTImageStorage, ImplicitVRLittleEndian))
    good = write_object(archive / "good")
    head = (archive / "good").read_bytes()
    (archive / "no-meta").write_bytes(head[:132] + b"\x08\x00\x05\x00CS\x04\x00ABCD")
    (archive / "cut-off").write_bytes(head[:150])
    (archive / "odd").write_bytes(head[:-1])
    assert run(service, archive, tmp_path / "out", parallel=1) == 1
    assert service.received == [good]
    assert refused(tmp_path / "out") == {
        "pdf": "the service takes no Encapsulated PDF Storage in Explicit VR Little Endian",
        "private": "the service takes no 1.2.840.113619.4.27 in Explicit VR Little Endian",
        "implicit": "the service takes no CT Image Storage in Implicit VR Little Endian",
        "no-meta": "it does not say its SOP class, SOP instance, transfer syntax",
        "cut-off": refused(tmp_path / "out")["cut-off"],
        "odd": "it is cut off: an odd number of bytes",
    }
    assert refused(tmp_path / "out")["cut-off"].startswith("it")
    assert f"6 refused: see {tmp_path / 'out' / 'refused.txt'}" in capsys.readouterr().out


@pytest.mark.parametrize("odd", [False, True])
def test_a_deflated_object_is_stored_whether_its_bytes_are_odd_or_not(service: Archived, archive: Path, tmp_path: Path, odd: bool) -> None:
    """An odd one gets the byte that it lacks on its way; the service would wait for more."""
    path = archive / "one"
    sent = write_object(path, DEFLATED)
    if examine(str(path)).as_it_is == odd:
        path.write_bytes(path.read_bytes() + b"\0")
    assert examine(str(path)).as_it_is != odd
    before = path.read_bytes()
    assert run(service, archive, tmp_path / "out", parallel=1) == 0
    assert service.received == [sent]
    assert service.sizes == [service.sizes[0] // 2 * 2]
    assert path.read_bytes() == before


@pytest.mark.parametrize("keyword", ["MediaStorageSOPInstanceUID", "MediaStorageSOPClassUID"])
@pytest.mark.parametrize("said", ["another's", "nothing"])
def test_what_the_data_set_says_counts_and_not_the_header_of_the_file(
    service: Archived, archive: Path, tmp_path: Path, keyword: str, said: str
) -> None:
    uid = write_object(archive / "one")
    one = dcmread(archive / "one")
    if said == "nothing":
        delattr(one.file_meta, keyword)
    else:
        setattr(one.file_meta, keyword, UID("1.2.3"))
    one.save_as(archive / "one", enforce_file_format=False)
    with pytest.raises(AttributeError) if said == "nothing" else nullcontext():
        assert getattr(dcmread(archive / "one").file_meta, keyword) == "1.2.3"
    before = (archive / "one").read_bytes()
    assert run(service, archive, tmp_path / "out") == 0
    assert service.received == [uid]
    assert (archive / "one").read_bytes() == before


def test_an_outage_is_waited_out_and_no_file_is_refused_for_it(
    service: Archived, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "TOLD_AFTER_SECONDS", 0.3)
    for number in range(60):
        write_object(archive / f"{number:03}")

    def outage() -> None:
        while len(service.received) < 10:
            time.sleep(0.005)
        service.down.set()
        time.sleep(1)
        service.down.clear()

    thread = threading.Thread(target=outage)
    thread.start()
    assert run(service, archive, tmp_path / "out") == 0
    thread.join()
    assert len(set(service.received)) == 60
    said = capsys.readouterr().out
    assert "waiting for the service: " in said
    assert "it goes on, after " in said
    assert "0 refused" in said


def test_a_service_that_says_it_has_no_room_for_now_is_asked_again(service: Archived, archive: Path, tmp_path: Path) -> None:
    service.statuses[write_object(archive / "one")] = [0xA700, 0xA700, 0]
    service.statuses[write_object(archive / "two")] = [None, 0x0110, 0]
    assert run(service, archive, tmp_path / "out") == 0
    assert len(service.received) == 2


@pytest.mark.parametrize(("status", "why"), [(0xA700, "status 0xa700, 4 times"), (None, "the service broke off, 4 times")])
def test_a_file_that_a_well_service_never_takes_is_refused_in_the_end(
    service: Archived, archive: Path, tmp_path: Path, status: int | None, why: str
) -> None:
    service.statuses[write_object(archive / "poison")] = [status]
    good = [write_object(archive / f"z{number}") for number in range(5)]
    assert run(service, archive, tmp_path / "out", parallel=1) == 1
    assert refused(tmp_path / "out") == {"poison": why}
    assert sorted(service.received) == sorted(good)


def test_a_service_that_stays_away_ends_the_run_with_what_to_do(
    service: Archived, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "GIVEN_UP_AFTER_SECONDS", 0.5)
    uid = write_object(archive / "one")
    service.answers["/changes?last"] = [503] * 1000
    service.statuses[uid] = [0xA700]
    with pytest.raises(Trouble, match=r"has not answered for .* run the same command again"):
        run(service, archive, tmp_path / "out")
    assert refused(tmp_path / "out") == {}
    service.statuses.clear()
    assert run(service, archive, tmp_path / "out") == 0


def test_bad_arguments_are_one_line_each(service: Archived, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    modality = service.target().modality
    assert modality is not None

    def complaint(folder: Path = archive, parallel: int = 1, may: Sequence[str] | None = ("store",)) -> str:
        changed = None if may is None else Modality(aet="CT1", bundle=modality.bundle, may=tuple(may))  # type: ignore[arg-type]
        with pytest.raises(Trouble) as told:
            bring_in(service.target(modality=changed), folder, parallel=parallel, out=tmp_path / "out")
        return str(told.value)

    assert complaint(tmp_path / "gone").endswith("gone is not there. Give the folder that holds the archive: FROM=...")
    assert complaint(tmp_path / "file").endswith("file is a file. Give the folder that holds the archive: FROM=...")
    assert complaint(parallel=0) == "PARALLEL=0 is not between 1 and 32."
    assert complaint(may=("find",)).startswith("CT1 may not store. Name a modality that may: AET=...")
    assert complaint(may=None).startswith("the pretended service has no modality whose key is known here")
    assert not (tmp_path / "out").exists()
    with pytest.raises(Trouble, match="got no association"):
        bring_in(service.target(dicom_port=1), archive, parallel=1, out=tmp_path / "out")


def test_without_a_demo_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("operations.__main__.HOME", tmp_path / "none")
    assert main(["import", str(tmp_path)]) == main(["export", str(tmp_path / "out")]) == 2
    assert "run 'make demo' first, or name a stack on AWS: STACK=dev" in capsys.readouterr().err


def test_two_runs_do_not_write_one_journal(service: Archived, archive: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "out" / "stored.journal"), pytest.raises(Trouble, match=r"another run writes .*stored\.journal"):
        run(service, archive, tmp_path / "out")


def test_another_service_has_another_journal(service: Archived) -> None:
    one = place_of(service.target())
    assert one.parent == Path("imports")
    assert one.name.startswith("pretended-")
    from laptop import certificates  # noqa: PLC0415

    assert place_of(service.target(authority=certificates.make_authority("other", "ecdsa").certificate)) != one
    assert place_of(service.target(authority=authority().certificate)) == one


# -- decisions -------------------------------------------------------------------------------------------------------------


def test_contexts_are_one_for_each_pair_and_one_for_the_echo() -> None:
    from operations.archive.folder import Header  # noqa: PLC0415

    pairs = {Header(UID(f"1.2.{number}"), ExplicitVRLittleEndian) for number in range(MOST)}
    made = contexts(pairs)
    assert len(made) == 128
    assert all(len(context.transfer_syntax) == 1 for context in made[1:])


def test_an_association_grows_with_what_files_need_and_is_renewed_when_it_is_full(service: Archived, archive: Path) -> None:
    """Each batch needs 60 pairs of its own: two fit into one association, three do not."""
    from operations.archive.folder import Header  # noqa: PLC0415

    modality = service.target().modality
    assert modality is not None
    sender = Sender(service.target().peer(modality))
    write_object(archive / "one")
    ct = Header(*CT)
    for batch, expected in ((0, 62), (1, 122), (2, 122)):
        needed = {Header(UID(f"1.2.{batch}.{number}"), ExplicitVRLittleEndian) for number in range(60)}
        sender.send(str(archive / "one"), 500, ct, needed)
        assert service.most_contexts == expected
    sender.send(str(archive / "one"), 500, ct, {ct})
    assert service.associations == 3
    sender.close()


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB007, 0xBFFF])
def test_success_and_warnings_mean_stored(status: int) -> None:
    judge(status)


@pytest.mark.parametrize(
    ("status", "error"),
    [(0xA700, Failing), (0x0110, Failing), (0x0124, Failing), (0xA900, Refused), (0xC000, Refused), (0x0106, Refused), (0xFE00, Refused)],
)
def test_other_statuses_mean_perhaps_later_or_never(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{status:#06x}"):
        judge(status)


def test_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = [patience.pause(failures) for failures in range(1, 100)]
    assert pauses[:5] == [0.5, 1, 2, 4, 8]
    assert set(pauses[5:]) == {15.0}


def _no_link(path: str) -> None:
    raise AssertionError(path)


def test_linked_folders_are_not_followed_and_are_told_and_linked_files_are_sent(
    service: Archived, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = [write_object(archive / "a" / "one"), write_object(tmp_path / "elsewhere" / "file")]
    write_object(tmp_path / "elsewhere" / "behind" / "two")
    (archive / "link-to-file").symlink_to(tmp_path / "elsewhere" / "file")
    assert run(service, archive, tmp_path / "out") == 0
    assert "linked folders" not in capsys.readouterr().out
    (archive / "a" / "circle").symlink_to(archive)
    assert run(service, archive, tmp_path / "out") == 0
    assert f"1 linked folders were not followed ({archive}/a/circle): they may lead in circles." in capsys.readouterr().out
    (archive / "b").symlink_to(tmp_path / "elsewhere" / "behind")
    assert run(service, archive, tmp_path / "out") == 0
    assert f"2 linked folders were not followed ({archive}/b and others)" in capsys.readouterr().out
    assert sorted(service.received) == sorted(sent)


def test_a_folder_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    told: list[tuple[str, str]] = []
    assert list(files(tmp_path, lambda path, why: told.append((path, why)), _no_link)) == []
    assert [path for path, _ in told] == [str(tmp_path / "loop")]
    told.clear()
    assert list(files(tmp_path / "gone", lambda path, why: told.append((path, why)), _no_link)) == []
    assert told == [(str(tmp_path / "gone"), "No such file or directory")]


def test_a_name_that_is_no_text_has_a_line_and_a_place_in_the_list(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\n")).touch()
    (file,) = files(tmp_path, lambda _path, _why: None, _no_link)
    assert file.line.isascii()
    assert "\n" not in file.line
    assert json.loads(file.line)[0] == file.path
    printable(file.path).encode()
    assert "\n" not in printable(file.path)


def test_a_file_is_known_by_path_size_and_time() -> None:
    lines = {File(path, size, changed).line for path in "ab" for size in (1, 2) for changed in (1, 2)}
    assert len(lines) == 8


@pytest.mark.parametrize("data", [b"", b"short", bytes(200), b"\x89PNG" + bytes(500), bytes(128) + b"DIC"])
def test_other_files_are_not_dicom(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(NotDicom):
        examine(str(tmp_path / "file"))


def test_a_file_that_is_cut_off_is_known_by_its_elements(tmp_path: Path) -> None:
    for number, image in enumerate(study.series(slices=1)):
        image.save_as(tmp_path / str(number), enforce_file_format=True)
    whole = (tmp_path / "0").read_bytes()
    assert not cut_off(str(tmp_path / "0"))
    for left in (len(whole) - 2, len(whole) // 2, 700):
        (tmp_path / "0").write_bytes(whole[:left])
        assert cut_off(str(tmp_path / "0")), left
    write_object(tmp_path / "deflated", DEFLATED)
    assert not cut_off(str(tmp_path / "deflated"))
    assert not cut_off(str(tmp_path / "gone"))


def test_a_file_that_is_cut_off_is_refused_at_its_first_failure(service: Archived, archive: Path, tmp_path: Path) -> None:
    service.statuses[write_object(archive / "one")] = [None]
    data = (archive / "one").read_bytes()
    (archive / "one").write_bytes(data[:-2])
    assert run(service, archive, tmp_path / "out") == 1
    assert refused(tmp_path / "out") == {"one": "it is cut off"}


def test_a_file_that_went_away_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        examine(str(tmp_path / "gone"))


def test_the_rest_takes_as_long_as_its_bytes_did() -> None:
    pace = Pace(bytes_in_all=4_000_000)
    assert pace.left(10) == "?"
    pace.went(1_000_000)
    assert pace.after(10) == "0.1 a second, 0.1 MB a second"
    assert pace.left(40) == "2 min"
    assert [duration(seconds) for seconds in (0, 89, 90, 3599, 12_000, 100_000, 200_000)] == [
        "0 s",
        "89 s",
        "2 min",
        "1 h 0 min",
        "3 h 20 min",
        "1 days 3 h",
        "2 days 7 h",
    ]
