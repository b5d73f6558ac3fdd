"""`make export`: every object of a service to a file of its own, over HTTPS, each compared with what the service says of it.

TO/StudyInstanceUID/SeriesInstanceUID/SOPInstanceUID.dcm
TO/manifest.csv    path, size and MD5 of each; appended to while it goes on
TO/missing.txt     what could not be had, and why
TO/export.json     of which service this is
"""

from __future__ import annotations

import json
import os
import queue
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest, md5
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

from config_templates.model import fingerprint
from laptop import tell
from laptop.private import private_directory, write
from laptop.tell import Trouble
from operations.archive.journal import Journal
from operations.archive.pace import TELL_EVERY_SECONDS, Pace, megabytes
from operations.archive.patience import Failing, Patience, Refused, Stopped
from operations.archive.web import Gone, Web
from operations.verify.archive import Archive
from operations.verify.target import Target

HEADER: Final = "path,bytes,md5"
MOST_PARALLEL: Final = 32
_MANIFEST, _MISSING, _MARK = "manifest.csv", "missing.txt", "export.json"
_BLOCK: Final = 2**20


@dataclass(frozen=True)
class Object:
    """`identifier` is Orthanc's. `size` is the file's, as Orthanc's index has it."""

    identifier: str
    path: str
    size: int


@dataclass
class Counts:
    listed: int = 0
    already: int = 0
    missing: int = 0
    gone: int = 0


def carry_out(target: Target, folder: Path, *, parallel: int) -> int:
    """Exit code: 0 when the folder holds every object, 1 when one is missing. Raises Trouble when it can't go on."""
    if not 1 <= parallel <= MOST_PARALLEL:
        raise Trouble(f"PARALLEL={parallel} is not between 1 and {MOST_PARALLEL}.")
    archive = Archive(target)
    Web(target, archive.context)  # says so when there is no login
    mark = json.dumps({"service": target.short, "authority": fingerprint(target.authority)}) + "\n"
    check_free(folder, mark)
    private_directory(folder)
    write(folder / _MARK, mark)
    with Journal(folder / _MANIFEST) as manifest:
        return Export(target, archive, folder, manifest).run(parallel)


