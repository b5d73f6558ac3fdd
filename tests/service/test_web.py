"""The front door for browsers."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import socket
import ssl
import time

import pytest

from laptop import study
from tests.service.stack import WEB_PORT, Stack


def phantom(stack: Stack) -> str:
    """Orthanc's identifier of the made study."""
    lookup = stack.web("/tools/lookup", method="POST", body=next(study.series(slices=1)).StudyInstanceUID).json()
    assert isinstance(lookup, list)
    return str(lookup[0]["ID"])


def test_nobody_gets_anything_without_a_password(stack: Stack) -> None:
    for path in ("/", "/system", "/studies", "/dicom-web/studies", "/app/explorer.html"):
        answer = stack.web(path, user=None)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize(("user", "password"), [("admin", "wrong"), ("reader", ""), ("nobody", "x"), ("Admin", None)])
def test_wrong_logins_are_refused(stack: Stack, user: str, password: str | None) -> None:
    secret = stack.site.password("admin") if password is None else password
    assert stack.web("/studies", user=user, password=secret).status == 401


def test_the_probes_password_does_not_open_the_front_door(stack: Stack) -> None:
    assert stack.web("/studies", user="probe").status == 401


def test_a_reader_looks(stack: Stack) -> None:
    assert stack.web("/studies", user="reader").status == 200
    found = stack.web("/tools/find", user="reader", method="POST", body='{"Level": "Study", "Query": {"PatientName": "Phantom*"}}')
    assert found.status == 200
    assert len(found.body) > 10


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/studies/{study}"),
        ("PUT", "/modalities/X"),
        ("POST", "/instances"),
        ("POST", "/dicom-web/studies"),
        ("POST", "/studies/{study}/anonymize"),
        ("POST", "/tools/shutdown"),
        ("POST", "/tools/bulk-delete"),
        ("POST", "/tools/find/../bulk-delete"),
        ("POST", "//tools/bulk-delete?/tools/find"),
        ("POST", "/tools/%62ulk-delete"),
        ("PATCH", "/studies"),
        ("PROPFIND", "/webdav/"),
    ],
)
def test_a_reader_changes_nothing(stack: Stack, method: str, path: str) -> None:
    identifier = phantom(stack)
    answer = stack.web(path.format(study=identifier), user="reader", method=method, body="{}")
    assert answer.status == 403
    assert stack.web(f"/studies/{identifier}").status == 200


@pytest.mark.parametrize("user", ["reader", "admin"])
@pytest.mark.parametrize(
    "query",
    [
        "_method=DELETE",
        "x=1&_method=delete",
        "%5fmethod=DELETE",
        "%5F%6D%65%74%68%6f%64=DELETE",
        "_%4Dethod=DELETE",
        "x=1%26_method%3DDELETE",
        "x=1%26%5Fmethod%3dDELETE",
        "%255Fmethod=DELETE",
        "_method",
        "_METHOD=DELETE",
    ],
)
def test_a_deletion_cannot_be_disguised_as_a_look(stack: Stack, user: str, query: str) -> None:
    """Nor can a link on a foreign page delete with an admin's password."""
    path = f"/studies/{phantom(stack)}"
    stack.web(f"{path}?{query}", user=user)
    assert stack.web(path).status == 200


def test_a_method_cannot_be_overridden_by_a_header(stack: Stack) -> None:
    path = f"/studies/{phantom(stack)}"
    for name in ("X-HTTP-Method-Override", "x_http_method_override"):
        stack.web(path, user="reader", headers={name: "DELETE"})
        stack.web(path, user="reader", method="POST", headers={name: "DELETE"}, body="")
    assert stack.web(path).status == 200


