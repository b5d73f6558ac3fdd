"""What comes back is what was sent: DICOM over mutual TLS and DICOMweb, with two independent implementations as peers."""

from __future__ import annotations

import io
import ssl
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.parser import BytesParser
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    MRImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from laptop import study
from laptop.certificates import make_authority
from laptop.peer import Peer
from tests.service.stack import Stack, dcmtk, eventually


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


@contextmanager
def reports_to(peer: Peer, port: int) -> Iterator[list[tuple[int | None, Dataset]]]:
    """Listen as `peer` for what Orthanc reports of storage commitment; yields the events and their information as they come."""
    reports: list[tuple[int | None, Dataset]] = []

    def keep(event: evt.Event) -> tuple[int, None]:
        reports.append((event.event_type, event.event_information))
        return 0, None

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(peer.bundle / "authority.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(str(peer.bundle / f"{peer.aet}.crt"), str(peer.bundle / f"{peer.aet}.key"))
    entity = AE(ae_title=peer.aet)
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = entity.start_server(("", port), block=False, ssl_context=context, evt_handlers=[(evt.EVT_N_EVENT_REPORT, keep)])
    assert server is not None
    try:
        yield reports
    finally:
        server.shutdown()


def ask_for_commitment(peer: Peer, uids: Sequence[str]) -> int | None:
    """The status of the N-ACTION (PS3.4 J.3.2); None when it was not answered."""
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
        request.ReferencedSOPSequence.append(item)
    entity = AE(ae_title=peer.aet)
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate(peer.host, peer.port, ae_title=peer.called, tls_args=(peer.context(), peer.host))
    assert association.is_established
    status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    return getattr(status, "Status", None)


def test_storage_commitment_is_reported_to_a_modality_with_an_address(stack: Stack, images: list[Dataset]) -> None:
    stored = [str(image.SOPInstanceUID) for image in images]
    absent = str(generate_uid())
    with reports_to(stack.peer("WS1"), stack.receiver_port) as reports:
        assert ask_for_commitment(stack.peer("WS1"), stored) == 0
        eventually("all are committed to", lambda: len(reports) == 1)
        assert ask_for_commitment(stack.peer("WS1"), [*stored, absent]) == 0
        eventually("one is not", lambda: len(reports) == 2)
    (all_there, whole), (some_fail, partly) = reports
    assert (all_there, some_fail) == (1, 2)
    for report in (whole, partly):
        assert [str(item.ReferencedSOPInstanceUID) for item in report.ReferencedSOPSequence] == stored
    assert "FailedSOPSequence" not in whole
    assert [(str(item.ReferencedSOPInstanceUID), item.FailureReason) for item in partly.FailedSOPSequence] == [(absent, 0x0112)]


def test_storage_commitment_without_an_address_ends_the_association(stack: Stack, images: list[Dataset]) -> None:
    with stack.logs_line("orthanc", "N-ACTION is not allowed for this modality"):
        assert ask_for_commitment(stack.peer("CT1"), [str(images[0].SOPInstanceUID)]) is None


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
