"""Many peers at once, and big ones: nobody who behaves waits for those who don't, and memory stays within bounds."""

from __future__ import annotations

import io
import re
import resource
import socket
import ssl
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from config_templates import Limits, places
from laptop import study
from laptop.docker import killed_for_memory
from laptop.peer import Peer
from operations.verify.wire import associate_request
from tests.service.stack import DICOM_PORT, SERVICES, Stack, answer_to, dcmtk, eventually, tls_socket

ACCEPTED, CLOSED = b"\x02", b""
PATIENCE = 2.0  # seconds that a modality may wait for the answer to a C-ECHO


@pytest.fixture(autouse=True)
def _service_lives_on(stack: Stack) -> Iterator[None]:
    """No container has restarted, or met the limit of its memory."""
    before = stack.containers()
    yield
    assert stack.containers() == before
    assert {service: killed_for_memory(stack.home, service) for service in SERVICES} == dict.fromkeys(SERVICES, 0)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for thousands of sockets in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(8192, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def idle_associations(peer: Peer, count: int) -> Iterator[None]:
    """Associations that are accepted, and on which nothing is asked."""
    context = peer.context()
    with ExitStack() as held:
        for _ in range(count):
            assert answer_to(held.enter_context(tls_socket(peer, context)), [associate_request(peer.aet)]) == ACCEPTED
        yield


@pytest.fixture
def patient_door(stack: Stack) -> Iterator[None]:
    """nginx waits longer for handshakes than even a slow machine takes to open thousands of connections."""
    kept = stack.site.plan.limits
    stack.site.with_plan(limits={**kept.model_dump(), "handshake_seconds": 45}).save()
    stack.converge()
    yield
    stack.site.with_plan(limits=kept.model_dump()).save()
    stack.converge()


@contextmanager
def mute_peers(count: int) -> Iterator[None]:
    """Peers that begin TLS, in one of three ways, and never finish it."""
    hello = client_hello()
    with ExitStack() as held:
        for index in range(count):
            peer = held.enter_context(socket.create_connection(("localhost", DICOM_PORT), 5))
            peer.sendall((b"", hello[:1], hello)[index % 3])
        yield


def client_hello() -> bytes:
    """With all of it nginx has answered, and waits for the rest: the dearest way to be mute."""
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


def connections(stack: Stack) -> int:
    """How many peers are connected to nginx's DICOM port."""
    established, port = "01", f"{places.GATEWAY_DICOM_PORT:04X}"
    lines = stack.exec("nginx", "cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
    return sum(re.match(rf"\s*\d+: \w+:{port} \w+:\w+ {established} ", line) is not None for line in lines)


def echo_seconds(peer: Peer) -> float:
    """By a process of its own: pynetdicom can't have more than 1,024 sockets in one."""
    began = time.monotonic()
    done = dcmtk("echoscu", peer)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


class Storing:
    """A modality that stores slices until it is told to stop."""

    def __init__(self, peer: Peer, seed: str) -> None:
        self.acknowledged = [time.monotonic()]
        self._peer, self._seed, self._enough = peer, seed, threading.Event()

    def _slices(self) -> Iterator[Dataset]:
        for image in study.series(slices=10_000, seed=self._seed):
            yield image
            # The next one is asked for when this one has been acknowledged.
            self.acknowledged.append(time.monotonic())
            if self._enough.is_set():
                return

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Raises when an image is not acknowledged."""
        with ThreadPoolExecutor() as pool:
            stored = pool.submit(self._peer.store, self._slices())
            try:
                eventually("the first images are stored", lambda: len(self.acknowledged) > 3 or stored.done())
                yield
            finally:
                self._enough.set()
            assert stored.result() == len(self.acknowledged) - 1

    @property
    def longest_pause(self) -> float:
        return max(after - before for before, after in zip(self.acknowledged, self.acknowledged[1:], strict=False))


@pytest.mark.usefixtures("many_files", "patient_door")
def test_idle_associations_and_mute_peers_keep_no_other_modality_waiting(stack: Stack) -> None:
    """100 associations of one modality and 2,000 peers that never finish their handshake, all behind one address."""
    storing = Storing(stack.peer("WS1"), "load")
    with storing.going_on(), idle_associations(stack.peer("ONLYSTORE"), 100):
        assert echo_seconds(stack.peer("CT1")) < PATIENCE
        with mute_peers(2000):
            # Docker's proxy takes them before nginx does.
            eventually("all of them are connected", lambda: connections(stack) > 2100, 15)
            seconds = [echo_seconds(stack.peer("CT1")) for _ in range(5)]
            assert connections(stack) > 2100, "they must have been there all the time"
    assert median(seconds) < PATIENCE
    assert storing.longest_pause < 5 * PATIENCE, "more than a machine that is slow for a moment"
    eventually("all of them are gone", lambda: connections(stack) < 10, 60)


def test_a_modality_that_opens_ever_more_associations_is_refused_and_no_other(stack: Stack) -> None:
    most = Limits().associations_per_modality
    greedy = stack.peer("ONLYSTORE")
    with idle_associations(greedy, most):
        with stack.logs_line("nginx", f"'ONLYSTORE' has {most} associations open already"), tls_socket(greedy) as connection:
            assert answer_to(connection, [associate_request("ONLYSTORE")]) == CLOSED
        assert echo_seconds(stack.peer("CT1")) < PATIENCE
    eventually("its places are free again", lambda: connections(stack) == 0)
    with stack.logs_line("nginx", r'"calling":"ONLYSTORE",.*"still_open":"0"'):
        assert greedy.echo() == 0


def test_an_object_of_500_mb_comes_back_bit_for_bit(stack: Stack, tmp_path: Path) -> None:
    image = next(study.series(slices=1, seed="multi-frame"))
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    image.NumberOfFrames = 1000
    pixels = np.random.default_rng(1).bytes(image.NumberOfFrames * study.SIZE * study.SIZE * 2)
    image.PixelData = pixels
    assert len(pixels) > 500_000_000
    image.save_as(tmp_path / "big.dcm", enforce_file_format=True)

    done = dcmtk("storescu", stack.peer("CT1"), str(tmp_path / "big.dcm"))
    assert done.returncode == 0, done.stderr[-2000:]
    answer = stack.web(f"/instances/{stack.stored(image.SOPInstanceUID)}/file", user="reader")
    assert answer.body.endswith(pixels)
    back = pydicom.dcmread(io.BytesIO(answer.body), stop_before_pixels=True)
    del image.PixelData
    assert back == image


def test_a_study_is_downloaded_as_a_zip_archive_while_others_are_stored(stack: Stack) -> None:
    images = list(study.series(slices=100, seed="archive"))
    assert stack.peer("CT1").store(images) == len(images)
    found = stack.web("/tools/lookup", method="POST", body=str(images[0].StudyInstanceUID)).json()
    assert isinstance(found, list)
    storing = Storing(stack.peer("WS1"), "meanwhile")
    with storing.going_on():
        before = len(storing.acknowledged)
        answer = stack.web(found[0]["Path"] + "/archive", user="reader")
        meanwhile = len(storing.acknowledged) - before
    assert meanwhile > 0
    assert storing.longest_pause < PATIENCE
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        got = {pydicom.dcmread(io.BytesIO(archive.read(name))).SOPInstanceUID for name in archive.namelist()}
    assert got == {image.SOPInstanceUID for image in images}
