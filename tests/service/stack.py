"""One running service for the tests, and the peers that speak to it."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config_templates import Limits, places
from laptop import certificates, demo
from laptop.certificates import Pair, Profile
from laptop.database import sql
from laptop.docker import compose, container_id, docker
from laptop.images import obtain
from laptop.peer import Peer
from laptop.running import converge
from laptop.site import Enrolment, Site

DICOM_PORT, WEB_PORT = 21112, 28443
# Old nginx workers end this long after a reload; the transfers that go on over a reload last less.
OLD_WORKER_SECONDS = 20
SERVICES = ("orthanc", "nginx", "postgres")
# Of the fixture `clone`: a service beside the one that most tests share.
OTHER_PROJECT = "orthanc-test-cut"


@dataclass(frozen=True)
class Answer:
    """What the web page answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        return json.loads(self.body)


class Stack:
    """The service that `make demo` brings up, with modalities of several kinds besides.

    CT1 may do everything; ONLYSTORE only store; WS1 also has an address, on which `receiver` can listen.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        Site.load(home).with_plan(project="orthanc-test", limits=Limits(old_worker_seconds=OLD_WORKER_SECONDS).model_dump()).save()
        demo.run(home, dicom_port=DICOM_PORT, web_port=WEB_PORT)
        self.images = obtain()
        # The address under which containers reach this machine.
        self.here = ""
        self.receiver_port = free_port()
        for enrolment in (Enrolment(aet="CT1"), Enrolment(aet="ONLYSTORE", may=("store",))):
            self.site.enrolled(enrolment).save()
        self.enrol_receiver()

    def enrol_receiver(self) -> None:
        """Enrol WS1 where containers reach this machine now: Docker may give new networks other addresses."""
        self.here = self._gateway()
        self.enrol(Enrolment(aet="WS1", address=self.here, port=self.receiver_port))

    def _gateway(self) -> str:
        """The default route's gateway, as Linux tells it: hexadecimal, last byte first."""
        routes = [line.split() for line in self.exec("orthanc", "cat", "/proc/net/route").splitlines()[1:]]
        (gateway,) = [route[2] for route in routes if route[1] == "00000000"]
        return ".".join(str(byte) for byte in reversed(bytes.fromhex(gateway)))

    @property
    def site(self) -> Site:
        return Site.load(self.home)

    def converge(self) -> set[str]:
        return converge(self.site, self.images)

    def enrol(self, enrolment: Enrolment) -> None:
        self.site.enrolled(enrolment).save()
        self.converge()

    def strike(self, aet: str) -> None:
        self.site.struck(aet).save()
        self.converge()

    def peer(self, aet: str) -> Peer:
        return Peer(aet=aet, bundle=self.site.write_bundle(aet), port=DICOM_PORT)

    def containers(self) -> Mapping[str, str]:
        """Each container's id and when it was started: other ones tell that it was made anew or restarted."""
        form = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"
        return {service: docker("inspect", "--format", form, container_id(self.home, service)).strip() for service in SERVICES}

    def wait_healthy(self, service: str, seconds: float) -> None:
        """Return when Docker's health check of the service succeeds."""
        form = "{{.State.Running}} {{.State.Health.Status}}"
        container = container_id(self.home, service)
        eventually(f"{service} is healthy", lambda: docker("inspect", "--format", form, container).strip() == "true healthy", seconds)

    def exec(self, service: str, *command: str) -> str:
        return compose(self.home, "exec", "-T", service, *command)

    def address(self, service: str, network: str = "service") -> str:
        """The container's own address on one of its networks."""
        form = f'{{{{(index .NetworkSettings.Networks "orthanc-test_{network}").IPAddress}}}}'
        return docker("inspect", "--format", form, container_id(self.home, service)).strip()

    def sql(self, statements: str) -> str:
        return sql(self.home, statements)

    def log(self, service: str) -> str:
        return compose(self.home, "logs", "--no-color", "--no-log-prefix", service)

    @contextmanager
    def logs_line(self, service: str, pattern: str, seconds: float = 10) -> Iterator[None]:
        """What happens inside must make the service log a line that `pattern` is found in."""
        before = self.log(service)
        yield
        end = time.monotonic() + seconds
        while True:
            new = self.log(service)[len(before) :]
            if re.search(pattern, new):
                return
            assert time.monotonic() < end, f"{service} logged no {pattern!r}, but:\n{new}"
            time.sleep(0.2)

    def web(  # noqa: PLR0913 - the parts of an HTTP request
        self,
        path: str,
        *,
        user: str | None = "admin",
        password: str | None = None,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask the web page as a browser would: certificate verified, basic authentication."""
        context = ssl.create_default_context(cadata=self.site.authority("outside").certificate)
        connection = http.client.HTTPSConnection("localhost", WEB_PORT, context=context, timeout=60)
        sent = dict(headers or {})
        if user is not None:
            secret = self.site.password(user) if password is None else password
            sent["Authorization"] = "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def stored(self, sop_instance_uid: str) -> str | None:
        """Orthanc's identifier of an image, or None when it has none."""
        answer = self.web("/tools/lookup", method="POST", body=sop_instance_uid)
        found = answer.json()
        assert isinstance(found, list)
        return next((entry["ID"] for entry in found if entry["Type"] == "Instance"), None)

    def foreign(self, aet: str, *, authority: Pair | None = None, now: datetime | None = None, folder: Path) -> Peer:
        """A modality whose certificate is not one of ours: of another authority, or ours at another time."""
        profile = Profile(kind="rsa", usages=("client", "server"), names=[places.modality_host(aet)], days=90)
        pair = certificates.issue(authority or self.site.authority("outside"), aet, profile, now=now)
        (folder / f"{aet}.crt").write_text(pair.certificate)
        (folder / f"{aet}.key").write_text(pair.key)
        (folder / "authority.crt").write_text(self.site.authority("outside").certificate)
        return Peer(aet=aet, bundle=folder, port=DICOM_PORT)

    @contextmanager
    def receiver(self, folder: Path, bundle: Path, aet: str) -> Iterator[Path]:
        """dcmtk's storescp where WS1 listens, showing the certificate of `aet` in `bundle`; yields where files arrive."""
        arrived = folder / "arrived"
        arrived.mkdir()
        command = ["storescp", "+tls", str(bundle / f"{aet}.key"), str(bundle / f"{aet}.crt"), "+cf", str(bundle / "authority.crt")]
        command += ["--output-directory", str(arrived), "--aetitle", "WS1", str(self.receiver_port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                wait_for_port(self.here, self.receiver_port)
                yield arrived
            finally:
                process.terminate()


def dcmtk(program: str, peer: Peer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of dcmtk's clients as `peer` over mutual TLS; `arguments` come after host and port."""
    options = [argument for argument in arguments if not argument.endswith(".dcm")]
    files = [argument for argument in arguments if argument.endswith(".dcm")]
    command = [program, "--verbose", "-aet", peer.aet, "-aec", peer.called]
    command += ["+tls", str(peer.bundle / f"{peer.aet}.key"), str(peer.bundle / f"{peer.aet}.crt")]
    command += ["+cf", str(peer.bundle / "authority.crt"), *options, peer.host, str(peer.port), *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def left_of(project: str) -> list[str]:
    """Its containers, networks and volumes."""
    label = f"label=com.docker.compose.project={project}"
    return [name for kind in ("container", "network", "volume") for name in docker(kind, "ls", "--quiet", "--filter", label).split()]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port


def wait_for_port(host: str, port: int, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            assert time.monotonic() < end, f"nothing listens on {host}:{port}"
            time.sleep(0.1)
        else:
            return


def eventually(what: str, holds: Callable[[], bool], seconds: float = 15) -> None:
    """Ask until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.3)


@contextmanager
def tls_socket(peer: Peer, context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection((peer.host, peer.port), 10) as plain,
        (context or peer.context()).wrap_socket(plain, server_hostname=peer.host) as secured,
    ):
        secured.settimeout(15)
        yield secured


def answer_to(connection: ssl.SSLSocket, pieces: Sequence[bytes], pause: float = 0) -> bytes:
    """Send the pieces and return the first byte of the answer, b'' when the connection was closed instead."""
    try:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        return connection.recv(1)
    except (ConnectionError, ssl.SSLError):
        return b""
