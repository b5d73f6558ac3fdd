"""Who is refused, and the line of the log that tells an operator why."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time from the standard's tables

from config_templates import places
from config_templates.routing import outgoing_ports
from laptop.certificates import make_authority
from laptop.docker import container_id, docker
from laptop.peer import Peer
from laptop.site import Enrolment
from operations.verify.wire import associate_request
from tests.service.stack import DICOM_PORT, WEB_PORT, Stack, answer_to, dcmtk, eventually, tls_socket

ACCEPTED, REJECTED, CLOSED = b"\x02", b"\x03", b""  # first byte of an A-ASSOCIATE-AC, an A-ASSOCIATE-RJ; no answer


@pytest.fixture(autouse=True)
def _service_lives_on(stack: Stack) -> Iterator[None]:
    """Whatever was tried, a modality that behaves is still served, and no container has restarted."""
    before = stack.containers()
    yield
    assert dcmtk("echoscu", stack.peer("CT1")).returncode == 0
    assert stack.containers() == before


def opening(peer: Peer, *, calling: str | None = None, called: str = "ORTHANC", context: ssl.SSLContext | None = None) -> bytes:
    """How the server answers an association request."""
    with contextlib.suppress(ConnectionError, ssl.SSLError), tls_socket(peer, context) as connection:
        return answer_to(connection, [associate_request(calling or peer.aet, called)])
    return CLOSED


def test_the_request_of_an_enrolled_modality_is_accepted(stack: Stack) -> None:
    assert opening(stack.peer("CT1")) == ACCEPTED


def test_a_request_that_arrives_in_pieces_is_judged_the_same(stack: Stack) -> None:
    def opening_in_pieces(calling: str) -> bytes:
        request = associate_request(calling)
        pieces = [request[:1], request[1:9], request[9:25], request[25:30], request[30:41], request[41:80], request[80:]]
        with tls_socket(stack.peer("CT1")) as connection:
            return answer_to(connection, pieces, pause=0.1)

    assert opening_in_pieces("CT1") == ACCEPTED
    with stack.logs_line("nginx", "belongs to 'CT1', but the association calls itself 'WS1'"):
        assert opening_in_pieces("WS1") == CLOSED


def test_no_client_certificate(stack: Stack) -> None:
    without = ssl.create_default_context(cadata=stack.site.authority("outside").certificate)
    with stack.logs_line("nginx", "client sent no required SSL certificate"):
        assert opening(stack.peer("CT1"), context=without) == CLOSED


def test_a_certificate_of_another_authority(stack: Stack, tmp_path: Path) -> None:
    stranger = stack.foreign("CT1", authority=make_authority("another authority", "rsa"), folder=tmp_path)
    with stack.logs_line("nginx", r"client SSL certificate verify error.*\n?.*unable"):
        assert opening(stranger) == CLOSED


def test_a_certificate_that_is_no_longer_enrolled(stack: Stack) -> None:
    stack.enrol(Enrolment(aet="LEFT"))
    left = stack.peer("LEFT")
    assert opening(left) == ACCEPTED
    stack.strike("LEFT")
    with stack.logs_line("nginx", r"certificate [0-9a-f]{40} is not enrolled \(CN=modality-LEFT-1\)"):
        assert opening(left) == CLOSED


def test_an_expired_certificate(stack: Stack, tmp_path: Path) -> None:
    expired = stack.foreign("CT1", now=datetime.now(UTC) - timedelta(days=200), folder=tmp_path)
    with stack.logs_line("nginx", "certificate has expired"):
        assert opening(expired) == CLOSED


def test_plaintext_to_the_tls_port(stack: Stack) -> None:
    with (
        stack.logs_line("nginx", r"SSL_do_handshake\(\) failed .*(wrong version number|packet length too long|record)"),
        socket.create_connection(("localhost", DICOM_PORT), 10) as plain,
    ):
        plain.sendall(associate_request("CT1"))
        with contextlib.suppress(ConnectionError):
            assert not plain.recv(100).startswith(ACCEPTED)


def weakened(peer: Peer, version: str, ciphers: str) -> int:
    """openssl's exit code for a handshake with just that protocol and those ciphers; 0 when it succeeds."""
    command = ["openssl", "s_client", f"-{version}", "-cipher", f"{ciphers}:@SECLEVEL=0", "-connect", f"{peer.host}:{peer.port}"]
    command += ["-cert", str(peer.bundle / f"{peer.aet}.crt"), "-key", str(peer.bundle / f"{peer.aet}.key")]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False).returncode


