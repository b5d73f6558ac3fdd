"""A site gateway beside the service: equipment without TLS stores and asks, and the plug is pulled at every step."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from config_templates import places
from laptop.docker import attempt, compose, container_id, docker
from laptop.site import Enrolment
from laptop.study import series
from operations import gateway as operations
from tests.service.stack import DICOM_PORT, Stack, eventually, free_port

# pynetdicom leaves the socket of an association that was cut off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
AET = "GW-TEST"
OUT_OF_RESOURCES = 0xA700  # PS3.4 annex B.2.3
CONTAINERS = ("postgres", "orthanc", "nginx", "forwarder")


class SiteGateway:
    """The folder that `make gateway` writes, started as its people start it; MR1 is the site's equipment."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.dicom, self.direct, self.page = free_port(), free_port(), free_port()
        self.posted: list[str] = []
        self.enrol("store", "find", "get")
        self.write()

    def enrol(self, *may: str, certificates: tuple[int, ...] = (1,)) -> None:
        self.stack.enrol(Enrolment.model_validate({"aet": AET, "may": may, "certificates": certificates}))

    def write(self, *, server: Mapping[str, object] | None = None, number: int | None = None, **wishes: object) -> None:
        """Write the folder, or write it over itself; `server` says what is otherwise with that."""
        origin = operations.of_demo(self.stack.home, AET, number=number, host=self.stack.here)
        origin = replace(origin, server=origin.server.model_copy(update=server or {}))
        ports = {"dicom_port": self.dicom, "direct_port": self.direct, "status_port": self.page}
        usual = {"devices": ("MR1", "CT7"), "queue_mb": 100, **ports}
        operations.write_gateway(origin, operations.design(origin, {**usual, **wishes}), self.folder)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """./gateway, as people call it."""
        return subprocess.run(["./gateway", *arguments], cwd=self.folder, capture_output=True, text=True, timeout=400, check=False)

    def start(self) -> None:
        started = self.run("start")
        assert started.returncode == 0, started.stdout + started.stderr

    def status(self) -> Mapping[str, Any]:
        with urlopen(f"http://127.0.0.1:{self.page}/status.json", timeout=10) as answer:
            said: Mapping[str, Any] = json.loads(answer.read())
        return said

    def lines(self) -> str:
        return "\n".join(self.status()["lines"])

    def health(self) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self.page}/health", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def waiting(self) -> int:
        asked = compose(self.folder, "exec", "-T", "forwarder", "python3", "/etc/forwarder/forwarder.py", "waiting")
        return int(asked)

    @contextmanager
    def association(self, *, calling: str = "MR1", direct: bool = False) -> Iterator[Association]:
        """Plain DICOM, as old equipment speaks it."""
        entity = AE(calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
        for syntax in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelGet,
            ModalityWorklistInformationFind,
        ):
            entity.add_requested_context(syntax)
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", self.direct if direct else self.dicom, ae_title="ORTHANC")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def store(self, images: list[Dataset]) -> list[Dataset]:
        """Store until one is not acknowledged; returns those that were."""
        acknowledged = []
        with self.association() as association:
            for image in images:
                if not association.is_established or getattr(association.send_c_store(image), "Status", None) != 0:
                    break
                acknowledged.append(image)
        return acknowledged

    def arrived(self, images: list[Dataset]) -> int:
        """How many of them the server has."""
        there: set[str] = set()
        for study in {image.StudyInstanceUID for image in images}:
            asked = {"Level": "Instance", "Query": {"StudyInstanceUID": study}, "Expand": True}
            found = self.stack.web("/tools/find", method="POST", body=json.dumps(asked)).json()
            assert isinstance(found, list)
            there |= {entry["MainDicomTags"]["SOPInstanceUID"] for entry in found}
        return len({image.SOPInstanceUID for image in images} & there)

    def all_arrive(self, images: list[Dataset], seconds: float = 60) -> None:
        eventually(f"all {len(images)} are at the server", lambda: self.arrived(images) == len(images), seconds)
        eventually("nothing waits any more", lambda: self.waiting() == 0, seconds)


