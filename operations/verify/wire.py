"""Bytes that no TLS or DICOM library of today would send: what an old or a careless peer says first, and what it hears."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from typing import Final

SECONDS: Final = 10
TLS_1_1: Final = 0x0302
TLS_1_2: Final = 0x0303
_ALERT: Final = 0x15
_HANDSHAKE: Final = 0x16
_ALERTS: Final = {40: "handshake_failure", 70: "protocol_version", 71: "insufficient_security"}  # RFC 8446 6.2
# ECDHE and RSA key exchange, AES in CBC with SHA-1 (all that TLS 1.1 has), and AES-GCM (TLS 1.2): RFC 4492, 5246, 5289.
_SUITES: Final = (0xC009, 0xC00A, 0xC013, 0xC014, 0x002F, 0x0035, 0xC02B, 0xC02F, 0xC02C, 0xC030)


def answer(host: str, port: int, said: bytes) -> bytes:
    """What the port says to `said`, up to a few hundred bytes; nothing when it closes the connection, or stays silent."""
    with socket.create_connection((host, port), SECONDS) as plain:
        plain.settimeout(SECONDS)
        try:
            plain.sendall(said)
            return plain.recv(300)
        except (ConnectionError, TimeoutError):
            return b""


def takes_tls(host: str, port: int, version: int) -> tuple[bool, str]:
    """Whether the port goes on when a client offers `version` and nothing newer, and in words what it said.

    By hand, because a local OpenSSL that itself refuses TLS 1.1 would look like a server that does.
    """
    told = answer(host, port, client_hello(host, version))
    if told[:1] == bytes([_HANDSHAKE]):
        return True, "it goes on with the handshake"
    if told[:1] == bytes([_ALERT]) and len(told) > 6:
        return False, f"alert {_ALERTS.get(told[6], told[6])}"
    return False, f"it says {told[:20]!r}" if told else "it answers nothing"


def client_hello(host: str, version: int) -> bytes:
    """A ClientHello (RFC 5246 7.4.1.2) whose newest version is `version`."""

    def counted(content: bytes, bytes_of_length: int) -> bytes:
        return len(content).to_bytes(bytes_of_length, "big") + content

    def extension(kind: int, content: bytes) -> bytes:
        return kind.to_bytes(2, "big") + counted(content, 2)

    suites = b"".join(suite.to_bytes(2, "big") for suite in _SUITES)
    named = b"" if _is_address(host) else extension(0, counted(b"\x00" + counted(host.encode("idna"), 2), 2))  # server_name
    extensions = (
        named
        + extension(10, counted(b"\x00\x17\x00\x18\x00\x1d", 2))  # supported_groups: P-256, P-384, X25519
        + extension(11, counted(b"\x00", 1))  # ec_point_formats: uncompressed
        + extension(13, counted(b"\x04\x01\x04\x03\x08\x04\x05\x01\x02\x01", 2))  # signature_algorithms: RSA, ECDSA, RSA-PSS
    )
    hello = (
        version.to_bytes(2, "big") + os.urandom(32) + counted(b"", 1) + counted(suites, 2) + counted(b"\x00", 1) + counted(extensions, 2)
    )
    return bytes([_HANDSHAKE]) + b"\x03\x01" + counted(b"\x01" + counted(hello, 3), 2)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def associate_request(calling: str, called: str = "ORTHANC") -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) for verification."""

    def item(kind: int, content: bytes) -> bytes:
        return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content

    application = item(0x10, b"1.2.840.10008.3.1.1.1")
    presentation = item(0x20, b"\x01\x00\x00\x00" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3.4.5"))
    body = b"\x00\x01\x00\x00" + called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32) + application + presentation + user
    return b"\x01\x00" + len(body).to_bytes(4, "big") + body