def test_tls_1_1(stack: Stack) -> None:
    with stack.logs_line("nginx", "unsupported protocol|version too low"):
        assert weakened(stack.peer("CT1"), "tls1_1", "ALL") != 0


def test_a_cbc_suite(stack: Stack) -> None:
    assert weakened(stack.peer("CT1"), "tls1_2", "ECDHE-RSA-AES128-GCM-SHA256") == 0
    with stack.logs_line("nginx", "no shared cipher"):
        assert weakened(stack.peer("CT1"), "tls1_2", "ECDHE-RSA-AES128-SHA256") != 0


def test_an_enrolled_certificate_under_another_enrolled_ae_title(stack: Stack) -> None:
    with stack.logs_line("nginx", "the certificate belongs to 'ONLYSTORE', but the association calls itself 'CT1'"):
        assert opening(stack.peer("ONLYSTORE"), calling="CT1") == CLOSED


def test_an_unknown_calling_ae_title(stack: Stack) -> None:
    with stack.logs_line("nginx", "the certificate belongs to 'CT1', but the association calls itself 'NOBODY'"):
        assert opening(stack.peer("CT1"), calling="NOBODY") == CLOSED


def test_a_calling_ae_title_that_differs_only_in_case(stack: Stack) -> None:
    with stack.logs_line("nginx", "the association calls itself 'ct1'"):
        assert opening(stack.peer("CT1"), calling="ct1") == CLOSED


def test_a_calling_ae_title_cannot_forge_a_line_of_the_log(stack: Stack) -> None:
    with stack.logs_line("nginx", r"calls itself 'X\?\?forged'"):
        assert opening(stack.peer("CT1"), calling="X\r\nforged") == CLOSED


def test_a_wrong_called_ae_title(stack: Stack) -> None:
    with stack.logs_line("nginx", r'"calling":"CT1","called":"OTHER"'), stack.logs_line("orthanc", "OTHER"):
        assert opening(stack.peer("CT1"), called="OTHER") == REJECTED


def test_a_find_by_a_modality_that_may_only_store(stack: Stack) -> None:
    query = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName")
    with stack.logs_line("orthanc", "ONLYSTORE.*[Ff]ind|[Ff]ind.*ONLYSTORE"):
        found = dcmtk("findscu", stack.peer("ONLYSTORE"), *query)
    assert "Phantom" not in found.stdout + found.stderr
    assert stack.peer("CT1").find_studies(PatientName="Phantom*")


# -- the inside ports: only who belongs there -----------------------------------------------------------------------------


def inside_ports(stack: Stack) -> dict[str, tuple[str, int]]:
    orthanc, nginx = stack.address("orthanc"), stack.address("nginx")
    return {
        "orthanc dicom": (orthanc, places.ORTHANC_DICOM_PORT),
        "orthanc https": (orthanc, places.ORTHANC_HTTPS_PORT),
        "nginx outgoing": (nginx, outgoing_ports(["WS1"])["WS1"]),
    }


def certificate_files(stack: Stack, holder: str, folder: Path) -> tuple[str, str]:
    site = stack.site
    pairs = {
        "modality": site.modality("CT1", 1),
        "orthanc": site.inside("orthanc"),
        "postgres": site.inside("postgres"),
        "probe": site.inside("probe"),
        "gateway": site.inside("gateway"),
        "server": site.server(),
        "outgoing": site.outgoing(),
    }
    (folder / "crt").write_text(pairs[holder].certificate)
    (folder / "key").write_text(pairs[holder].key)
    return str(folder / "crt"), str(folder / "key")