@pytest.fixture(scope="module")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteGateway]:
    folder = tmp_path_factory.mktemp("site") / "gateway"
    made = SiteGateway(stack, folder)
    made.start()
    yield made
    removed = made.run("remove", "--lose")
    assert removed.returncode == 0, removed.stderr
    label = f"label=com.docker.compose.project=orthanc-gateway-{AET.lower()}"
    assert [docker(kind, "ls", "--quiet", "--filter", label).split() for kind in ("container", "volume", "network")] == [[], [], []]
    assert not (folder / "queue").exists()
    stack.strike(AET)


def images(count: int, seed: str) -> list[Dataset]:
    return list(series(slices=count, seed=f"gateway-{seed}", patient="Gateway^Patient"))


@contextmanager
def server_away(stack: Stack) -> Iterator[None]:
    compose(stack.home, "stop", "--timeout", "1", "nginx")
    try:
        yield
    finally:
        compose(stack.home, "start", "nginx")
        stack.wait_healthy("nginx", 60)


# -- what it is for --------------------------------------------------------------------------------------------------------


def test_what_equipment_stores_in_the_clear_is_at_the_server_bit_for_bit(site: SiteGateway) -> None:
    sent = images(20, "first")
    assert site.store(sent) == sent
    site.all_arrive(sent)
    for image in sent:
        identifier = site.stack.stored(image.SOPInstanceUID)
        there = pydicom.dcmread(BytesIO(site.stack.web(f"/instances/{identifier}/file").body))
        assert there == image
        assert there.PixelData == image.PixelData
        assert there.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
    assert site.status()["alarms"] == []
    assert site.health() == (200, "all is well\n")


def test_queries_go_straight_through_under_the_gateways_own_title(site: SiteGateway) -> None:
    sent = images(2, "asked")
    site.store(sent)
    site.all_arrive(sent)
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.PatientName = "STUDY", sent[0].StudyInstanceUID, ""
    with site.stack.logs_line("nginx", f'"dicom-in".*"calling":"{AET}","called":"ORTHANC"'), site.association(direct=True) as association:
        answers = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
        assert [str(found.PatientName) for _, found in answers if found is not None] == ["Gateway^Patient"]
        assert answers[-1][0].Status == 0