def test_a_reader_s_unfinished_requests_hold_nobody_up(stack: Stack) -> None:
    """As many as Orthanc has threads for its web page (50), and some."""
    login = base64.b64encode(f"reader:{stack.site.password('reader')}".encode()).decode()
    head = f"POST /tools/find HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\nContent-Length: 500\r\n\r\n{{"
    context = ssl.create_default_context(cadata=stack.site.authority("outside").certificate)
    with contextlib.ExitStack() as held:
        for _ in range(60):
            plain = held.enter_context(socket.create_connection(("localhost", WEB_PORT), 10))
            secured = held.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            secured.sendall(head.encode())
        began = time.monotonic()
        assert stack.web("/system").status == 200
        assert time.monotonic() - began < 2


def test_an_admin_deletes(stack: Stack) -> None:
    image = next(study.series(slices=1, seed="delete"))
    stack.peer("CT1").store([image])
    identifier = stack.stored(image.SOPInstanceUID)
    assert stack.web(f"/instances/{identifier}", method="DELETE").status == 200
    assert stack.stored(image.SOPInstanceUID) is None


def test_a_foreign_page_cannot_use_the_password_that_the_browser_keeps(stack: Stack) -> None:
    answer = stack.web("/tools/find", method="POST", body='{"Level": "Study", "Query": {}}', headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 200, "looking is no harm: the page can't read the answer"
    assert stack.web("/tools/reset", method="POST", body="", headers={"Sec-Fetch-Site": "cross-site"}).status == 403


@pytest.mark.parametrize("body", ["print(1)", ""])
def test_scripts_and_the_server_s_files_are_out_of_reach(stack: Stack, body: str) -> None:
    assert stack.web("/tools/execute-script", method="POST", body=body).status in (403, 404)
    image = stack.stored(next(study.series(slices=1)).SOPInstanceUID)
    assert stack.web(f"/instances/{image}/export", method="POST", body="/tmp/x").status in (403, 404)
    assert stack.web("/webdav/", method="PROPFIND").status in (403, 404, 405)


@pytest.mark.parametrize("path", ["/system", "/app/explorer.html"])
def test_answers_say_hsts_and_no_version(stack: Stack, path: str) -> None:
    for user in ("admin", None):
        headers = stack.web(path, user=user).headers
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert headers["server"] == "nginx"


def test_only_failed_logins_are_slowed(stack: Stack) -> None:
    failures = [time.monotonic()]
    for _ in range(6):
        assert stack.web("/studies", password="wrong").status == 401
        failures.append(time.monotonic())
    assert failures[-1] - failures[0] > 2, "six failures at two a second"
    began = time.monotonic()
    assert {stack.web("/system").status for _ in range(40)} == {200}
    good = (time.monotonic() - began) / 40
    slow = (failures[-1] - failures[1]) / 5
    assert good < slow / 2


@pytest.mark.usefixtures("stack")
def test_plain_http_is_no_way_in() -> None:
    connection = http.client.HTTPConnection("localhost", WEB_PORT, timeout=10)
    connection.request("GET", "/studies")
    assert connection.getresponse().status == 400


@pytest.mark.parametrize(
    ("version", "ciphers"), [("TLSv1_2", "ECDHE-RSA-AES128-SHA256"), ("TLSv1_1", "ALL:@SECLEVEL=0"), ("TLSv1_2", "AES128-GCM-SHA256")]
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_tls_and_its_ciphers_are_no_way_in(stack: Stack, version: str, ciphers: str) -> None:
    context = ssl.create_default_context(cadata=stack.site.authority("outside").certificate)
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    connection = http.client.HTTPSConnection("localhost", WEB_PORT, context=context, timeout=10)
    with pytest.raises(ssl.SSLError):
        connection.request("GET", "/studies")


def test_a_big_upload_goes_through(stack: Stack) -> None:
    image = next(study.series(slices=1, seed="big"))
    image.Rows, image.Columns, image.NumberOfFrames = 512, 512, 64
    image.PixelData = image.PixelData * 64
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    assert stack.web("/instances", method="POST", body=buffer.getvalue()).status == 200
    identifier = stack.stored(image.SOPInstanceUID)
    assert stack.web(f"/instances/{identifier}/file", user="reader").body == buffer.getvalue()
    stack.web(f"/instances/{identifier}", method="DELETE")
