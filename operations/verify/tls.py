"""What a port says before anybody asks it for anything: connection, TLS, certificate."""

from __future__ import annotations

import socket
import ssl
import time

from operations.verify.finding import Bad, ms
from operations.verify.target import Modality, Target
from operations.verify.wire import SECONDS, TLS_1_1, TLS_1_2, takes_tls


def reached(target: Target, port: int) -> str:
    begun = time.monotonic()
    try:
        socket.create_connection((target.host, port), SECONDS).close()
    except OSError as error:
        raise Bad(f"{target.host}:{port} does not take a connection ({error}): is this machine among the networks that may?") from None
    return f"{target.host}:{port} in {ms(begun)}"


def handshake(target: Target, port: int, context: ssl.SSLContext) -> str:
    """The certificate verified for the host's name, as any client of today does."""
    begun = time.monotonic()
    with _connected(target, port, context) as sock:
        took, (suite, _, _) = ms(begun), sock.cipher() or ("?", "", 0)
        return f"{sock.version()} {suite}, verified for {target.host}, in {took}"


def _connected(target: Target, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((target.host, port), SECONDS)
    try:
        return context.wrap_socket(plain, server_hostname=target.host)
    except OSError:
        plain.close()
        raise


def shown(target: Target, port: int, modality: Modality | None) -> str:
    """The certificate that the port shows, PEM; whether it can be trusted is another check."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if modality is not None:
        context.load_cert_chain(str(modality.bundle / f"{modality.aet}.crt"), str(modality.bundle / f"{modality.aet}.key"))
    with _connected(target, port, context) as sock:
        return ssl.DER_cert_to_PEM_cert(sock.getpeercert(binary_form=True) or b"")


def refuses_old_tls(target: Target, port: int) -> str:
    known, told = takes_tls(target.host, port, TLS_1_2)
    if not known:
        raise Bad(f"it can't be told: the same greeting with TLS 1.2 is refused too ({told})")
    taken, told = takes_tls(target.host, port, TLS_1_1)
    if taken:
        raise Bad("TLS 1.1 is taken")
    return told
