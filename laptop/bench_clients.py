"""The peers of `make bench`, each a function that does one transfer and returns how many seconds it took."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
)

from laptop.bench_images import Batch
from laptop.peer import Peer
from laptop.tell import Trouble

_SECONDS = 600  # the longest that one transfer may take
_LARGEST_PDU = 131072  # bytes; what Orthanc offers


@dataclass(frozen=True, kw_only=True)
class Target:
    """A service that is measured, as its peers see it."""

    peer: Peer
    web_port: int
    password: str  # of the user `reader`
    encrypted: bool


def store(target: Target, batches: Sequence[Batch], *, prompt: bool) -> float:
    """C-STORE each batch by a storescu of its own, all at once. A `prompt` client sets TCP_NODELAY."""
    peer = target.peer
    command = ["storescu", "--required", "-aet", peer.aet, "-aec", peer.called]
    if target.encrypted:
        bundle = peer.bundle
        command += ["+tls", f"{bundle / peer.aet}.key", f"{bundle / peer.aet}.crt", "+cf", str(bundle / "authority.crt")]
    command += ["--scan-directories", peer.host, str(peer.port)]
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"} | ({"TCP_NODELAY": "1"} if prompt else {})
    began = time.monotonic()
    with contextlib.ExitStack() as running:
        clients = [
            running.enter_context(
                subprocess.Popen(
                    [*command, str(batch.folder)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
            for batch in batches
        ]
        for client in clients:
            said, _ = client.communicate(timeout=_SECONDS)
            if client.returncode != 0:
                raise Trouble(f"storescu failed: {said.strip()[-500:]}")
    return time.monotonic() - began


def get(target: Target, batch: Batch) -> float:
    """C-GET the batch's study."""
    peer = target.peer
    arrived = 0

    def count(_: evt.Event) -> int:
        nonlocal arrived
        arrived += 1
        return 0

    entity = AE(ae_title=peer.aet)
    entity.maximum_pdu_size = _LARGEST_PDU
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    entity.add_requested_context(CTImageStorage)
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", UID(batch.study)
    began = time.monotonic()
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.called,
        tls_args=(peer.context(), peer.host) if target.encrypted else None,
        ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, count)],
    )
    if not association.is_established:
        raise Trouble("the C-GET got no association")
    statuses = [getattr(status, "Status", None) for status, _ in association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet)]
    association.release()
    seconds = time.monotonic() - began
    if statuses[-1:] != [0] or arrived != batch.images:
        raise Trouble(f"the C-GET ended with status {statuses[-1:]} after {arrived} of {batch.images} images")
    return seconds


def wado(target: Target, batch: Batch) -> float:
    """The batch's series by DICOMweb, in one request."""
    began = time.monotonic()
    kind = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    status, size = fetch(target, f"/dicom-web/studies/{batch.study}/series/{batch.series}", kind)
    if status != 200 or size < batch.bytes:
        raise Trouble(f"WADO answered {status} with {size} of {batch.bytes} bytes")
    return time.monotonic() - began


def fetch(target: Target, path: str, headers: dict[str, str]) -> tuple[int, int]:
    """GET it as the user `reader`; the status, and how many bytes came."""
    connection = (
        http.client.HTTPSConnection(target.peer.host, target.web_port, context=target.peer.context(), timeout=_SECONDS)
        if target.encrypted
        else http.client.HTTPConnection(target.peer.host, target.web_port, timeout=_SECONDS)
    )
    login = b64encode(f"reader:{target.password}".encode()).decode()
    try:
        connection.request("GET", path, headers={**headers, "Authorization": f"Basic {login}"})
        answer = connection.getresponse()
        size = 0
        while block := answer.read(2**20):
            size += len(block)
        return answer.status, size
    finally:
        connection.close()
