"""The checks of the DICOM port: what is refused, and what a modality gets."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from laptop import certificates
from laptop.certificates import Profile
from laptop.peer import Peer
from laptop.private import write_bundle
from operations.verify import exchange
from operations.verify.finding import Bad, Finding, days_left, latency, left_out, look, ms
from operations.verify.target import Modality, Target
from operations.verify.tls import handshake, reached, refuses_old_tls, shown
from operations.verify.wire import answer, associate_request

TRIES = 5
_REFUSALS: Final = ("DICOM: no certificate refused", "DICOM: stranger's cert. refused", "DICOM: other AE title refused")


def dicom(target: Target, *, admin_gets_in: bool) -> Iterator[Finding]:
    port = look("DICOM: reached", lambda: reached(target, target.dicom_port))
    yield port
    if target.certificates:
        yield look("modalities' certificates", lambda: _first_to_end(target))
    certificate, old, plaintext = "DICOM: certificate", "DICOM: TLS 1.1 refused", "DICOM: plaintext refused"
    rest = ("DICOM: TLS", certificate, old, plaintext, "C-ECHO", *_REFUSALS, *exchange.CHECKS)
    if port.verdict == "BAD":
        yield from left_out("the port is not reached", *rest)
        return
    modality = target.modality
    if modality is not None:
        yield look("DICOM: TLS", lambda: handshake(target, target.dicom_port, target.peer(modality).context()))
    yield look(certificate, lambda: days_left(shown(target, target.dicom_port, modality)))
    yield look(old, lambda: refuses_old_tls(target, target.dicom_port))
    yield look(plaintext, lambda: _refuses_plain_dicom(target))
    if modality is None:
        yield from left_out("no enrolled modality has a key that is known here", "DICOM: TLS", "C-ECHO", *_REFUSALS, *exchange.CHECKS)
        return
    yield from _as_modality(target, modality, admin_gets_in=admin_gets_in)


def _as_modality(target: Target, modality: Modality, *, admin_gets_in: bool) -> Iterator[Finding]:
    peer = target.peer(modality)
    echo = look("C-ECHO", lambda: _echoes(peer))
    yield echo
    if echo.verdict == "BAD":
        yield from left_out("nobody is let in, so a refusal would prove nothing", *_REFUSALS)
        yield from left_out("no association", *exchange.CHECKS)
        return
    nothing, stranger, title = _REFUSALS
    yield look(nothing, lambda: _refuses_no_certificate(peer))
    yield look(stranger, lambda: _refuses_a_stranger(peer))
    yield look(title, lambda: _refuses(peer, None, calling=target.other_title(modality)))
    if not admin_gets_in:
        yield from left_out("no admin can log in, so nothing could be removed afterwards", *exchange.CHECKS)
    elif "store" not in modality.may:
        yield from left_out(f"{modality.aet} may not store (AET=... takes another modality)", *exchange.CHECKS)
    else:
        yield from exchange.exchange(target, modality, peer)


def _echoes(peer: Peer) -> str:
    begun = time.monotonic()
    with peer.association() as association:
        opened = ms(begun)
        took = []
        for _ in range(TRIES):
            begun = time.monotonic()
            status = getattr(association.send_c_echo(), "Status", None)
            if status != 0:
                raise Bad(f"{peer.aet}'s C-ECHO was answered with {_status(status)}")
            took.append(time.monotonic() - begun)
    return f"as {peer.aet}: association in {opened}, {latency(took)}"


def _refuses_plain_dicom(target: Target) -> str:
    told = answer(target.host, target.dicom_port, associate_request("VERIFY", target.aet))
    if told[:1] in (b"\x02", b"\x03"):  # A-ASSOCIATE-AC, A-ASSOCIATE-RJ
        raise Bad("an association request without TLS is answered in DICOM")
    return "it answers nothing" if not told else "no DICOM is spoken"


def _refuses_no_certificate(peer: Peer) -> str:
    return _refuses(peer, ssl.create_default_context(cafile=str(peer.bundle / "authority.crt")))


def _refuses_a_stranger(peer: Peer) -> str:
    """A certificate that says the same of itself, made here and now by an authority of nobody."""
    authority = certificates.make_authority("a stranger", "ecdsa")
    pair = certificates.issue(authority, peer.aet, Profile(kind="ecdsa", usages=("client",), names=(peer.aet.lower(),), days=1))
    context = ssl.create_default_context(cafile=str(peer.bundle / "authority.crt"))
    with TemporaryDirectory() as folder:
        write_bundle(Path(folder), peer.aet, certificate=pair.certificate, authority=authority.certificate, key=pair.key)
        context.load_cert_chain(f"{folder}/{peer.aet}.crt", f"{folder}/{peer.aet}.key")
    return _refuses(peer, context)


def _refuses(peer: Peer, context: ssl.SSLContext | None, *, calling: str | None = None) -> str:
    association = peer.associate(calling=calling, context=context)
    if association.is_established:
        association.release()
        raise Bad("an association was opened")
    return f"as {calling or peer.aet}: {'rejected' if association.is_rejected else 'no association'}"


def _first_to_end(target: Target) -> str:
    (aet, number), pem = min(target.certificates.items(), key=lambda item: certificates.expiry(item[1]))
    return days_left(pem, f"of {len(target.certificates)} in force, {aet}'s number {number} ends first: ")


def _status(status: int | None) -> str:
    return "nothing" if status is None else f"status {status:#06x}"
