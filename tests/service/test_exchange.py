"""What comes back is what was sent: DICOM over mutual TLS and DICOMweb, with two independent implementations as peers."""

from __future__ import annotations

import io
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from laptop import study
from laptop.certificates import make_authority
from tests.service.stack import Stack, dcmtk


@pytest.fixture(scope="module")
def images(stack: Stack) -> list[Dataset]:
    made = list(study.series(slices=3, seed="exchange", patient="Exchange^Patient"))
    assert stack.peer("CT1").store(made) == len(made)
    return made


def same_image(one: Dataset, other: Dataset) -> bool:
    """Every element equal; the pixels bit for bit."""
    return bool(one == other) and one.PixelData == other.PixelData


def by_uid(images: list[Dataset]) -> dict[str, Dataset]:
    return {str(image.SOPInstanceUID): image for image in images}


def test_dcmtk_echoes(stack: Stack) -> None:
    done = dcmtk("echoscu", stack.peer("CT1"))
    assert done.returncode == 0, done.stderr


def test_dcmtk_stores_and_finds_what_it_stored(stack: Stack, tmp_path: Path) -> None:
    image = next(study.series(slices=1, seed="dcmtk", patient="Dcmtk^Patient"))
    path = tmp_path / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    done = dcmtk("storescu", stack.peer("CT1"), str(path))
    assert done.returncode == 0, done.stderr
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=Dcmtk*", "-k", "StudyInstanceUID")
    found = dcmtk("findscu", stack.peer("CT1"), *keys)
    assert found.returncode == 0, found.stderr
    assert str(image.StudyInstanceUID) in found.stdout + found.stderr


def test_pynetdicom_finds_a_study_with_its_number_of_images(stack: Stack, images: list[Dataset]) -> None:
    found = stack.peer("CT1").find_studies(PatientName="Exchange*")
    assert [(str(f.StudyInstanceUID), int(f.NumberOfStudyRelatedInstances)) for f in found] == [(str(images[0].StudyInstanceUID), 3)]


def test_c_get_returns_the_images_bit_for_bit(stack: Stack, images: list[Dataset]) -> None:
    got: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        got.append(event.dataset)
        return 0

    peer = stack.peer("WS1")
    entity = AE(ae_title=peer.aet)
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    entity.add_requested_context(CTImageStorage)
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.called,
        tls_args=(peer.context(), peer.host),
        ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = images[0].StudyInstanceUID
    statuses = [status.Status for status, _ in association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet)]
    association.release()
    assert statuses[-1] == 0
    sent = by_uid(images)
    assert sorted(sent) == sorted(str(image.SOPInstanceUID) for image in got)
    assert all(same_image(image, sent[str(image.SOPInstanceUID)]) for image in got)


def move_to_ws1(stack: Stack, images: list[Dataset]) -> int:
    """The final status of a C-MOVE (PS3.4 C.4.2.1.5): 0 when every image arrived. (dcmtk's own movescu has no TLS.)"""
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = images[0].StudyInstanceUID
    with stack.peer("CT1").association() as association:
        answers = [status.Status for status, _ in association.send_c_move(query, "WS1", StudyRootQueryRetrieveInformationModelMove)]
    return int(answers[-1])


def test_c_move_delivers_to_a_tls_receiver_bit_for_bit(stack: Stack, images: list[Dataset], tmp_path: Path) -> None:
    peer = stack.peer("WS1")
    with stack.receiver(tmp_path, peer.bundle, "WS1") as arrived, stack.logs_line("nginx", r'"what":"dicom-out","status":200'):
        assert move_to_ws1(stack, images) == 0
    got = [pydicom.dcmread(path) for path in arrived.iterdir()]
    sent = by_uid(images)
    assert sorted(sent) == sorted(str(image.SOPInstanceUID) for image in got)
    assert all(same_image(image, sent[str(image.SOPInstanceUID)]) for image in got)


def test_c_move_is_refused_when_the_receiver_shows_another_modalitys_certificate(
    stack: Stack, images: list[Dataset], tmp_path: Path
) -> None:
    wrong = stack.peer("CT1")
    reason = r'upstream SSL certificate does not match "ws1\.modality\.orthanc"'
    with stack.receiver(tmp_path, wrong.bundle, "CT1") as arrived, stack.logs_line("nginx", reason):
        assert move_to_ws1(stack, images) != 0
    assert list(arrived.iterdir()) == []


def test_c_move_is_refused_when_the_receiver_shows_a_certificate_of_another_authority(
    stack: Stack, images: list[Dataset], tmp_path: Path
) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    stack.foreign("WS1", authority=make_authority("another authority", "rsa"), folder=folder)
    with stack.receiver(tmp_path, folder, "WS1") as arrived, stack.logs_line("nginx", "upstream SSL certificate verify error"):
        assert move_to_ws1(stack, images) != 0
    assert list(arrived.iterdir()) == []


def test_dicomweb_stores_finds_and_returns_an_image_bit_for_bit(stack: Stack) -> None:
    image = next(study.series(slices=1, seed="dicomweb", patient="Dicomweb^Patient"))
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    body = b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + buffer.getvalue() + b"\r\n--edge--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=edge'
    stow = stack.web("/dicom-web/studies", method="POST", body=body, headers={"Content-Type": kind, "Accept": "application/dicom+json"})
    assert stow.status == 200, stow.body

    qido = stack.web("/dicom-web/studies?PatientName=Dicomweb*", headers={"Accept": "application/dicom+json"}).json()
    assert isinstance(qido, list)
    assert [entry["0020000D"]["Value"] for entry in qido] == [[str(image.StudyInstanceUID)]]
    # Links lead back through the front door.
    assert qido[0]["00081190"]["Value"][0].startswith("https://localhost:28443/dicom-web/")

    where = f"/dicom-web/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    wado = stack.web(where, user="reader", headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
    assert wado.status == 200
    message = BytesParser().parsebytes(b"Content-Type: " + wado.headers["content-type"].encode() + b"\r\n\r\n" + wado.body)
    (part,) = message.walk() if not message.is_multipart() else list(message.walk())[1:]
    content = wado.body[wado.body.index(b"\r\n\r\n") + 4 : wado.body.rindex(b"\r\n--")]
    assert part.get_content_type() == "application/dicom"
    assert same_image(pydicom.dcmread(io.BytesIO(content)), image)


def test_a_study_comes_back_as_a_zip_archive(stack: Stack, images: list[Dataset]) -> None:
    lookup = stack.web("/tools/lookup", method="POST", body=str(images[0].StudyInstanceUID)).json()
    assert isinstance(lookup, list)
    answer = stack.web(lookup[0]["Path"] + "/archive", user="reader")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        got = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    sent = by_uid(images)
    assert len(got) == len(images)
    assert all(same_image(image, sent[str(image.SOPInstanceUID)]) for image in got)


def test_images_of_other_modalities_are_taken_too(stack: Stack) -> None:
    ct, mr = study.samples()
    assert {ct.SOPClassUID, mr.SOPClassUID} == {CTImageStorage, MRImageStorage}
    assert stack.stored(ct.SOPInstanceUID)
    assert stack.stored(mr.SOPInstanceUID)
