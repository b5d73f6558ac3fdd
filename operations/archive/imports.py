"""`make import`: every DICOM file below a folder, by C-STORE over mutual TLS, on several associations at once.

What is told and written names files, never what stands in them.
"""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from config_templates.model import fingerprint
from laptop import tell
from laptop.private import write
from laptop.tell import Trouble
from operations.archive.folder import File, Header, NotDicom, Unreadable, cut_off, examine, files, printable
from operations.archive.journal import Journal
from operations.archive.pace import TELL_EVERY_SECONDS, Pace, megabytes
from operations.archive.patience import Failing, Patience, Refused, Stopped
from operations.archive.sender import Sender
from operations.verify.archive import Archive
from operations.verify.target import Modality, Target

MOST_PARALLEL: Final = 32  # a quarter of the associations that nginx lets a modality have
_BATCH: Final = 16  # files that are examined before the first of them is sent; no more, so that MOST contexts are enough


@dataclass
class Counts:
    already: int = 0
    refused: int = 0
    foreign: int = 0
    directories: int = 0
    linked: list[str] = field(default_factory=list)


def place_of(target: Target) -> Path:
    """Where a run keeps its journal: for each service one, because another one holds nothing of what this one acknowledged."""
    return Path("imports") / f"{target.short}-{fingerprint(target.authority)[:8]}"


def bring_in(target: Target, folder: Path, *, parallel: int, out: Path | None) -> int:
    """Exit code: 0 when the service has every object, 1 when it refused one. Raises Trouble when it can't go on."""
    if not folder.is_dir():
        raise Trouble(f"{folder} is {'a file' if folder.exists() else 'not there'}. Give the folder that holds the archive: FROM=...")
    if not 1 <= parallel <= MOST_PARALLEL:
        raise Trouble(f"PARALLEL={parallel} is not between 1 and {MOST_PARALLEL}.")
    modality = modality_that_stores(target)
    if (status := target.peer(modality).echo()) != 0:
        raise Trouble(f"the C-ECHO of {modality.aet} was answered with status {status:#06x}. 'make verify' may say more.")
    warnings.simplefilter("ignore", UserWarning)  # pydicom's, about values that it dislikes: what archives hold is the service's to judge
    place = out or place_of(target)
    with Journal(place / "stored.journal") as journal:
        return Import(target, modality, folder.resolve(), place, journal).run(parallel)


def modality_that_stores(target: Target) -> Modality:
    modality = target.modality
    if modality is None:
        raise Trouble(f"{target.name} has no modality whose key is known here, and an import is a modality. Enrol one that may store.")
    if "store" not in modality.may:
        raise Trouble(f"{modality.aet} may not store. Name a modality that may: AET=..., or give it the right.")
    return modality


