"""Small servers on threads, each for as long as a `with` lasts."""

from __future__ import annotations

import selectors
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve until the end of the `with`; connections that are open then are left to their peers."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reset(connection: socket.socket) -> None:
    """End a connection as a machine does that is not there any more."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


class Forwarder(socketserver.ThreadingTCPServer):
    """Every connection goes on to where `target` says at its beginning; to nobody: it is reset."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, listen: Address, target: Callable[[], Address | None]) -> None:
        super().__init__(listen, _Forwarded)
        self.target = target


class _Forwarded(socketserver.BaseRequestHandler):
    server: Forwarder

    def handle(self) -> None:
        target = self.server.target()
        try:
            if target is None:
                raise ConnectionRefusedError
            with socket.create_connection(target, 5) as onward:
                onward.settimeout(None)
                _pump(self.request, onward)
        except OSError:
            reset(self.request)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes both ways, until both sides have said all."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while ready.get_map():
            for key, _ in ready.select():
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)  # noqa: S101 - for the type
                if data := source.recv(65536):
                    sink.sendall(data)
                else:
                    ready.unregister(source)
                    sink.shutdown(socket.SHUT_WR)