def any_server() -> ssl.SSLContext:
    """A client that takes any server: it is the port's judgement that is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def lets_in(stack: Stack, port: str, holder: str | None, folder: Path) -> bool:
    """Whether the inside port speaks with whoever shows that certificate: an answer, not only half a TLS 1.3 handshake."""
    context = any_server()
    if holder:
        context.load_cert_chain(*certificate_files(stack, holder, folder))
    question = b"GET /system HTTP/1.0\r\n\r\n" if port == "orthanc https" else associate_request("GATEWAY", "WS1")
    try:
        with socket.create_connection(inside_ports(stack)[port], 10) as plain, context.wrap_socket(plain) as secured:
            secured.settimeout(5)
            return answer_to(secured, [question]) != CLOSED
    except (ConnectionError, ssl.SSLError, TimeoutError):
        return False


@pytest.mark.parametrize("port", ["orthanc dicom", "orthanc https"])
@pytest.mark.parametrize("holder", [None, "modality", "postgres", "server", "outgoing"])
def test_orthanc_s_ports_refuse_who_does_not_belong_there(stack: Stack, port: str, holder: str | None, tmp_path: Path) -> None:
    assert not lets_in(stack, port, holder, tmp_path)


@pytest.mark.parametrize("port", ["orthanc dicom", "orthanc https"])
def test_orthanc_s_own_certificate_does_not_open_orthanc(stack: Stack, port: str, tmp_path: Path) -> None:
    assert not lets_in(stack, port, "orthanc", tmp_path)
    assert lets_in(stack, port, "gateway", tmp_path), "the test must be able to tell a door that opens"


@pytest.mark.parametrize("holder", [None, "modality", "postgres", "server", "outgoing", "gateway", "probe"])
def test_only_orthanc_may_use_an_outgoing_port(stack: Stack, holder: str | None, tmp_path: Path) -> None:
    bundle = stack.peer("WS1").bundle
    reason = "client SSL certificate verify error" if holder else "client sent no required SSL certificate"
    with stack.receiver(tmp_path, bundle, "WS1"):
        with stack.logs_line("nginx", reason):
            assert not lets_in(stack, "nginx outgoing", holder, tmp_path)
        assert lets_in(stack, "nginx outgoing", "orthanc", tmp_path), "the test must be able to tell a door that opens"


@pytest.mark.parametrize(("calling", "known"), [("CT1", True), ("STRANGER", False)])
def test_orthanc_itself_knows_only_the_modalities_of_the_plan(stack: Stack, calling: str, known: bool, tmp_path: Path) -> None:
    """Asked past nginx's check, with the gateway's own certificate."""
    host, port = inside_ports(stack)["orthanc dicom"]
    entity = AE(ae_title=calling)
    entity.add_requested_context(Verification)
    context = any_server()
    context.load_cert_chain(*certificate_files(stack, "gateway", tmp_path))
    association = entity.associate(host, port, ae_title="ORTHANC", tls_args=(context, places.ORTHANC_HOST))
    answered = association.is_established and getattr(association.send_c_echo(), "Status", None) == 0
    if association.is_established:
        association.release()
    assert answered is known


def test_an_outgoing_port_leads_to_its_own_modality_alone(stack: Stack, tmp_path: Path) -> None:
    context = any_server()
    context.load_cert_chain(*certificate_files(stack, "orthanc", tmp_path))
    with (
        stack.logs_line("nginx", "this port leads to 'WS1', but the association calls 'CT1'"),
        socket.create_connection(inside_ports(stack)["nginx outgoing"], 10) as plain,
        context.wrap_socket(plain) as secured,
    ):
        assert answer_to(secured, [associate_request("ORTHANC", "CT1")]) == CLOSED


def test_inside_ports_refuse_plaintext(stack: Stack) -> None:
    for address in inside_ports(stack).values():
        with socket.create_connection(address, 10) as plain:
            plain.settimeout(5)
            plain.sendall(associate_request("CT1"))
            with contextlib.suppress(ConnectionError, TimeoutError):
                assert not plain.recv(100).startswith(ACCEPTED)


@pytest.mark.usefixtures("stack")
def test_containers_meet_only_where_they_have_business(stack: Stack) -> None:
    """nginx and PostgreSQL share nothing but the network that leads nowhere."""
    form = '{{(index .NetworkSettings.Networks "orthanc-test_no-metadata").IPAddress}}'
    address = {s: docker("inspect", "--format", form, container_id(stack.home, s)).strip() for s in ("nginx", "postgres")}
    attempts = (("nginx", address["postgres"], 5432), ("postgres", address["nginx"], places.GATEWAY_HTTPS_PORT))
    for service, host, port in attempts:
        ask = f"timeout 4 bash -c 'exec 3<>/dev/tcp/{host}/{port}' 2>/dev/null && echo reached || echo not"
        assert stack.exec(service, "bash", "-c", ask).strip() == "not"


def test_thousands_of_half_open_handshakes_kill_no_worker(stack: Stack) -> None:
    """2,500 peers that send one byte and then nothing."""
    workers = stack.exec("nginx", "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep '(nginx)' | cut -d' ' -f1 | sort")
    with contextlib.ExitStack() as held:
        for _ in range(2500):
            try:
                mute = held.enter_context(socket.create_connection(("localhost", WEB_PORT), 5))
                mute.sendall(b"\x16")
            except OSError:
                break
        time.sleep(3)
    still = stack.exec("nginx", "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep '(nginx)' | cut -d' ' -f1 | sort")
    assert still == workers
    eventually("a good request is answered again", lambda: stack.web("/system").status == 200, 30)


def test_only_the_gateways_two_ports_are_published() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", places.ORTHANC_HTTPS_PORT), 2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", 5432), 2)


# -- hostile bytes --------------------------------------------------------------------------------------------------------


def test_garbage_in_place_of_an_association_request(stack: Stack) -> None:
    with stack.logs_line("nginx", "no DICOM association request"), tls_socket(stack.peer("CT1")) as connection:
        assert answer_to(connection, [os.urandom(4096).replace(b"\x01", b"\x00")]) == CLOSED


def test_an_association_request_that_breaks_off(stack: Stack) -> None:
    with stack.logs_line("nginx", '"calling":"","called":"".*"upstream":""'), tls_socket(stack.peer("CT1")) as connection:
        connection.sendall(associate_request("CT1")[:20])


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        ("a data PDU that claims 4 GiB", b"\x04\x00\xff\xff\xff\xff" + bytes(4096)),
        ("an unknown PDU type", b"\x7f\x00\x00\x00\x00\x10" + bytes(16)),
        ("a data value longer than its PDU", b"\x04\x00\x00\x00\x00\x06\x7f\xff\xff\xff\x01\x03"),
        ("noise", bytes(range(256)) * 64),
    ],
)
def test_hostile_pdus_after_the_association(stack: Stack, what: str, sent: bytes) -> None:
    with tls_socket(stack.peer("CT1")) as connection:
        assert answer_to(connection, [associate_request("CT1")]) == ACCEPTED, what
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            connection.sendall(sent)
            connection.settimeout(3)
            while connection.recv(4096):
                pass


def test_an_association_request_that_claims_4_gib(stack: Stack) -> None:
    request = associate_request("CT1")
    with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError), tls_socket(stack.peer("CT1")) as connection:
        connection.settimeout(3)
        connection.sendall(request[:2] + b"\xff\xff\xff\xff" + request[6:])
        assert not connection.recv(1).startswith(ACCEPTED)
