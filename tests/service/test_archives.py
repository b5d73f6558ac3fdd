"""`make import` and `make export` against the real service: nginx, Orthanc and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.errors import InvalidDicomError

from laptop import study
from laptop.docker import compose
from laptop.site import Enrolment
from operations.__main__ import main
from tests.service.stack import Stack, eventually
from tests.unit.recording import ROOT

HERE = Path(pydicom.data.__file__).parent / "test_files"
# Of the files that come with pydicom: several classes, and transfer syntaxes of each kind.
SAMPLES = (
    "CT_small.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000.dcm",
    "examples_jpeg2k.dcm",
    "SC_rgb_rle.dcm",
    "examples_palette.dcm",
    "image_dfl.dcm",
    "liver_expb_1frame.dcm",
    "reportsi.dcm",
    "rtdose_1frame.dcm",
    "rtplan.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
)


@pytest.fixture(autouse=True)
def _of_this_service(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.peer("CT1")  # writes its bundle
    monkeypatch.setattr("operations.__main__.HOME", stack.home)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder as an old archive has it: files of any name and depth, and others between them."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in SAMPLES:
        deep = folder / Path(name).stem / "deep"
        deep.mkdir(parents=True)
        shutil.copy(HERE / name, deep / "00000001")
    write_series(folder / "series", "round trip", 20)
    (folder / "README").write_text("no image")
    shutil.copy(HERE / "dicomdirtests" / "DICOMDIR", folder)
    return folder


def write_series(folder: Path, seed: str, slices: int) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(study.series(slices=slices, seed=seed)):
        image.save_as(folder / f"IM{number:04}", enforce_file_format=True)


def objects_of(folder: Path) -> Mapping[str, str]:
    """The hash of each object's elements, pixels too, by SOP instance, without the file's own header."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_file() or path.name == "DICOMDIR":
            continue
        try:
            image = pydicom.dcmread(path)
        except InvalidDicomError:
            continue
        found[str(image.SOPInstanceUID)] = hashlib.sha256(image.to_json().encode()).hexdigest()
    return found


def series_of(seed: str) -> str:
    return str(next(study.series(slices=1, seed=seed)).StudyInstanceUID)


def remove(stack: Stack, study_uids: set[str]) -> None:
    for uid in study_uids:
        found = stack.web("/tools/lookup", method="POST", body=uid).json()
        assert isinstance(found, list)
        for one in found:
            if one["Type"] == "Study":
                assert stack.web(f"/studies/{one['ID']}", method="DELETE").status == 200


def held(stack: Stack, seed: str) -> int:
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": series_of(seed)}}
    found = stack.web("/tools/find", method="POST", body=json.dumps(query)).json()
    assert isinstance(found, list)
    return len(found)


def bring_in(folder: Path, out: Path) -> int:
    return main(["import", str(folder), "--aet", "CT1", "--out", str(out), "--parallel", "3"])


def test_what_is_brought_in_is_carried_out_and_comes_back_the_same(
    stack: Stack, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    sent = objects_of(archive)
    assert len(sent) == len(SAMPLES) + 20
    assert bring_in(archive, tmp_path / "out") == 0, (tmp_path / "out" / "refused.txt").read_text()
    said = capsys.readouterr().out
    assert f"{len(sent)} stored" in said
    assert "1 files are not DICOM, 1 are a DICOMDIR" in said
    assert main(["export", str(first)]) == 0
    assert "complete: " in capsys.readouterr().out
    before = objects_of(first)
    assert {uid: before[uid] for uid in sent} == sent, "as they were sent"

    studies = {str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in first.rglob("*.dcm")}
    remove(stack, studies)
    assert stack.web("/statistics").json()["CountInstances"] == 0  # type: ignore[index]
    assert bring_in(first, tmp_path / "out again") == 0
    assert main(["export", str(again)]) == 0
    assert objects_of(again) == before
    assert {path.relative_to(first) for path in first.rglob("*.dcm")} == {path.relative_to(again) for path in again.rglob("*.dcm")}


def test_kill_9_in_the_middle_and_the_next_run_sends_the_rest(stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "series", "killed", 120)
    program = f"import pathlib, sys, operations.__main__ as m; m.HOME = pathlib.Path({str(stack.home)!r}); sys.exit(m.main(sys.argv[1:]))"
    arguments = ["import", str(tmp_path / "series"), "--aet", "CT1", "--out", str(tmp_path / "out")]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        journal = tmp_path / "out" / "stored.journal"
        eventually("some are stored", lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 20, 60)
        os.kill(process.pid, signal.SIGKILL)
    noted = journal.read_bytes().count(b"\n")
    assert 20 <= noted < 120
    assert bring_in(tmp_path / "series", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert f"{120 - noted} stored" in said
    assert f"{noted} were stored by an earlier run" in said
    assert held(stack, "killed") == 120


def in_the_middle(out: Path, count: int, do: Callable[[], object]) -> threading.Thread:
    """Do it once so many are acknowledged."""

    def wait() -> None:
        journal = out / "stored.journal"
        while not journal.exists() or journal.read_bytes().count(b"\n") < count:
            time.sleep(0.01)
        do()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("seed", "commands"),
    [
        ("Orthanc killed", [("kill", "orthanc"), ("up", "--detach", "--wait", "--pull", "never", "orthanc")]),
        ("database away", [("stop", "--timeout", "5", "postgres"), ("up", "--detach", "--wait", "--pull", "never", "postgres")]),
        ("gateway restarted", [("restart", "--timeout", "1", "nginx")]),
    ],
)
def test_an_outage_in_the_middle_is_waited_out(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: str, commands: Sequence[Sequence[str]]
) -> None:
    write_series(tmp_path / "series", seed, 100)
    outage = in_the_middle(tmp_path / "out", 15, lambda: [compose(stack.home, *command) for command in commands])
    code = bring_in(tmp_path / "series", tmp_path / "out")
    outage.join(120)
    stack.wait_healthy("orthanc", 120)
    assert code == 0, (tmp_path / "out" / "refused.txt").read_text()
    assert "0 refused" in capsys.readouterr().out
    assert held(stack, seed) == 100


def test_what_orthanc_does_not_take_is_refused_and_the_rest_is_stored(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "series"
    write_series(folder, "some bad", 6)
    whole = (folder / "IM0000").read_bytes()
    (folder / "IM0000").write_bytes(whole[: len(whole) // 2])
    image = pydicom.dcmread(folder / "IM0001")
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = pydicom.uid.UID("1.2.840.99999.1")
    image.save_as(folder / "IM0001")
    assert bring_in(folder, tmp_path / "out") == 1
    rows = [line.split("\t") for line in (tmp_path / "out" / "refused.txt").read_text().splitlines()]
    assert {Path(path).name: why for path, why in rows} == {
        "IM0000": "it is cut off",
        "IM0001": "the service takes no 1.2.840.99999.1 in Explicit VR Little Endian",
    }
    assert held(stack, "some bad") == 4
    assert "2 refused: see " in capsys.readouterr().out


def test_a_modality_that_may_not_store_is_told_so(stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack.enrol(Enrolment(aet="LOOKS", may=("find",)))
    stack.peer("LOOKS")
    assert main(["import", str(tmp_path), "--aet", "LOOKS"]) == 2
    assert "LOOKS may not store. Name a modality that may: AET=..." in capsys.readouterr().err
    stack.strike("LOOKS")