def check_free(folder: Path, mark: str) -> None:
    """The folder must be new, empty, or hold an export of this very service: two archives must not get mixed."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise Trouble(f"{folder} is a file. Give a folder: TO=...")
    there = sorted(path.name for path in folder.iterdir())
    marked = folder / _MARK
    if there and not marked.exists():
        raise Trouble(f"the folder {folder} holds something else ({', '.join(there[:3])}). Give a new or an empty one: TO=...")
    if there and marked.read_text(encoding="utf-8") != mark:
        raise Trouble(f"the folder {folder} holds an export of another service, or from before its keys changed. Give another: TO=...")


class Export:
    """One run. The main thread lists what the service holds, others fetch it."""

    def __init__(self, target: Target, archive: Archive, folder: Path, manifest: Journal) -> None:
        self.target, self.archive, self.folder, self.manifest = target, archive, folder, manifest
        self.counts, self.pace = Counts(), Pace(0)
        self.patience = Patience(self._is_well)
        self.noted = _noted(manifest)
        self._objects: queue.Queue[Sequence[Object]] = queue.Queue(maxsize=64)
        self._lock = threading.Lock()
        self._made: set[str] = set()
        self._failed: BaseException | None = None
        self._told = time.monotonic()

    def run(self, parallel: int) -> int:
        tell.step(f"{self.target.name} to {self.folder}, {parallel} at a time")
        web = Web(self.target, self.archive.context)
        held, self.pace.bytes_in_all = self._statistics(web)
        tell.detail(f"it holds {held:,} objects, {megabytes(self.pace.bytes_in_all)}")
        write(self.folder / _MISSING, "")
        if not self.manifest.lines:
            self.manifest.add(HEADER)
        self.pace.began = time.monotonic()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(parallel)]
        for worker in workers:
            worker.start()
        try:
            with suppress(Stopped):
                self._feed(web, parallel)
            while any(worker.is_alive() for worker in workers):
                time.sleep(0.05)
                self._tell()
        finally:
            self.patience.stop.set()
            for worker in workers:
                worker.join(10)
        if self._failed is not None:
            raise self._failed
        self.patience.stop.clear()
        write(
            self.folder / _MANIFEST, "".join(f"{line}\n" for line in (HEADER, *(_row(p, s, d) for p, (s, d) in sorted(self.noted.items()))))
        )
        return self._judge(self._statistics(web)[0])

    # -- the main thread -----------------------------------------------------------------------------------------------

    def _statistics(self, web: Web) -> tuple[int, int]:
        found = self.patience.insist(partial(web.json, "/statistics"))
        return int(found["CountInstances"]), int(found["TotalUncompressedSize"])

    def _feed(self, web: Web, parallel: int) -> None:
        for objects in chain(self._listed(web), repeat((), parallel)):
            self.counts.listed += len(objects)
            while not self.patience.stop.is_set():
                with suppress(queue.Full):
                    self._objects.put(objects, timeout=0.2)
                    break
                self._tell()

    def _listed(self, web: Web) -> Iterator[Sequence[Object]]:
        """Every object that the service holds now, a series at a time."""
        for study in self.patience.insist(partial(web.json, "/studies")):
            try:
                yield from self._of_study(web, study)
            except Gone:
                self.counts.gone += 1
            except Refused as refused:
                self._miss(f"study {study}", str(refused))

    def _of_study(self, web: Web, study: str) -> Iterator[Sequence[Object]]:
        def ask(path: str, body: str | None = None) -> Any:
            return self.patience.insist(partial(web.json, path, body=body))

        uid = ask(f"/studies/{study}")["MainDicomTags"].get("StudyInstanceUID", "")
        # Another patient's study may have the same UID: then Orthanc's identifier tells them apart.
        alike = [found for found in ask("/tools/lookup", uid) if found["Type"] == "Study"] if uid else []
        top = name_of(uid, study) if len(alike) < 2 else study
        for series in ask(f"/studies/{study}/series"):
            middle = name_of(series["MainDicomTags"].get("SeriesInstanceUID", ""), series["ID"])
            found = ask(f"/series/{series['ID']}/instances")
            yield [
                Object(
                    one["ID"], f"{top}/{middle}/{name_of(one['MainDicomTags'].get('SOPInstanceUID', ''), one['ID'])}.dcm", one["FileSize"]
                )
                for one in found
            ]

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < TELL_EVERY_SECONDS:
            return
        self._told = now
        seconds = now - self.pace.began
        missing = f", {self.counts.missing:,} missing" if self.counts.missing else ""
        tell.detail(f"{self.pace.count:,} fetched{missing}; {self.pace.after(seconds)}, {self.pace.left(seconds)} left")

    def _judge(self, held: int) -> int:
        counts = self.counts
        there = sum(1 for _ in self.folder.glob("*/*/*.dcm"))
        tell.step(f"{self.pace.count:,} fetched, {megabytes(self.pace.bytes)}: {self.pace}")
        tell.detail(f"{counts.already:,} were there from an earlier run")
        for count, what in ((counts.missing, f"missing: see {self.folder / _MISSING}"), (counts.gone, "deleted at the service meanwhile")):
            if count:
                tell.detail(f"{count:,} {what}")
        if left_over := there - (self.pace.count + counts.already):
            tell.detail(f"{left_over:,} files are of objects that the service holds no longer")
        came = held - (self.pace.count + counts.already + counts.missing)
        if came > 0:
            tell.detail(f"{came:,} objects came meanwhile: run the same command again to fetch them")
        elif not counts.missing:
            tell.detail(f"complete: {there - left_over:,} files, and the service counts {held:,} objects")
        return 1 if counts.missing or came > 0 else 0

    # -- the others ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        web = Web(self.target, self.archive.context)
        try:
            while objects := self.patience.next_of(self._objects):
                for one in objects:
                    self._have(web, one)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failed = self._failed or error
            self.patience.stop.set()
        finally:
            web.close()

    def _have(self, web: Web, one: Object) -> None:
        path = self.folder / one.path
        with suppress(FileNotFoundError):
            if path.stat().st_size == one.size and self.noted.get(one.path, (0, ""))[0] == one.size:
                with self._lock:
                    self.counts.already += 1
                    self.pace.bytes_dealt_with += one.size
                return
        try:
            digest = self.patience.insist(partial(self._fetch, web, one, path))
        except Gone:
            with self._lock:
                self.counts.gone += 1
            return
        except Refused as refused:
            self._miss(f"{one.path} (instance {one.identifier})", str(refused))
            return
        with self._lock:
            self.manifest.add(_row(one.path, one.size, digest))
            self.noted[one.path] = one.size, digest
            self.pace.went(one.size)

    def _fetch(self, web: Web, one: Object, path: Path) -> str:
        """The object's MD5, once it is in its file: whole, and as the service received it. Raises Failing and Gone."""
        expected = _expected(web, one)
        if path.exists():  # a run that was killed had not noted it
            with path.open("rb") as file:
                if file_digest(file, _md5).hexdigest() == expected:
                    return expected
        self._make(path.parent)
        arriving = path.with_name(f"{path.name}.part")
        try:
            _compare(_receive(web, one, arriving), expected)
            # A power failure may leave an empty file of this name: its size tells, and it is fetched again.
            arriving.replace(path)
        except BaseException:
            arriving.unlink(missing_ok=True)
            raise
        return expected

    def _make(self, folder: Path) -> None:
        with self._lock:
            if str(folder) not in self._made:
                private_directory(folder.parent)
                private_directory(folder)
                self._made.add(str(folder))

    def _miss(self, what: str, why: str) -> None:
        with self._lock:
            self.counts.missing += 1
            with (self.folder / _MISSING).open("a", encoding="utf-8") as listed:
                listed.write(f"{what}\t{why}\n")

    def _is_well(self) -> bool:
        try:
            return self.archive.ask("/changes?last").status == 200
        except OSError:
            return False


