"""What a host fetches over HTTPS: files of the internet, and AWS's own names for programs that can't be told an endpoint."""

from __future__ import annotations

import ssl
from http.server import ThreadingHTTPServer
from typing import Final

from rehearsal.calls import Calls, Handler, secured
from rehearsal.servers import Address

HOST: Final = "files.rehearsal.test"


class Files(ThreadingHTTPServer):
    """Serves `files`, a dictionary of path to bytes that may change at any time; other names' requests are calls of AWS."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listen: Address, context: ssl.SSLContext, calls: Calls) -> None:
        super().__init__(listen, _Request)
        secured(self, context)
        self.calls = calls
        self.files: dict[str, bytes] = {}
        self.fetched: list[tuple[str, str]] = []  # who fetched what: instance and path


class _Request(Handler):
    server: Files

    @property
    def calls(self) -> Calls:
        return self.server.calls

    def handle_any(self) -> None:
        if (self.headers.get("Host") or "").partition(":")[0] != HOST:
            super().handle_any()
            return
        body = self.server.files.get(self.path)
        self.server.fetched.append((self.calls.who(self.client_address[0]), self.path))
        if body is None:
            self._answer(404, {}, b"")
        else:
            self._answer(200, {"Content-Type": "application/octet-stream"}, b"" if self.command == "HEAD" else body, len(body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - the names are http.server's