class Import:
    """One run. The main thread walks the folder, others examine files and send them."""

    def __init__(self, target: Target, modality: Modality, folder: Path, place: Path, journal: Journal) -> None:
        self.target, self.modality, self.folder, self.place, self.journal = target, modality, folder, place, journal
        self.counts, self.pace, self.patience = Counts(), Pace(0), Patience(self._is_well)
        self.refusals = place / "refused.txt"
        self._batches: queue.Queue[Sequence[File]] = queue.Queue(maxsize=16)
        self._lock = threading.Lock()
        self._failed: BaseException | None = None
        self._archive = Archive(target)
        self._told = time.monotonic()

    def run(self, parallel: int) -> int:
        tell.step(f"{self.folder} to {self.target.name}, as {self.modality.aet}, {parallel} at a time")
        write(self.refusals, "")
        found = 0
        for file in files(self.folder, lambda _path, _why: None, lambda _path: None):
            found += 1
            self.pace.bytes_in_all += file.size
        tell.detail(f"{found:,} files, {megabytes(self.pace.bytes_in_all)}; what is acknowledged is noted in {self.journal.path}")
        self.pace.began = time.monotonic()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(parallel)]
        for worker in workers:
            worker.start()
        try:
            self._feed(parallel)
            while any(worker.is_alive() for worker in workers):
                workers[0].join(0.1) if workers[0].is_alive() else time.sleep(0.1)
                self._tell()
        finally:
            self.patience.stop.set()
            for worker in workers:
                worker.join(10)
            self._tell_all()
        if self._failed is not None:
            raise self._failed
        return 1 if self.counts.refused else 0

    # -- the main thread -----------------------------------------------------------------------------------------------

    def _feed(self, parallel: int) -> None:
        for batch in chain(self._unsent(), repeat((), parallel)):
            while not self.patience.stop.is_set():
                with suppress(queue.Full):
                    self._batches.put(batch, timeout=0.2)
                    break
                self._tell()

    def _unsent(self) -> Iterator[Sequence[File]]:
        batch: list[File] = []
        for file in files(self.folder, self._refuse, self.counts.linked.append):
            if file.line in self.journal.lines:
                self.counts.already += 1
                self.pace.bytes_in_all -= file.size
                continue
            batch.append(file)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < TELL_EVERY_SECONDS:
            return
        self._told = now
        seconds = now - self.pace.began
        refused = f", {self.counts.refused:,} refused" if self.counts.refused else ""
        tell.detail(f"{self.pace.count:,} stored{refused}; {self.pace.after(seconds)}, {self.pace.left(seconds)} left")

    def _tell_all(self) -> None:
        counts, pace = self.counts, self.pace
        tell.step(f"{pace.count:,} stored, {megabytes(pace.bytes)}: {pace}")
        tell.detail(f"{counts.already:,} were stored by an earlier run")
        tell.detail(f"{counts.foreign:,} files are not DICOM, {counts.directories:,} are a DICOMDIR")
        if counts.linked:
            some = f"{printable(counts.linked[0])} and others" if len(counts.linked) > 1 else printable(counts.linked[0])
            tell.detail(
                f"{len(counts.linked):,} linked folders were not followed ({some}): they may lead in circles. FROM=... brings one in"
            )
        where = f": see {self.refusals}" if counts.refused else ""
        tell.detail(f"{counts.refused:,} refused{where}")

    # -- the others ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        sender = Sender(self.target.peer(self.modality))
        try:
            while batch := self.patience.next_of(self._batches):
                self._send_all(sender, self._examined(batch))
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failed = self._failed or error
            self.patience.stop.set()
        finally:
            sender.close()

    def _examined(self, batch: Sequence[File]) -> list[tuple[File, Header]]:
        found = []
        for file in batch:
            try:
                found.append((file, examine(file.path)))
            except NotDicom as other:
                with self._lock:
                    self.counts.directories += other.directory
                    self.counts.foreign += not other.directory
                    self.pace.bytes_dealt_with += file.size
            except Unreadable as error:
                self._refuse(file.path, str(error), file.size)
        return found

    def _send_all(self, sender: Sender, found: Sequence[tuple[File, Header]]) -> None:
        needed = {header for _, header in found}
        for file, header in found:
            try:
                self.patience.insist(partial(_attempt, sender, file, header, needed))
            except Refused as refused:
                self._refuse(file.path, str(refused), file.size)
            else:
                self._store(file)

    def _is_well(self) -> bool:
        """Whether Orthanc and its database answer at the web page; where no login is known, nobody can ask."""
        if self.target.admin is None:
            return True
        try:
            return self._archive.ask("/changes?last").status == 200
        except OSError:
            return False

    def _store(self, file: File) -> None:
        with self._lock:
            self.journal.add(file.line)
            self.pace.went(file.size)

    def _refuse(self, path: str, why: str, size: int = 0) -> None:
        with self._lock:
            self.counts.refused += 1
            self.pace.bytes_dealt_with += size
            with self.refusals.open("a", encoding="utf-8") as listed:
                listed.write(f"{printable(path)}\t{why}\n")


def _attempt(sender: Sender, file: File, header: Header, needed: AbstractSet[Header]) -> None:
    try:
        sender.send(file.path, file.size, header, needed)
    except Failing as failing:
        if failing.reached and cut_off(file.path):  # the service waits for the rest, and so is silent
            raise Refused("it is cut off") from None
        raise