def test_a_worklist_goes_through_as_far_as_the_server_has_one(site: SiteGateway) -> None:
    """The service has none, so one that has stands in for it here, under the service's own certificate."""
    callers: list[str] = []

    def worklist(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        callers.append(event.assoc.requestor.ae_title)
        item = Dataset()
        item.PatientName, item.AccessionNumber = "Scheduled^Patient", "A-17"
        yield 0xFF00, item

    port = free_port()
    entity = AE("ORTHANC")
    entity.add_supported_context(ModalityWorklistInformationFind)
    entity.start_server(
        ("", port), block=False, evt_handlers=[(evt.EVT_C_FIND, worklist)], ssl_context=server_context(site.stack, site.folder.parent)
    )
    try:
        site.write(server={"port": port})
        site.start()
        with site.association(direct=True) as association:
            query = Dataset()
            query.PatientName = query.AccessionNumber = ""
            found = [item for _, item in association.send_c_find(query, ModalityWorklistInformationFind) if item is not None]
        assert [item.AccessionNumber for item in found] == ["A-17"]
        assert callers == [AET]
    finally:
        entity.shutdown()
        site.write()
        site.start()


def server_context(stack: Stack, folder: Path) -> ssl.SSLContext:
    """As whom the service answers: its own certificate, and whom it lets in."""
    pair, authority = stack.site.server(), stack.site.authority("outside")
    (folder / "server.pem").write_text(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "server.pem")
    return context


@pytest.mark.parametrize("direct", [False, True])
def test_who_is_none_of_the_sites_equipment_is_refused_at_the_door(site: SiteGateway, direct: bool) -> None:
    with site.association(calling="STRANGER", direct=direct) as association:
        assert not association.is_established
    with site.association(calling="CT7", direct=direct) as association:
        assert association.is_established
        assert association.send_c_echo().Status == 0


@pytest.mark.skipif(shutil.which("gdcmscu") is None, reason="gdcmscu is not installed ('make test' installs it)")
def test_gdcm_stores_through_the_gateway(site: SiteGateway, tmp_path: Path) -> None:
    (image,) = images(1, "gdcm")
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    command = ["gdcmscu", "--store", "--aetitle", "MR1", "--call", "ORTHANC", "127.0.0.1", str(site.dicom), str(tmp_path / "image.dcm")]
    subprocess.run(command, capture_output=True, timeout=60, check=False)  # Debian's aborts after it has done it: docs/connecting.md
    site.all_arrive([image])


# -- the plug is pulled ----------------------------------------------------------------------------------------------------


def test_while_the_line_is_down_images_wait_and_none_is_lost(site: SiteGateway) -> None:
    sent = images(30, "outage")
    with server_away(site.stack):
        assert site.store(sent) == sent
        eventually("it is told", lambda: "not reached for" in site.lines(), 30)
        assert "waiting      30 objects" in site.lines()
        assert site.run("remove").returncode == 1, "what still waits must not be given up by mistake"
        assert site.run("stop").returncode == 0
        site.start()
        assert site.waiting() == 30, "a restart keeps the queue"
    site.all_arrive(sent)
    eventually("it is told that the server answers", lambda: ": answers" in site.lines(), 60)


@pytest.mark.parametrize("victim", CONTAINERS)
def test_a_container_that_dies_while_images_come_and_go_loses_none(site: SiteGateway, victim: str) -> None:
    sent = images(60, f"killed-{victim}")
    acknowledged: list[Dataset] = []

    def keep_storing() -> None:  # as equipment does: what was not acknowledged is sent again
        for _ in range(40):
            rest = sent[len(acknowledged) :]
            acknowledged.extend(site.store(rest))
            if len(acknowledged) == len(sent):
                return
            time.sleep(1)

    sender = threading.Thread(target=keep_storing)
    sender.start()
    eventually("some were stored", lambda: len(acknowledged) > 0 or site.arrived(sent) > 0 or site.waiting() > 0, 30)
    die(site.folder, victim)
    sender.join()
    assert len(acknowledged) == len(sent)
    site.all_arrive(sent, 90)


def die(folder: Path, service: str) -> None:
    """End a container as a fault would: Docker then starts it again by itself, which it does not after `docker kill`."""
    container = container_id(folder, service)
    if os.geteuid() == 0:
        os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)
    else:
        docker("kill", container)
        docker("start", container)


def test_a_power_failure_amid_it_all_loses_none(site: SiteGateway) -> None:
    sent = images(80, "power")
    with server_away(site.stack):
        assert site.store(sent) == sent
    eventually("forwarding has begun", lambda: site.arrived(sent) > 0, 60)
    for service in CONTAINERS:
        attempt("kill", container_id(site.folder, service))
    site.start()
    site.all_arrive(sent)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("iptables") is None, reason="needs root and iptables: it swallows packets")
def test_a_line_that_swallows_packets_amid_a_batch_loses_none(site: SiteGateway) -> None:
    sent = images(120, "cable")
    acknowledged: list[Dataset] = []
    sender = threading.Thread(target=lambda: acknowledged.extend(site.store(sent)))
    sender.start()
    eventually("forwarding has begun", lambda: site.arrived(sent) > 5, 60)
    with packets_swallowed(site):
        sender.join()
        assert acknowledged == sent, "equipment notices nothing"
        before = site.arrived(sent)
        time.sleep(5)
        assert site.waiting() > 0
        # What has arrived waits on until its whole batch is acknowledged.
        assert site.waiting() + site.arrived(sent) >= len(sent)
        assert site.arrived(sent) - before < 5, "the line is cut indeed"
    site.all_arrive(sent, 120)


