"""A queue's Orthanc in memory, the server behind it, and a clock: what the forwarder meets."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_KINDS = list(enumerate(("NewInstance", "NewSeries", "NewStudy", "NewPatient")))
PASSWORD = "kept-inside"
STARTED = 1_800_000_000.0


@dataclass
class Clock:
    now: float = STARTED

    def __call__(self) -> float:
        return self.now


@dataclass
class Object:
    change: int
    parents: int  # changes of a new patient, study and series right before it
    arrived: str
    content: bytes


@dataclass
class Orthanc:
    """What the queue holds, what was asked of it, and how the server behind it behaves. Change any of it meanwhile."""

    objects: dict[str, Object] = field(default_factory=dict)
    sends: list[list[str]] = field(default_factory=list)  # every try, refused ones too
    calls: list[tuple[str, str]] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)  # objects that the server refuses
    answers: bool = True  # the server, to a C-ECHO
    willing: bool = True  # the server, to any C-STORE
    fails: Callable[[str, str], int] = lambda _method, _path: 0  # an HTTP status, 0 for none, -1 for hanging up
    bound: int = 1000
    received: list[str] = field(default_factory=list)  # what the server has, in order
    changes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arrive(self, *names: str, at: str = "20270115T080000", change: int | None = None, content: bytes = b"DICM") -> None:
        """A study arrives: a change for each object, and three more before the first one's."""
        for name in names:
            parents = 3 if name == names[0] else 0
            self.changes += 1 + parents
            self.objects[name] = Object(self.changes if change is None else change, parents, at, content)

    # -- REST -----------------------------------------------------------------------------------------------------------

    def call(self, method: str, target: str, body: Any) -> tuple[int, object]:  # noqa: PLR0911 - one for each of its answers
        split = urlsplit(target)
        match method, split.path.strip("/").split("/"):
            case "GET", ["changes"]:
                asked = parse_qs(split.query)
                return 200, self._page(int(asked["since"][0]), int(asked["limit"][0]))
            case "GET", ["statistics"]:
                size = sum(len(found.content) for found in self.objects.values())
                return 200, {"CountInstances": len(self.objects), "TotalDiskSize": str(size)}
            case "GET", ["system"]:
                return 200, {"MaximumStorageSize": self.bound}
            case "POST", ["modalities", "server", "echo"]:
                answers = self.answers and body["Timeout"] <= 30  # beyond, whoever asked has given up
                return (200, {}) if answers else (500, _error("DicomAssociation - connecting to AET 'ORTHANC': refused"))
            case "POST", ["modalities", "server", "store"]:
                if not body["Synchronous"] or body["Timeout"] < 60:
                    return 200, {"ID": "a job, of which nobody knows yet how it ends"}
                return self._store(body["Resources"])
            case "GET", ["instances", name, "metadata"] if name in self.objects:
                return 200, []
            case "GET", ["instances", name, "file"] if name in self.objects:
                return 200, self.objects[name].content
            case "DELETE", ["instances", name] if name in self.objects:
                with self.lock:
                    del self.objects[name]
                return 200, {}
        return 404, _error("Unknown resource")

    def _page(self, since: int, limit: int) -> object:
        with self.lock:
            held = sorted(self.objects.items(), key=lambda item: item[1].change)
        rows = [
            {"Seq": found.change - n, "ChangeType": kind, "ID": name if kind == "NewInstance" else "p-" + name, "Date": found.arrived}
            for name, found in held
            for n, kind in _KINDS[found.parents :: -1]
            if found.change - n > since
        ]
        page = rows[:limit]
        return {"Changes": page, "Last": page[-1]["Seq"] if page else since, "Done": len(page) == len(rows)}

    def _store(self, names: Sequence[str]) -> tuple[int, object]:
        with self.lock:
            self.sends.append(list(names))
            if any(name not in self.objects for name in names):
                return 404, _error("Unknown resource")
            if not self.answers or not self.willing:
                return 500, _error("DicomAssociation - the association was refused")
            for name in names:
                if name in self.unwanted:
                    return 500, _error("C-STORE SCU: the status was 0xA900")
                self.received.append(name)
        return 200, {"InstancesCount": len(names), "FailedInstancesCount": 0}


def _error(text: str) -> object:
    return {"Message": "Error in the network protocol", "Details": text}


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with running(server):
        yield server.server_address[1]


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(orthanc: Orthanc) -> Iterator[int]:
    """`orthanc` over HTTP, for whoever knows the password."""
    login = "Basic " + b64encode(f"forwarder:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # as Orthanc: a connection stays until somebody closes it

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            orthanc.calls.append((self.command, self.path))
            status = orthanc.fails(self.command, self.path)
            if status < 0:
                self.close_connection = True
                return
            if self.headers.get("Authorization") != login:
                status = 401
            code, answer = (status, _error("as the test wants it")) if status else orthanc.call(self.command, self.path, body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have had enough
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _do  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """It would be noise."""

    with listening(Handler) as port:
        yield port
