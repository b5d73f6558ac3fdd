"""What hosts ask of AWS: a proxy in front of the emulated AWS that writes down every call, and lets services fail on demand."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from rehearsal.servers import Address, reset

# How a service fails: its connections break, it keeps silent, it says 503, or that one may not; or S3's objects arrive
# cut off in the middle, or whole with a wrong byte.
How: TypeAlias = Literal["reset", "hang", "unavailable", "denied", "truncated", "corrupted"]

_SIGNED_AS: Final = {"monitoring": "cloudwatch"}  # names in signatures that IAM knows under others
_CREDENTIAL: Final = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
_OF_ONE_CONNECTION: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_XML_ERROR: Final = "<ErrorResponse><Error><Code>{code}</Code><Message>the rehearsal says so</Message></Error></ErrorResponse>"
_XML_ERRORS: Final = {
    "s3": "<Error><Code>{code}</Code><Message>the rehearsal says so</Message></Error>",
    "ec2": "<Response><Errors><Error><Code>{code}</Code><Message>the rehearsal says so</Message></Error></Errors></Response>",
}
_REFUSALS: Final = {"unavailable": (503, "ServiceUnavailable"), "denied": (403, "AccessDenied")}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call. `service` and `action` are spelt as in IAM's policies."""

    at: float  # seconds since the epoch
    host: str  # the instance that called; '' when it is none
    service: str
    action: str
    parameters: Mapping[str, Any]
    status: int  # 0: it got no answer
    failed: How | None  # the fault that was played on it

    def __str__(self) -> str:
        return f"{self.service}:{self.action}"


@dataclass(eq=False)
class _Fault:
    what: tuple[str, ...]  # 'ssm', or one action alone: 'ssm:GetParameter'
    how: How
    host: str | None
    ended: threading.Event = field(default_factory=threading.Event)

    def hits(self, host: str, service: str, action: str) -> bool:
        return self.host in (None, host) and (service in self.what or f"{service}:{action}" in self.what)


class Calls(ThreadingHTTPServer):
    """The endpoint for hosts: passes everything on to the emulated AWS."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, listen: Address, emulator: Address, who: Callable[[str], str]) -> None:
        """`who` says which instance has an address."""
        super().__init__(listen, Handler)
        self.emulator = emulator
        self.who = who
        self.made: list[Call] = []
        self._faults: list[_Fault] = []

    @contextmanager
    def failing(self, how: How, *what: str, host: str | None = None) -> Iterator[None]:
        """Until the end of the `with` these services ('ssm') or actions ('ssm:GetParameter') fail, to all hosts or to that one."""
        fault = _Fault(what, how, host)
        self._faults.append(fault)
        try:
            yield
        finally:
            self._faults.remove(fault)
            fault.ended.set()

    def fault(self, host: str, service: str, action: str) -> _Fault | None:
        return next((fault for fault in self._faults if fault.hits(host, service, action)), None)


class Handler(BaseHTTPRequestHandler):
    server: Any  # Calls, or what hands calls on to one
    protocol_version = "HTTP/1.1"

    @property
    def calls(self) -> Calls:
        calls: Calls = self.server
        return calls

    def handle_any(self) -> None:
        begun, host = time.time(), self.calls.who(self.client_address[0])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        service, action, parameters = understood(self.command, self.path, self.headers, body)
        fault = self.calls.fault(host, service, action)
        status = self._refused(fault, service) if fault and fault.how not in ("truncated", "corrupted") else self._passed_on(body, fault)
        self.calls.made.append(
            Call(
                at=begun,
                host=host,
                service=service,
                action=action,
                parameters=parameters,
                status=status,
                failed=fault.how if fault else None,
            )
        )

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - the names are http.server's

    def _refused(self, fault: _Fault, service: str) -> int:
        if fault.how in _REFUSALS:
            status, code = _REFUSALS[fault.how]
            if "X-Amz-Target" in self.headers:
                self._answer(status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps({"__type": code}).encode())
            else:
                self._answer(status, {"Content-Type": "text/xml"}, _XML_ERRORS.get(service, _XML_ERROR).format(code=code).encode())
            return status
        if fault.how == "hang":
            fault.ended.wait()
        self.close_connection = True
        reset(self.connection)
        return 0

    def _passed_on(self, body: bytes, fault: _Fault | None) -> int:
        onward = http.client.HTTPConnection(*self.calls.emulator, timeout=120)
        try:
            onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect", "transfer-encoding", "content-length"):
                    onward.putheader(name, value)
            onward.putheader("Content-Length", str(len(body)))
            onward.endheaders(body)
            answer = onward.getresponse()
            content = answer.read()
        except OSError:
            self.close_connection = True
            reset(self.connection)
            return 0
        finally:
            onward.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_ONE_CONNECTION}
        length = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(content)
        if fault and content and self.command == "GET" and answer.status == http.HTTPStatus.OK:
            # What S3 says about its bytes goes, so that only the reader's own check is left.
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum")}
            middle = len(content) // 2
            if fault.how == "truncated":
                content = content[:middle]
                self.close_connection = True
            else:
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self._answer(answer.status, headers, content, length)
        return answer.status

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ssl.SSLError, ValueError):  # the peer has gone, or was sent away
            self.close_connection = True


def understood(method: str, target: str, headers: Message, body: bytes) -> tuple[str, str, Mapping[str, Any]]:
    """Service, action and parameters of a request, in each of the ways in which AWS's services are spoken to."""
    signed = _CREDENTIAL.search(headers.get("Authorization") or "")
    service = _SIGNED_AS.get(signed.group(1), signed.group(1)) if signed else ""
    url = urlsplit(target)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    if service == "s3":
        return "s3", *_s3(method, unquote(url.path), query)
    if "X-Amz-Target" in headers:
        return service, headers["X-Amz-Target"].rpartition(".")[2], _json(body)
    if "/operation/" in url.path:  # Smithy RPC: JSON or CBOR
        return service, url.path.rpartition("/")[2], _json(body)
    form = query | dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return service, form.pop("Action", f"{method} {url.path}"), form


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _s3(method: str, path: str, query: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """The permission that a request to S3 needs; what hosts have no business with stays as it was asked."""
    bucket, _, key = path.lstrip("/").partition("/")
    named = {"Bucket": bucket, "Key": key, **query}
    plain = not query.keys() - {"versionId", "x-id", "response-content-type", "list-type", "prefix", "delimiter", "encoding-type"}
    if key and plain:
        version = "Version" if "versionId" in query else ""
        known = {"GET": f"GetObject{version}", "HEAD": f"GetObject{version}", "PUT": "PutObject", "DELETE": f"DeleteObject{version}"}
    else:
        known = {"GET": "ListBucket", "HEAD": "ListBucket"} if plain else {}
    return known.get(method, f"{method} {path}?{'&'.join(query)}"), named


def secured(server: ThreadingHTTPServer, context: ssl.SSLContext) -> None:
    """Let a server speak TLS; the handshake happens on the connection's own thread."""
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
