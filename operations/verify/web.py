"""The checks of the web page."""

from __future__ import annotations

import time
from collections.abc import Generator

from operations.verify.archive import Archive
from operations.verify.finding import Bad, Finding, days_left, latency, left_out, look
from operations.verify.target import Target
from operations.verify.tls import handshake, reached, refuses_old_tls, shown
from operations.verify.wire import answer

TRIES = 5


def web(target: Target) -> Generator[Finding, None, bool]:
    """Returns whether an admin is let in: without one nothing could be removed, so nothing may be stored."""
    archive = Archive(target)
    port = look("web: reached", lambda: reached(target, target.web_port))
    yield port
    rest = ("web: TLS", "web: certificate", "web: TLS 1.1 refused", "web: plaintext refused", "web: login required", "web: admin's login")
    if port.verdict == "BAD":
        yield from left_out("the port is not reached", *rest)
        return False
    tls, certificate, old, plaintext, no_login, login = rest
    yield look(tls, lambda: handshake(target, target.web_port, archive.context))
    yield look(certificate, lambda: days_left(shown(target, target.web_port, None)))
    yield look(old, lambda: refuses_old_tls(target, target.web_port))
    yield look(plaintext, lambda: _refuses_http(target))
    yield look(no_login, lambda: _requires_login(archive))
    if target.admin is None:
        yield from left_out("no admin's password is known here", login)
        return False
    let_in = look(login, lambda: _lets_the_admin_in(archive))
    yield let_in
    return let_in.verdict == "good"


def _refuses_http(target: Target) -> str:
    told = answer(target.host, target.web_port, f"GET /system HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n\r\n".encode())
    if not told.startswith(b"HTTP/"):
        return "it speaks no HTTP there"
    status = told.split()[1].decode(errors="replace")
    if status != "400":
        raise Bad(f"a request without TLS was answered with {status}")
    return "status 400"


def _requires_login(archive: Archive) -> str:
    paths = ("/", "/system", "/studies", "/dicom-web/studies")
    answers = {path: archive.ask(path, login=False).status for path in paths}
    if wrong := {path: status for path, status in answers.items() if status != 401}:
        raise Bad(f"without a login it answers {', '.join(f'{path} with {status}' for path, status in wrong.items())}, not 401")
    return f"status 401 for {', '.join(paths)}"


def _lets_the_admin_in(archive: Archive) -> str:
    took = []
    for _ in range(TRIES):
        begun = time.monotonic()
        told = archive.json("/statistics")
        took.append(time.monotonic() - begun)
    return f"{told['CountStudies']} studies, {int(told['TotalDiskSize']) / 1e9:.1f} GB; {latency(took)}, each with its handshake"