@contextmanager
def packets_swallowed(site: SiteGateway) -> Iterator[None]:
    """Nothing that the gateway's nginx sends to the server arrives, and nobody says so."""
    networks = json.loads(docker("inspect", container_id(site.folder, "nginx")))[0]["NetworkSettings"]["Networks"]
    (address,) = [of["IPAddress"] for name, of in networks.items() if name.endswith("_outside")]
    # By Docker's own proxy, or by address translation straight to the server's container.
    ways = (("INPUT", DICOM_PORT), ("DOCKER-USER", places.GATEWAY_DICOM_PORT))
    rules = [(chain, "--source", address, "--protocol", "tcp", "--dport", str(port), "--jump", "DROP") for chain, port in ways]
    for rule in rules:
        subprocess.run(["iptables", "--insert", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "--delete", *rule], check=True)


def test_a_full_queue_refuses_and_keeps_what_it_has_acknowledged(site: SiteGateway) -> None:
    sent = images(230, "full")
    eventually("nothing waits any more", lambda: site.waiting() == 0, 120)
    with server_away(site.stack):
        acknowledged = site.store(sent)
        assert 100 < len(acknowledged) < len(sent), "100 MB are some 190 images"
        with site.association() as association:
            assert association.send_c_store(sent[-1]).Status == OUT_OF_RESOURCES
        eventually("it is an alarm", lambda: any("the queue is" in alarm for alarm in site.status()["alarms"]), 15)
        assert site.health()[0] == 503
    site.all_arrive(acknowledged, 90)
    assert site.store(sent[-1:]) == sent[-1:], "there is room again"
    site.all_arrive([*acknowledged, sent[-1]])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it puts the queue on a small disk of its own")
def test_a_full_disk_refuses_and_keeps_what_was_acknowledged(site: SiteGateway) -> None:
    assert site.waiting() == 0
    assert site.run("stop").returncode == 0
    queue = site.folder / "queue"
    queue.rename(site.folder / "aside")
    queue.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(queue)], check=True)
    try:
        site.start()
        ballast = queue / "ballast"
        first, second = images(20, "disk-first"), images(40, "disk-second")
        with server_away(site.stack):
            assert site.store(first) == first
            fill(ballast, queue)
            acknowledged = first + site.store(second)
            assert len(acknowledged) < len(first) + len(second), "a full disk refuses"
            ballast.unlink()
        site.all_arrive(acknowledged, 120)
        assert site.store(second) == second
        site.all_arrive(second)
        assert site.run("stop").returncode == 0
    finally:
        compose(site.folder, "down")
        subprocess.run(["umount", str(queue)], check=True)
        queue.rmdir()
        (site.folder / "aside").rename(queue)
        site.start()


def fill(ballast: Path, disk: Path) -> None:
    """Leave less than two images of room."""
    with ballast.open("wb") as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > 1_000_000:
            file.write(b"\0" * min(free - 900_000, 8_000_000))
            file.flush()


# -- the server says no ----------------------------------------------------------------------------------------------------


@contextmanager
def listening(texts: list[str], host: str) -> Iterator[str]:
    """Somebody to whom alarms are posted; yields the address."""

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_what_the_server_refuses_is_told_and_waits(site: SiteGateway) -> None:
    sent = images(3, "refused")
    with listening(site.posted, site.stack.here) as address:
        site.write(alarm_url=address)
        site.start()
        site.enrol("find")
        try:
            assert site.store(sent) == sent
            eventually("it is told", lambda: len(site.status()["refused"]) == 3, 40)
            eventually("it is posted", lambda: any("refuses 3 of the objects" in text for text in site.posted), 20)
            assert site.health()[0] == 503
            assert site.run("drop", site.status()["refused"][0]).returncode == 0
            assert site.run("drop", "no-such-object").returncode == 1
            assert site.waiting() == 2
            saved = site.run("save", "saved.tar")
            assert saved.returncode == 0, saved.stderr
            listed = subprocess.run(["tar", "-tf", site.folder / "saved.tar"], capture_output=True, text=True, check=True)
            assert len(listed.stdout.split()) == 2
            assert site.run("save", "saved.tar").returncode == 1, "no file is written over"
            eventually("Docker is told", lambda: health_of(site, "forwarder") == "unhealthy", 60)
        finally:
            site.enrol("store", "find", "get")
        docker("restart", container_id(site.folder, "forwarder"))
        eventually("the others go on", lambda: site.arrived(sent) == 2 and site.waiting() == 0, 60)
        eventually("it is told that all is well", lambda: site.posted[-1].endswith("started, and all is well"), 60)
    site.write()
    site.start()


