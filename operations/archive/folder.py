"""An archive as it lies on a disk: which files are there, and what each of them is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Final

from pydicom import config
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage
from pynetdicom.dsutils import split_dataset

# What archives hold is for the service to judge; pydicom would only warn, with the values that it dislikes.
config.settings.reading_validation_mode = config.IGNORE

_PREAMBLE: Final = 128  # bytes before the four letters that make a file DICOM (PS3.10 7.1)


@dataclass(frozen=True)
class File:
    """A file as the folder tells it, unopened."""

    path: str
    size: int
    changed: int  # ns since 1970

    @property
    def line(self) -> str:
        """Its line in the journal: another size or time is another file. Any name fits, also one that is no text."""
        return json.dumps([self.path, self.size, self.changed])


@dataclass(frozen=True)
class Header:
    """What a C-STORE has to say beforehand (PS3.10 7.1, the file's meta information).

    `odd`: the data set has an odd number of bytes, as deflated ones may in files that were written carelessly.
    """

    sop_class: UID
    transfer_syntax: UID
    odd: bool = field(default=False, compare=False)


class NotDicom(Exception):  # noqa: N818 - it is a finding, not a fault
    """The file is no DICOM object: another kind of file, or a DICOMDIR, which only lists others."""

    def __init__(self, *, directory: bool = False) -> None:
        super().__init__()
        self.directory = directory


class Unreadable(Exception):  # noqa: N818 - as above
    """The file is, or may be, a DICOM object, but can't be sent as it is; says why."""


def files(folder: Path, unreadable: Callable[[str, str], None]) -> Iterator[File]:
    """Every file below the folder, at any depth; `unreadable` is told a path and why it can't be looked at."""

    def told(error: OSError) -> None:
        unreadable(error.filename, error.strerror or str(error))

    for parent, folders, names in os.walk(folder, onerror=told):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)  # noqa: PTH118 - a Path for each of millions costs as much as the rest
            try:
                found = os.stat(path)  # noqa: PTH116
            except OSError as error:
                told(error)
                continue
            if S_ISREG(found.st_mode):
                yield File(path, found.st_size, found.st_mtime_ns)


def examine(path: str) -> Header:
    """Raises NotDicom or Unreadable. No more than the head of the file is read, and nothing that names a patient."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            is_dicom = file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
            size = file.seek(0, os.SEEK_END)
        meta, begins = split_dataset(Path(path)) if is_dicom else (None, 0)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except Exception as error:  # noqa: BLE001 - pydicom raises what the bytes happen to provoke
        raise Unreadable(f"its header can't be read ({type(error).__name__})") from None
    if meta is None:
        raise NotDicom
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise NotDicom(directory=True)
    if lacking := [name for name in _NEEDED if not meta.get(name)]:
        raise Unreadable(f"its header does not say {', '.join(lacking)}")
    odd = bool((size - begins) % 2)
    if odd and meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        raise Unreadable("it is cut off: an odd number of bytes")
    return Header(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID, odd=odd)


_NEEDED: Final = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")


def printable(path: str) -> str:
    """A path on one line, whatever stands in it."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in path)
