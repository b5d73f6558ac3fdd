"""docs/connecting.md does what it says: its blocks are run as they stand there, in a bundle's folder, with this service's ports."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from pydicom.data import get_testdata_file
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    Verification,
)

from laptop import study
from tests.lacking import leave_out
from tests.service.stack import DICOM_PORT, WEB_PORT, Stack, free_port, wait_for_port

PAGE = (Path(__file__).resolve().parents[2] / "docs/connecting.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    """The page's one block in which this stands, with the test service's ports for the laptop's."""
    (found,) = (body for body in re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE) if holding in body)
    return (
        str(found)
        .replace("\\\n", "")
        .replace("11112", str(DICOM_PORT))
        .replace("8443", str(WEB_PORT))
        .replace("../../../.venv/bin/python", sys.executable)
    )


def lines(text: str, *programs: str) -> str:
    """Those of a block that begin with one of the programs; each of them stands there once."""
    kept = [line for line in text.splitlines() if line.startswith(programs)]
    assert len(kept) == len(programs), f"not once each: {programs}"
    return "\n".join(kept)


def run(script: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["sh", "-eu", "-c", script], cwd=folder, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def bundle(stack: Stack, tmp_path: Path) -> Path:
    """CT1's, as `make demo-enrol AET=CT1` writes it."""
    return Path(shutil.copytree(stack.peer("CT1").bundle, tmp_path / "CT1"))


def test_dcmtks_commands_store_an_image_and_find_its_study(stack: Stack, bundle: Path) -> None:
    done = run(lines(block("sh", "storescu -v"), "cp ", "echoscu ", "storescu ", "findscu "), bundle)
    image = pydicom.dcmread(bundle / "image.dcm")
    assert stack.stored(image.SOPInstanceUID)
    assert f"[{image.StudyInstanceUID}" in done.stdout + done.stderr


def test_the_receiver_shows_itself_to_the_server_and_is_sent_an_image(stack: Stack, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stack.peer("WS1").bundle, tmp_path / "WS1"))
    prepare, receive = lines(block("sh", "storescp -v"), "mkdir ", "storescp ").replace("11113", str(stack.receiver_port)).splitlines()
    run(prepare, folder)
    login = folder / "login"  # instead of --user, for which curl would ask a person
    login.write_text(f"machine localhost login admin password {stack.site.password('admin')}\n")
    ask = block("sh", "curl").replace("--user admin", f"--silent --show-error --netrc-file {login}")
    image = next(study.series(slices=1, seed="receiver", patient="Receiver^Patient"))
    assert stack.peer("CT1").store([image]) == 1
    with subprocess.Popen(shlex.split(receive), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as listening:
        try:
            wait_for_port(stack.here, stack.receiver_port)
            assert run(ask, folder).stdout.strip() == "{}"
            assert stack.web("/modalities/WS1/store", method="POST", body=stack.stored(image.SOPInstanceUID)).status == 200
        finally:
            listening.terminate()
    (arrived,) = (folder / "received").iterdir()
    assert pydicom.dcmread(arrived).PixelData == image.PixelData
    assert subprocess.run(shlex.split(ask), cwd=folder, capture_output=True, check=False).returncode != 0, "nobody listens any more"


def test_the_pages_python_stores_an_image(stack: Stack, bundle: Path) -> None:
    image = next(study.series(slices=1, seed="page", patient="Page^Patient"))
    image.save_as(bundle / "image.dcm", enforce_file_format=True)
    done = subprocess.run(
        [sys.executable, "-c", block("python", "import ssl")], cwd=bundle, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0x0\n"), done.stderr
    assert stack.stored(image.SOPInstanceUID)


def test_the_one_file_holds_certificate_key_and_authority(bundle: Path) -> None:
    command = block("sh", "pkcs12").strip()
    run(f"{command} -passout stdin", bundle, stdin="a password\n")  # at a terminal openssl asks for it
    held = load_pkcs12((bundle / "CT1.p12").read_bytes(), b"a password")
    assert held.key is not None
    assert held.cert is not None
    assert held.cert.friendly_name == b"CT1"
    assert [chained.certificate.subject for chained in held.additional_certs] == [held.cert.certificate.issuer]


@contextmanager
def plain_listener(asked: list[str]) -> Iterator[int]:
    """What stands at the site in the gateway's place: DICOM without TLS, under the server's AE title."""

    def echoed(event: evt.Event) -> int:
        asked.append(f"{event.assoc.requestor.ae_title} echoes")
        return 0

    def stored(event: evt.Event) -> int:
        asked.append(f"{event.assoc.requestor.ae_title} stores {event.dataset.SOPInstanceUID}")
        return 0

    entity = AE(ae_title="ORTHANC")
    entity.require_called_aet = True
    entity.add_supported_context(Verification)
    entity.add_supported_context(CTImageStorage)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_ECHO, echoed), (evt.EVT_C_STORE, stored)])
    try:
        yield port
    finally:
        assert server is not None
        server.shutdown()


def test_gdcms_commands_reach_a_plain_listener(tmp_path: Path) -> None:
    if shutil.which("gdcmscu") is None:
        leave_out("not installed: gdcmscu ('make test' installs it)")
    image = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    image.save_as(tmp_path / "image.dcm")
    asked: list[str] = []
    with plain_listener(asked) as port:
        for command in block("sh", "gdcmscu").splitlines():
            here = command.replace(f"192.168.1.5 {DICOM_PORT}", f"127.0.0.1 {port}")
            done = subprocess.run(shlex.split(here), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
            # What the page says of Debian's: it aborts once all is done. A later one may end as it should.
            assert done.returncode == 0 or "ProtocolStream as nullptr is invalid" in done.stderr, done.stdout + done.stderr
    assert asked == ["CT1 echoes", f"CT1 stores {image.SOPInstanceUID}"]
