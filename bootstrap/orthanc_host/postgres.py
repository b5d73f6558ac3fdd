"""Whether the database takes connections, asked without a password: what it answers to a startup message, over verified TLS.

(PostgreSQL's frontend/backend protocol 3.0: SSLRequest, StartupMessage.) It tells a sick database from a sick host.
"""

from __future__ import annotations

import socket
import ssl
import struct

_SSL_REQUEST = struct.pack(">II", 8, 80877103)
_AUTHENTICATION, _ERROR = b"R", b"E"


def why_not(host: str, port: int, user: str, name: str, authorities: str, seconds: float = 8) -> str:
    """Empty when the server asks for the password, as one that works does; else what is wrong with it, in a line."""
    context = ssl.create_default_context(cadata=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((host, port), seconds) as plain:
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) != b"S":
                return "it offers no TLS"
            with context.wrap_socket(plain, server_hostname=host) as sock:
                sock.sendall(_startup(user, name))
                head = _exactly(sock, 5)
                if head[:1] == _AUTHENTICATION:
                    return ""
                said = _exactly(sock, struct.unpack(">I", head[1:])[0] - 4)
                return _message(said) if head[:1] == _ERROR else f"it answers {head[:1]!r}"
    except ssl.SSLError as error:
        return f"TLS: {error.reason or error}"
    except OSError as error:
        return str(error)


def _startup(user: str, name: str) -> bytes:
    body = struct.pack(">I", 196608)
    for text in ("user", user, "database", name, "application_name", "orthanc-host"):
        body += text.encode() + b"\0"
    body += b"\0"
    return struct.pack(">I", len(body) + 4) + body


def _message(fields: bytes) -> str:
    """The M field of an ErrorResponse, like 'the database system is starting up'."""
    for field in fields.split(b"\0"):
        if field[:1] == b"M":
            return field[1:].decode(errors="replace")
    return "it refuses connections"


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise OSError("it closed the connection")
        data += more
    return data