def health_of(site: SiteGateway, service: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", container_id(site.folder, service)).strip()


def test_whoever_has_another_name_than_the_server_gets_nothing(site: SiteGateway) -> None:
    sent = images(2, "impostor")
    site.write(server={"name": "another.orthanc"})
    site.start()
    assert site.store(sent) == sent
    eventually("it is told", lambda: "not reached for" in site.lines(), 40)
    assert site.arrived(sent) == 0
    site.write()
    site.start()
    site.all_arrive(sent)


def test_only_the_sites_networks_are_let_in(site: SiteGateway) -> None:
    site.write(networks=("198.51.100.0/24",))
    site.start()
    for direct in (False, True):
        with site.association(direct=direct) as association:
            assert not association.is_established
    site.write()
    site.start()
    with site.association() as association:
        assert association.is_established


def test_a_renewed_certificate_is_taken_and_what_waits_stays(site: SiteGateway) -> None:
    sent = images(5, "renewed")
    with server_away(site.stack):
        assert site.store(sent) == sent
    site.enrol("store", "find", "get", certificates=(1, 2))
    site.write(number=2)
    site.start()
    site.enrol("store", "find", "get", certificates=(2,))
    site.all_arrive(sent)
    more = images(2, "after")
    assert site.store(more) == more
    site.all_arrive(more)


# -- what nobody must see --------------------------------------------------------------------------------------------------


def test_no_patient_in_a_log_and_no_secret_where_docker_shows_it(site: SiteGateway) -> None:
    sent = images(2, "logged")
    site.store(sent)
    site.all_arrive(sent)
    shown = compose(site.folder, "logs", "--no-color") + site.lines()
    assert AET in shown
    for name in ("Gateway^Patient", "DEMO-gateway", "19700101"):
        assert name not in shown
    secrets = [(site.folder / name).read_text().strip() for name in ("forwarder/password", "postgres/superuser-password")]
    key = (site.folder / "nginx/gateway.key").read_text().splitlines()[1]
    for service in CONTAINERS:
        container = container_id(site.folder, service)
        told = docker("inspect", container) + docker("top", container) + docker("logs", container)
        assert not [secret for secret in (*secrets, key) if secret in told]
        account = json.loads(docker("inspect", container))[0]
        assert account["Config"]["User"] not in {"", "0", "0:0", "root"}
        assert (account["HostConfig"]["ReadonlyRootfs"], account["HostConfig"]["CapDrop"]) == (True, ["ALL"])


def test_its_files_are_for_its_own_user_alone(site: SiteGateway) -> None:
    for path in site.folder.rglob("*"):
        if "queue" not in path.relative_to(site.folder).parts and path.name != "saved.tar":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_only_its_two_doors_are_open_to_the_network(site: SiteGateway) -> None:
    networks = {service: json.loads(docker("inspect", container_id(site.folder, service)))[0]["NetworkSettings"] for service in CONTAINERS}
    ports = {service: of["Ports"] for service, of in networks.items()}
    published = {f"{entry['HostIp']}:{entry['HostPort']}" for of in ports.values() for many in of.values() for entry in many or ()}
    assert published == {f"0.0.0.0:{site.dicom}", f"0.0.0.0:{site.direct}", f"127.0.0.1:{site.page}"}
    assert list(networks["postgres"]["Networks"]) == ["none"]
    assert [name.rpartition("_")[2] for name in networks["orthanc"]["Networks"]] == ["inside"]
