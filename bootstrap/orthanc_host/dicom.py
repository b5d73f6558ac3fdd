"""C-ECHO as a modality does it, over mutual TLS: enough of DICOM's upper layer (PS3.8 9.3) and of PS3.7 9.3.5 for that."""

from __future__ import annotations

import socket
import ssl
import struct

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = "2.25.298471926402818440532412914650617201537"  # a UUID of this project's own (PS3.5 B.2)
_CONTEXT_ID = 1
_ACCEPT, _REJECT, _DATA, _RELEASE, _ABORT = 2, 3, 4, 5, 7
_ECHO_REQUEST, _ECHO_ANSWER, _NO_DATA_SET = 0x0030, 0x8030, 0x0101


class Refused(Exception):
    """The peer did not answer the C-ECHO with success; the text says what it did."""


def echo(sock: ssl.SSLSocket, *, calling: str, called: str) -> None:
    """Open an association on a connected socket, C-ECHO, release. Raises Refused or OSError."""
    sock.sendall(association_request(calling, called))
    kind, body = _pdu(sock)
    if kind == _REJECT:
        raise Refused(f"the association was rejected (result {body[1]}, source {body[2]}, reason {body[3]})")
    if kind != _ACCEPT:
        raise Refused("the association was aborted" if kind == _ABORT else f"PDU {kind} came instead of an acceptance")
    sock.sendall(echo_request())
    kind, body = _pdu(sock)
    if kind != _DATA:
        raise Refused(f"PDU {kind} came instead of an answer")
    # One presentation data value: length, context, flags, then the command set.
    status = _us(body[6:], 0x0900)
    if _us(body[6:], 0x0100) != _ECHO_ANSWER or status != 0:
        raise Refused(f"the C-ECHO ended with status {status}")
    sock.sendall(struct.pack(">BBI", _RELEASE, 0, 4) + bytes(4))


def association_request(calling: str, called: str) -> bytes:
    """A-ASSOCIATE-RQ for the Verification SOP class (PS3.8 table 9-11)."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    syntaxes = item(0x30, VERIFICATION.encode()) + item(0x40, IMPLICIT_LITTLE_ENDIAN.encode())
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, _IMPLEMENTATION.encode())
    items = item(0x10, _APPLICATION_CONTEXT.encode()) + item(0x20, bytes([_CONTEXT_ID, 0, 0, 0]) + syntaxes) + item(0x50, user)
    body = struct.pack(">HH", 1, 0) + called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32) + items
    return struct.pack(">BBI", 1, 0, len(body)) + body


def echo_request() -> bytes:
    """P-DATA-TF with a C-ECHO-RQ (PS3.7 table 9.3-12), implicit little endian."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, number, len(value)) + value

    uid = VERIFICATION.encode() + b"\0" * (len(VERIFICATION) % 2)
    fields = element(0x0002, uid) + element(0x0100, struct.pack("<H", _ECHO_REQUEST))
    fields += element(0x0110, struct.pack("<H", 1)) + element(0x0800, struct.pack("<H", _NO_DATA_SET))
    command = element(0x0000, struct.pack("<I", len(fields))) + fields
    value = struct.pack(">IBB", len(command) + 2, _CONTEXT_ID, 3) + command
    return struct.pack(">BBI", 4, 0, len(value)) + value


def _us(command: bytes, number: int) -> int:
    """The unsigned short in element (0000,number) of a command set; -1 if it has none."""
    at = 0
    while at + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHI", command, at)
        if (group, element, length) == (0, number, 2):
            return int(struct.unpack_from("<H", command, at + 8)[0])
        at += 8 + length
    return -1


def _pdu(sock: socket.socket) -> tuple[int, bytes]:
    kind, _, length = struct.unpack(">BBI", _exactly(sock, 6))
    if length > 1 << 20:
        raise Refused(f"a PDU of {length} bytes came: that is no DICOM peer")
    return kind, _exactly(sock, length)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise Refused("the connection was closed: the certificate is not let in, or nginx can't reach Orthanc")
        data += more
    return data
