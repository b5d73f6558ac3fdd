"""One object in, found, and out again. It belongs to a patient who is nobody, and is removed whatever happens in between."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from pydicom.dataset import Dataset

from laptop import study
from laptop.peer import Peer
from operations.verify.archive import Archive
from operations.verify.finding import Bad, Finding, left_out, look, ms
from operations.verify.target import Modality, Target

CHECKS: Final = ("C-STORE", "C-FIND", "test object removed")
# The patient of the test object. Nobody is called so, and both are compared before anything is removed.
PATIENT_ID: Final = "MAKE-VERIFY"
PATIENT_NAME: Final = "Verify^Not A Patient"
# An object of an earlier run that is older was left by one that was killed; a younger one may belong to a run of this moment.
ABANDONED: Final = timedelta(hours=1)
REMOVALS: Final = 5
PAUSE_SECONDS = 1.0


def exchange(target: Target, modality: Modality, peer: Peer) -> Iterator[Finding]:
    """C-STORE, C-FIND, and the removal, which comes whatever happened to the other two."""
    image, archive = made_object(datetime.now(UTC)), Archive(target)
    stored, found, removed = CHECKS
    findings: list[Finding] = []
    try:
        findings.append(look(stored, lambda: _stores(peer, image)))
        if "find" in modality.may:
            findings.append(look(found, lambda: _finds(peer, image)))
        else:
            findings += left_out(f"{modality.aet} may not find (AET=... takes another modality)", found)
    finally:
        # Nothing is yielded above, so that nobody who stops listening can stop this.
        failed = len(findings) == 0 or findings[0].verdict == "BAD"
        last = look(removed, lambda: _removes(archive, image, settle=failed))
    yield from (*findings, last)


def made_object(now: datetime) -> Dataset:
    """A made CT slice of a patient who is nobody, stamped with the time of this run (UTC)."""
    image = next(study.series(slices=1, seed=secrets.token_hex(16), patient=PATIENT_NAME))
    image.PatientID, image.StudyDescription = PATIENT_ID, "Test object of make verify: may be deleted"
    image.StudyDate, image.StudyTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    return image


def _stores(peer: Peer, image: Dataset) -> str:
    begun = time.monotonic()
    peer.store([image])
    return f"as {peer.aet}: {len(image.PixelData) // 1024} KiB of pixels in {ms(begun)}"


def _finds(peer: Peer, image: Dataset) -> str:
    begun = time.monotonic()
    found = peer.find_studies(StudyInstanceUID=str(image.StudyInstanceUID))
    took = ms(begun)
    if [str(one.PatientName) for one in found] != [PATIENT_NAME]:
        raise Bad(f"the object that was just stored is not found by its StudyInstanceUID ({len(found)} answers)")
    return f"as {peer.aet}: the study is found in {took}"


def _removes(archive: Archive, image: Dataset, *, settle: bool) -> str:
    """Remove this run's object, and any that a run which was killed has left. `settle`: it may still be on its way in."""
    uid = str(image.StudyInstanceUID)
    why = ""
    for attempt in range(REMOVALS):
        if attempt or settle:
            time.sleep(PAUSE_SECONDS)
        try:
            for identifier in archive.studies(uid):
                archive.remove(identifier)
            if archive.studies(uid):
                why = "it is still found after its removal"
                continue
            left = _remove_abandoned(archive)
        except (Bad, OSError, ValueError, KeyError) as error:
            why = str(error)
        else:
            return f"nothing of it is left{f'; {left} of earlier runs removed too' if left else ''}"
    raise Bad(f"IT MAY BE LEFT BEHIND ({why}): patient {PATIENT_ID}, '{PATIENT_NAME}', StudyInstanceUID {uid}. Delete it at the web page.")


def _remove_abandoned(archive: Archive) -> int:
    before = datetime.now(UTC) - ABANDONED
    count = 0
    for found in archive.studies_of(PATIENT_ID):
        tags, patient = found["MainDicomTags"], found["PatientMainDicomTags"]
        made = f"{tags.get('StudyDate', '')}{tags.get('StudyTime', '')}"
        if patient.get("PatientName") == PATIENT_NAME and "" < made < f"{before:%Y%m%d%H%M%S}":
            archive.remove(found["ID"])
            count += 1
    return count
