"""A service on 127.0.0.1 for `make import` and `make export`: what it takes and gives, and what goes wrong, is a test's to say."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time from the standard's tables

from operations.verify.target import Target
from tests.operations.served import PASSWORD, Served, _context, _Web


@dataclass
class Archived:
    """`received`: how often each SOP instance came. `objects`: what the web page gives, by Orthanc's identifier."""

    served: Served
    takes: frozenset[tuple[UID, UID]] = frozenset()
    statuses: dict[str, list[int | None]] = field(default_factory=dict)  # by SOP instance; None: break off; the last one stays
    down: threading.Event = field(default_factory=threading.Event)
    received: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # of their data sets, as they came
    most_contexts: int = 0
    associations: int = 0
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)  # statuses by path, used up one after the other
    asked: list[str] = field(default_factory=list)
    counted: int | None = None

    def target(self, **changes: Any) -> Target:
        return self.served.target(**changes)

    def hold(self, *uids: str, data: bytes = b"DICOM", md5: str | None = None) -> str:
        """Hold an object of that study, series and instance; returns Orthanc's identifier of it."""
        identifier = f"id{len(self.objects)}"
        told = md5 or hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.objects[identifier] = {"uids": uids, "data": data, "md5": told}
        return identifier

    # -- DICOM ----------------------------------------------------------------------------------------------------------

    def requested(self, event: evt.Event) -> None:
        contexts = event.assoc.requestor.requested_contexts
        self.most_contexts = max(self.most_contexts, len(contexts))
        self.associations += 1
        if self.down.is_set():
            event.assoc.abort()

    def stored(self, event: evt.Event) -> int:
        assert isinstance(event.request, C_STORE)
        uid = str(event.request.AffectedSOPInstanceUID)
        left = self.statuses.get(uid, [0])
        status = left.pop(0) if len(left) > 1 else left[0]
        if self.down.is_set():
            status = None
        if status is None:
            event.assoc.abort()
            return 0xC000
        if status == 0 or 0xB000 <= status <= 0xBFFF:
            self.received.append(uid)
            assert event.request.DataSet is not None
            self.sizes.append(len(event.request.DataSet.getvalue()))
        return status

    # -- web ------------------------------------------------------------------------------------------------------------

    def answer(self, path: str, body: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if (left := self.answers.get(path)) and (status := left.pop(0)) != 200:
            return status, b""
        if self.down.is_set():
            return 503, b""
        found = self._found(path.partition("?")[0].strip("/").split("/"), body)
        return (404, b"") if found is None else (200, found if isinstance(found, bytes) else json.dumps(found).encode())

    def _found(self, path: list[str], body: str) -> Any:  # noqa: PLR0911 - one for each kind of question
        instances = [(name, *one["uids"]) for name, one in self.objects.items()]
        match path:
            case ["changes"]:
                return {}
            case ["statistics"]:
                count = len(self.objects) if self.counted is None else self.counted
                return {"CountInstances": count, "TotalUncompressedSize": str(sum(len(one["data"]) for one in self.objects.values()))}
            case ["studies"]:
                return sorted({_identifier("st", study) for _, study, _, _ in instances})
            case ["tools", "lookup"]:
                return [
                    {"Type": "Study", "ID": name}
                    for name in sorted({_identifier("st", s) for _, s, _, _ in instances})
                    if _plain(name) == body
                ]
            case ["studies", study]:
                return {"MainDicomTags": {"StudyInstanceUID": _plain(study)}}
            case ["studies", study, "series"]:
                series = sorted({one for _, s, one, _ in instances if _identifier("st", s) == study})
                return [{"ID": _identifier("se", one), "MainDicomTags": {"SeriesInstanceUID": one}} for one in series]
            case ["series", series, "instances"]:
                return [
                    {"ID": name, "MainDicomTags": {"SOPInstanceUID": uid}, "FileSize": len(self.objects[name]["data"])}
                    for name, _, one, uid in instances
                    if _identifier("se", one) == series
                ]
            case ["instances", name, "attachments", "dicom", what] if name in self.objects:
                kept = self.objects[name]
                return kept["md5"].encode() if what == "md5" else kept["data"]
        return None


def _identifier(kind: str, uid: str) -> str:
    """Orthanc's, which here tells the UID, and after a `#` perhaps what tells a study from another patient's."""
    return kind + quote(uid, safe="")


def _plain(study: str) -> str:
    return unquote(study.removeprefix("st")).partition("#")[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece: two would wait for delayed acknowledgements

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        login = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        archived: Archived = self.server.archived  # type: ignore[attr-defined]
        status, told = archived.answer(self.path, body) if self.headers.get("Authorization") == login else (401, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = _any  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@contextmanager
def archiving(folder: Path, *takes: tuple[UID, UID]) -> Iterator[Archived]:
    """A service that runs while the body does."""
    served = Served(folder)
    archived = Archived(served, frozenset(takes))
    entity = AE(ae_title="ORTHANC")
    entity.maximum_associations = 1000
    entity.add_supported_context(Verification)
    for sop_class in {sop_class for sop_class, _ in takes}:
        entity.add_supported_context(sop_class, [syntax for one, syntax in takes if one == sop_class])
    handlers: list[Any] = [(evt.EVT_C_STORE, archived.stored), (evt.EVT_REQUESTED, archived.requested)]
    dicom = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=_context(served, clients=True), evt_handlers=handlers)
    web = _Web(served, _context(served, clients=False))
    web.RequestHandlerClass = _Handler
    web.archived = archived  # type: ignore[attr-defined]
    threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
    assert dicom is not None
    served.dicom_port, served.web_port = dicom.server_address[1], web.server_address[1]
    try:
        yield archived
    finally:
        web.shutdown()
        web.server_close()
        dicom.shutdown()
