"""A service on 127.0.0.1 for `make verify`: DICOM over mutual TLS and a web API, as nginx and Orthanc answer, with faults to choose."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from laptop import certificates
from laptop.certificates import Pair, Profile
from laptop.private import write_bundle
from operations.verify.target import Login, Modality, Target

PASSWORD = "correct-horse"


@cache
def authority() -> Pair:
    return certificates.make_authority("outside authority", "ecdsa")


@cache
def leaf(name: str, days: int = 397) -> Pair:
    """A certificate of the service's authority that ends `days` from now."""
    profile = Profile(kind="ecdsa", usages=("client", "server"), names=("127.0.0.1", "localhost", name), days=days + 30)
    return certificates.issue(authority(), name, profile, now=datetime.now(UTC) - timedelta(days=30) + certificates.CLOCK_SKEW)


@dataclass
class Served:
    """What it holds, and how it misbehaves. `faults` may change while it runs; TLS ones count when it is started."""

    folder: Path
    faults: frozenset[str] = frozenset()
    days: int = 397
    held: dict[str, Dataset] = field(default_factory=dict)  # by StudyInstanceUID
    removed: list[str] = field(default_factory=list)
    hangs: threading.Event = field(default_factory=threading.Event)
    dicom_port: int = 0
    web_port: int = 0

    def target(self, **changes: Any) -> Target:
        bundle = self.folder / "CT1"
        pair = leaf("ct1.modality.orthanc")
        write_bundle(bundle, "CT1", certificate=pair.certificate, authority=authority().certificate, key=pair.key)
        values: dict[str, Any] = {
            "name": "the pretended service",
            "short": "pretended",
            "host": "127.0.0.1",
            "dicom_port": self.dicom_port,
            "web_port": self.web_port,
            "aet": "ORTHANC",
            "authority": authority().certificate,
            "modality": Modality(aet="CT1", bundle=bundle, may=("store", "find")),
            "admin": Login(name="admin", password=PASSWORD),
            "certificates": {("CT1", 1): pair.certificate},
        }
        return Target(**{**values, **changes})

    # -- DICOM ----------------------------------------------------------------------------------------------------------

    def stored(self, event: evt.Event) -> int:
        if "store refuses" in self.faults:
            return 0xA700
        image = event.dataset
        self.held[str(image.StudyInstanceUID)] = image
        if "store breaks off" in self.faults:
            event.assoc.abort()
        return 0

    def found(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if "find fails" in self.faults:
            yield 0xC000, None
            return
        image = self.held.get(str(event.identifier.StudyInstanceUID))
        if "find hangs" in self.faults:
            self.hangs.set()
            time.sleep(1)
        if image is not None and "find sees nothing" not in self.faults:
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.StudyInstanceUID, answer.PatientName = "STUDY", image.StudyInstanceUID, image.PatientName
            yield 0xFF00, answer

    def echoed(self, _: evt.Event) -> int:
        return 0x0122 if "echo refused" in self.faults else 0

    # -- web ------------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, body: str) -> tuple[int, object]:
        if method == "DELETE" and "nothing is removed" in self.faults:
            return 500, None
        studies = {f"id-{uid}": uid for uid in self.held}
        match method, path:
            case "GET", "/statistics":
                return 200, {"CountStudies": len(studies), "TotalDiskSize": "1500000000"}
            case "POST", "/tools/lookup":
                return 200, [{"Type": "Study", "ID": identifier} for identifier, uid in studies.items() if uid == body]
            case "POST", "/tools/find":
                wanted = json.loads(body)["Query"]["PatientID"]
                return 200, [self._expanded(uid) for uid, image in self.held.items() if image.PatientID == wanted]
            case "DELETE", _:
                self._remove(studies[path.removeprefix("/studies/")])
                return 200, {}
        return 404, None

    def _remove(self, uid: str) -> None:
        if "removed things stay" not in self.faults:
            del self.held[uid]
            self.removed.append(uid)

    def _expanded(self, uid: str) -> object:
        image = self.held[uid]
        return {
            "ID": f"id-{uid}",
            "MainDicomTags": {"StudyDate": str(image.StudyDate), "StudyTime": str(image.StudyTime)},
            "PatientMainDicomTags": {"PatientID": str(image.PatientID), "PatientName": str(image.PatientName)},
        }


def _context(served: Served, *, clients: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = leaf("server", served.days)
    bundle = served.folder / "server"
    write_bundle(bundle, "server", certificate=pair.certificate, authority=authority().certificate, key=pair.key)
    context.load_cert_chain(str(bundle / "server.crt"), str(bundle / "server.key"))
    if clients:
        context.load_verify_locations(cadata=authority().certificate)
        context.verify_mode = ssl.CERT_NONE if "anybody gets in" in served.faults else ssl.CERT_REQUIRED
    if "old TLS" in served.faults:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


class _Web(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, served: Served, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served, self.context = served, context

    def get_request(self) -> tuple[Any, Any]:
        plain, address = super().get_request()
        plain.settimeout(5)
        if "plain web" in self.served.faults and plain.recv(1, 2) != b"\x16":  # 2: MSG_PEEK
            return plain, address
        return self.context.wrap_socket(plain, server_side=True), address

    def handle_error(self, *_: object) -> None:
        """Who breaks off is no news."""


class _Handler(BaseHTTPRequestHandler):
    def _any(self) -> None:
        assert isinstance(self.server, _Web)
        served = self.server.served
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        login = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != login and "no login" not in served.faults:
            self.send_response(401)
            self.end_headers()
            return
        status, told = served.answer(self.command, self.path, body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    do_GET = do_POST = do_DELETE = _any  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@contextmanager
def serving(folder: Path, *faults: str, days: int = 397) -> Iterator[Served]:
    """A service that runs while the body does."""
    served = Served(folder, frozenset(faults), days)
    entity = AE(ae_title="ORTHANC")
    entity.require_called_aet = True
    entity.maximum_associations = 1000  # it counts whoever closed after the handshake, until a timeout
    entity.require_calling_aet = [] if "any title" in faults else ["CT1"]
    for abstract_syntax in (Verification, CTImageStorage, StudyRootQueryRetrieveInformationModelFind):
        entity.add_supported_context(abstract_syntax)
    handlers: list[Any] = [(evt.EVT_C_ECHO, served.echoed), (evt.EVT_C_STORE, served.stored), (evt.EVT_C_FIND, served.found)]
    context = None if "plain DICOM" in faults else _context(served, clients=True)
    dicom = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    web = _Web(served, _context(served, clients=False))
    thread = threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    assert dicom is not None
    served.dicom_port, served.web_port = dicom.server_address[1], web.server_address[1]
    try:
        yield served
    finally:
        web.shutdown()
        web.server_close()
        dicom.shutdown()
