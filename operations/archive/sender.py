"""One modality's association that follows what its files need, and what the service's answers mean."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext
from tempfile import NamedTemporaryFile
from typing import Final

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time from the standard's tables

from laptop.peer import SECONDS, Peer
from operations.archive.folder import Header
from operations.archive.patience import Failing, Refused

# Files go as they are, byte for byte: read in pieces, neither parsed nor encoded anew.
_config.STORE_SEND_CHUNKED_DATASET = True

# An association has 128 presentation contexts (PS3.8 9.3.2.2: odd numbers of one byte). One is for C-ECHO, which is always
# accepted: otherwise an association of which the service wants no object would look like one that it refuses.
MOST: Final = 127
# Bytes a second: an answer is waited for as long as the file takes on such a line.
SLOWEST: Final = 100_000


def judge(status: int) -> None:
    """A C-STORE's status (PS3.4 table B.2-1, PS3.7 annex C): raises Failing or Refused unless the object is stored."""
    if status == 0 or 0xB000 <= status <= 0xBFFF:  # warnings: it is stored
        return
    if 0xA700 <= status <= 0xA7FF or status in _PERHAPS_LATER:
        raise Failing(f"status {status:#06x}", reached=True)
    raise Refused(f"status {status:#06x}")


# Processing failure, SOP class not supported, not authorised, resource limitation.
_PERHAPS_LATER: Final = (0x0110, 0x0122, 0x0124, 0x0213)


class Sender:
    """For one thread."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._association: Association | None = None
        self._proposed: AbstractSet[Header] = frozenset()
        self._accepted: AbstractSet[Header] = frozenset()

    def send(self, path: str, size: int, header: Header, needed: AbstractSet[Header]) -> None:
        """C-STORE one file; `needed` is what it and those after it need (at most MOST), proposed at once. Raises Failing or Refused."""
        association = self._open(needed | {header})
        if header not in self._accepted:
            raise Refused(f"the service takes no {header.sop_class.name} in {header.transfer_syntax.name}")
        association.dimse_timeout = SECONDS + size / SLOWEST
        try:
            with nullcontext(path) if header.as_it_is else _mended(path, header) as sendable:
                status = getattr(association.send_c_store(sendable), "Status", None)
        except RuntimeError:  # the service closes what is idle
            self._abort()
            raise Failing("the association was ended", reached=False) from None
        except OSError as error:  # part of it may have gone out
            self._abort()
            raise Refused(error.strerror or str(error)) from None
        except (ValueError, AttributeError) as error:
            self._abort()
            raise Refused(f"it can't be sent ({type(error).__name__})") from None
        if status is None:
            self._abort()
            raise Failing("the service broke off", reached=True)
        judge(int(status))

    def _open(self, needed: AbstractSet[Header]) -> Association:
        """The association that is open, if it does; else a new one, which keeps what the last one could where there is room."""
        if self._association is not None and self._association.is_established and needed <= self._proposed:
            return self._association
        self.close()
        both = needed | self._proposed
        self._proposed = frozenset(both if len(both) <= MOST else needed)
        association = self.peer.associate(contexts=contexts(self._proposed))
        if not association.is_established:
            raise Failing(f"no association as {self.peer.aet} with {self.peer.host}:{self.peer.port}", reached=False)
        self._association = association
        self._accepted = {Header(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts if c.abstract_syntax}
        return association

    def close(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def _abort(self) -> None:
        if self._association is not None:
            self._association.abort()
        self._association = None


@contextmanager
def _mended(path: str, header: Header) -> Iterator[str]:
    """A copy with the data set's own header, and the byte that PS3.5 A.5 wants behind an odd deflated one: Orthanc waits for it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = header.sop_class, header.transfer_syntax
    meta.MediaStorageSOPInstanceUID = UID(header.instance)
    written = DicomBytesIO()
    write_file_meta_info(written, meta)
    with open(path, "rb") as file, NamedTemporaryFile() as copy:  # noqa: PTH123
        size = file.seek(0, os.SEEK_END) - file.seek(header.begins)
        copy.write(bytes(128) + b"DICM" + written.getvalue())
        shutil.copyfileobj(file, copy)
        copy.write(bytes(size % 2))
        copy.flush()
        yield copy.name


def contexts(headers: AbstractSet[Header]) -> list[PresentationContext]:
    """One for each pair, so that the service can choose no other transfer syntax than the file's own."""
    pairs = sorted(headers, key=lambda header: (header.sop_class, header.transfer_syntax))
    return [build_context(Verification), *(build_context(pair.sop_class, pair.transfer_syntax) for pair in pairs)]