_md5 = partial(md5, usedforsecurity=False)  # it is what Orthanc notes of each attachment


def _expected(web: Web, one: Object) -> str:
    """The MD5 that stands in the service's index."""
    with web.answer(f"/instances/{one.identifier}/attachments/dicom/md5") as answer:
        return answer.read().decode()


def _receive(web: Web, one: Object, arriving: Path) -> str:
    """The MD5 of what came."""
    digest = _md5()
    try:
        with (
            web.answer(f"/instances/{one.identifier}/attachments/dicom/data") as answer,
            os.fdopen(os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
        ):
            while block := answer.read(_BLOCK):
                digest.update(block)
                file.write(block)
    except Gone:
        _expected(web, one)  # Gone as well, if it was deleted meanwhile
        raise Failing("the service lists it and has lost its file (docs/alarms.md, store-cancelled)", reached=True) from None
    return digest.hexdigest()


def _compare(came: str, expected: str) -> None:
    if came != expected:
        raise Failing("what came is not what the service once received: another MD5", reached=True)


def name_of(uid: str, identifier: str) -> str:
    """A UID as a name of a file or folder. What is none may be anything, a path too: Orthanc's identifier stands in for it."""
    return uid if re.fullmatch(r"[0-9][0-9.]{0,63}", uid) else identifier


def _row(path: str, size: int, digest: str) -> str:
    return f"{path},{size},{digest}"


def _noted(manifest: Journal) -> dict[str, tuple[int, str]]:
    """Size and MD5 by path. What a crash has left of a line is no line."""
    rows = (re.fullmatch(r"([^,]+),(\d+),([0-9a-f]{32})", line) for line in manifest.lines)
    return {row[1]: (int(row[2]), row[3]) for row in rows if row}
