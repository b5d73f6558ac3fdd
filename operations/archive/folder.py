"""An archive as it lies on a disk: which files are there, and what each of them is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Final

from pydicom import config, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_partial
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage
from pynetdicom.dsutils import split_dataset

# What archives hold is for the service to judge.
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
    """What a C-STORE has to say beforehand, as the data set says it: headers of copied files may be another object's.

    `begins`: where the data set does. `as_it_is`: the file can go out unchanged; else its header is not the data set's, or an odd
    number of bytes follows.
    """

    sop_class: UID
    transfer_syntax: UID
    instance: str = field(default="", compare=False)
    begins: int = field(default=0, compare=False)
    as_it_is: bool = field(default=True, compare=False)


class NotDicom(Exception):  # noqa: N818 - it is a finding, not a fault
    """The file is no DICOM object: another kind of file, or a DICOMDIR, which only lists others."""

    def __init__(self, *, directory: bool = False) -> None:
        super().__init__()
        self.directory = directory


class Unreadable(Exception):  # noqa: N818 - as above
    """The file is, or may be, a DICOM object, but can't be sent as it is; says why."""


def files(folder: Path, unreadable: Callable[[str, str], None], linked: Callable[[str], None]) -> Iterator[File]:
    """Every file below the folder, at any depth; `unreadable` is told a path and why it can't be looked at.

    `linked` is told each link to a folder: it is not followed, because it may lead in circles.
    """

    def told(error: OSError) -> None:
        unreadable(error.filename, error.strerror or str(error))

    for parent, folders, names in os.walk(folder, onerror=told):
        folders.sort()
        for name in folders:
            path = os.path.join(parent, name)  # noqa: PTH118 - as below
            if os.path.islink(path):  # noqa: PTH114
                linked(path)
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
    """Raises NotDicom or Unreadable. Only the beginning of the file is read, up to the SOP instance UID and no patient's name."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if file.read(_PREAMBLE + 4)[_PREAMBLE:] != b"DICM":
                meta = found = None
            else:
                size = file.seek(0, os.SEEK_END)
                meta, begins = split_dataset(Path(path))
                file.seek(0)
                found = read_partial(file, lambda tag, _vr, _length: tag > _SOP_INSTANCE)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except Exception as error:  # noqa: BLE001 - pydicom raises what the bytes happen to provoke
        raise Unreadable(f"its beginning can't be read ({type(error).__name__})") from None
    if meta is None or found is None:
        raise NotDicom
    named = meta.get("MediaStorageSOPClassUID", ""), meta.get("MediaStorageSOPInstanceUID", "")
    if named[0] == MediaStorageDirectoryStorage:
        raise NotDicom(directory=True)
    sop_class, instance = found.get("SOPClassUID") or named[0], found.get("SOPInstanceUID") or named[1]
    syntax = meta.get("TransferSyntaxUID")
    said = {"SOP class": sop_class, "SOP instance": instance, "transfer syntax": syntax}
    if lacking := [what for what, uid in said.items() if not uid]:
        raise Unreadable(f"it does not say its {', '.join(lacking)}")
    odd = (size - begins) % 2
    if odd and syntax != DeflatedExplicitVRLittleEndian:
        raise Unreadable("it is cut off: an odd number of bytes")
    return Header(UID(sop_class), UID(syntax), str(instance), begins, as_it_is=not odd and named == (sop_class, instance))


_SOP_INSTANCE: Final = 0x00080018


def cut_off(path: str) -> bool:
    """Whether an element promises more bytes than the file has. All of the file is gone through, which `examine` does not."""
    try:
        size = os.stat(path).st_size  # noqa: PTH116
        found = dcmread(path, defer_size=_PREAMBLE)
    except EOFError:
        return True
    except Exception:  # noqa: BLE001 - as above
        return False
    if found.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        return False  # the places are those of the inflated bytes
    raw = [one for one in found.values() if isinstance(one, RawDataElement)]
    return any(one.length != _UNDEFINED and one.value_tell + one.length > size for one in raw)


_UNDEFINED: Final = 0xFFFFFFFF


def printable(path: str) -> str:
    """A path on one line, whatever stands in it."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in path)
