"""The names that a host asks for: the rehearsal's own, nothing of AWS, and the rest from this machine's resolver."""

from __future__ import annotations

import re
import socket
import socketserver
from pathlib import Path
from typing import Final

_HEADER: Final = 12  # bytes before the question (RFC 1035, 4.1.1)
_A: Final = b"\0\1"
_TTL: Final = b"\0\0\0\1"  # a second: names move during a rehearsal
_NO_SUCH_NAME: Final = 3


class Resolver(socketserver.ThreadingUDPServer):
    """Answers from `names`, a dictionary of name to IPv4 address that may change at any time."""

    daemon_threads = True

    def __init__(self, address: str, names: dict[str, str]) -> None:
        super().__init__((address, 53), _Question)
        self.names = names
        found = re.search(r"^nameserver\s+(\S+)", Path("/etc/resolv.conf").read_text(encoding="utf-8"), re.MULTILINE)
        self.upstream = found.group(1) if found else ""


class _Question(socketserver.BaseRequestHandler):
    server: Resolver

    def handle(self) -> None:
        query, back = self.request
        name, end = _name(query)
        if name in self.server.names:
            answer = _answer(query, end, self.server.names[name])
        elif name.endswith((".amazonaws.com", ".test")):
            # A host that gets round the emulated AWS shall meet nobody, least of all Amazon.
            answer = _answer(query, end, None)
        else:
            answer = self._forwarded(query)
        back.sendto(answer, self.client_address)

    def _forwarded(self, query: bytes) -> bytes:
        with socket.socket(socket.AF_INET6 if ":" in self.server.upstream else socket.AF_INET, socket.SOCK_DGRAM) as upstream:
            upstream.settimeout(5)
            try:
                upstream.sendto(query, (self.server.upstream, 53))
                return upstream.recv(65535)
            except OSError:
                return _answer(query, _name(query)[1], None)


def _name(query: bytes) -> tuple[str, int]:
    """The name that is asked for, and where its question ends."""
    labels, at = [], _HEADER
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += length + 1
    return ".".join(labels).lower(), at + 5


def _answer(query: bytes, end: int, address: str | None) -> bytes:
    """`address`, or that there is no such name. A known name that is asked for anything but IPv4 has nothing of it."""
    records = b""
    if address is not None and query[end - 4 : end - 2] == _A:
        records = b"\xc0\x0c" + _A + b"\0\1" + _TTL + b"\0\4" + socket.inet_aton(address)
    flags = bytes([0x84 | query[2] & 1, 0x80 | (_NO_SUCH_NAME if address is None else 0)])
    count = b"\0\1" if records else b"\0\0"
    return query[:2] + flags + b"\0\1" + count + b"\0\0\0\0" + query[_HEADER:end] + records
