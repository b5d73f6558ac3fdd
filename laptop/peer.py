"""A DICOM modality in Python: what a scanner or a workstation does with its bundle."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from laptop.tell import Trouble

SECONDS = 60  # that an answer may take
_USUAL = (
    Verification,
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
)


def _prompt(event: evt.Event) -> None:
    """Send what there is at once, and notice a peer that has gone; without the first every C-STORE waits some 40 ms."""
    connection: socket.socket = event.assoc.dul.socket.socket  # type: ignore[union-attr,assignment]  # it has just been opened
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SECONDS * 1000)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One modality: its AE title, its bundle (AET.crt, AET.key, authority.crt) and where the server is."""

    aet: str
    bundle: Path
    port: int
    host: str = "localhost"
    called: str = "ORTHANC"

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.bundle / "authority.crt"))
        context.load_cert_chain(str(self.bundle / f"{self.aet}.crt"), str(self.bundle / f"{self.aet}.key"))
        return context

    def associate(
        self,
        *,
        calling: str | None = None,
        called: str | None = None,
        context: ssl.SSLContext | None = None,
        contexts: Sequence[PresentationContext] = (),
    ) -> Association:
        """Open an association over mutual TLS, or what `context` makes of it; look at `is_established`.

        It proposes `contexts`, or what the demo and the tests need.
        """
        entity = AE(ae_title=calling or self.aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS
        return entity.associate(
            self.host,
            self.port,
            contexts=list(contexts) or [build_context(abstract_syntax) for abstract_syntax in _USUAL],
            ae_title=called or self.called,
            tls_args=(context or self.context(), self.host),
            evt_handlers=[(evt.EVT_CONN_OPEN, _prompt)],
        )

    @contextmanager
    def association(self) -> Iterator[Association]:
        """An association that is open, released at the end. Raises Trouble when it is refused."""
        association = self.associate()
        if not association.is_established:
            raise Trouble(f"{self.aet} got no association with {self.called} at {self.host}:{self.port}")
        try:
            yield association
        except (KeyboardInterrupt, SystemExit):
            association.abort()  # a release would wait a minute for the answer that nobody waits for any more
            raise
        finally:
            association.release()

    def echo(self) -> int:
        """The status of a C-ECHO; 0 is success (PS3.7 annex C)."""
        with self.association() as association:
            return int(association.send_c_echo().Status)

    def store(self, images: Iterable[Dataset]) -> int:
        """C-STORE them in one association and return how many. Raises Trouble at the first that is not acknowledged."""
        count = 0
        with self.association() as association:
            for image in images:
                answer = association.send_c_store(image)
                status = getattr(answer, "Status", None)
                if status != 0:
                    raise Trouble(f"image {count + 1} was not stored: status {status if status is None else hex(status)}")
                count += 1
        return count

    def find_studies(self, **keys: str) -> list[Dataset]:
        """C-FIND at study level. Raises Trouble when it is refused or fails, so that nothing found means just that."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        wanted = {"StudyInstanceUID": "", "PatientName": "", "StudyDescription": "", "NumberOfStudyRelatedInstances": "", **keys}
        for keyword, value in wanted.items():
            setattr(query, keyword, value)
        with self.association() as association:
            answers = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
        end = getattr(answers[-1][0], "Status", None) if answers else None
        if end != 0:
            raise Trouble(f"the C-FIND of {self.aet} failed: status {end if end is None else hex(end)}")
        return [found for _, found in answers if found is not None]
