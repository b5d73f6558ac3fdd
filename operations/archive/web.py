"""The web page's API for one thread that asks a lot of it: a connection that stays open."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from laptop.tell import Trouble
from operations.archive.patience import Failing
from operations.verify.target import Target

_SECONDS: Final = 120  # without a byte


class Gone(Exception):  # noqa: N818 - it is a finding, not a fault
    """The service does not hold it (any more)."""


class Web:
    def __init__(self, target: Target, context: ssl.SSLContext) -> None:
        admin = target.admin
        if admin is None:
            raise Trouble(f"no admin's password of {target.name} is known here, and an export is an admin's. Enrol one, or ask who may.")
        login = base64.b64encode(f"{admin.name}:{admin.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"}
        self._connection = http.client.HTTPSConnection(target.host, target.web_port, timeout=_SECONDS, context=context)

    @contextmanager
    def answer(self, path: str, *, body: str | None = None) -> Iterator[http.client.HTTPResponse]:
        """The answer, to be read; it is 200. Raises Gone, Failing, and Trouble when it is of no use to go on."""
        try:
            answer = self._ask(path, body)
            try:
                yield answer
            except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:  # no others: disks fail too
                raise Failing(f"the web page broke off: {error or type(error).__name__}", reached=True) from None
        except BaseException:
            self.close()  # what of the answer was not read would be taken for the next one
            raise

    def _ask(self, path: str, body: str | None) -> http.client.HTTPResponse:
        try:
            self._connection.request("GET" if body is None else "POST", path, body, self._headers)
            answer = self._connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise Trouble(f"the web page's certificate can't be verified: {error.verify_message}.") from None
        except (OSError, http.client.HTTPException) as error:
            raise Failing(f"the web page does not answer: {error or type(error).__name__}", reached=False) from None
        if answer.status in {404, 410}:
            raise Gone
        if answer.status in {401, 403}:
            raise Trouble(f"the web page refuses the admin (status {answer.status}). Was the password changed meanwhile?")
        if answer.status != 200:
            raise Failing(f"{path} was answered with {answer.status}", reached=answer.status != 502)
        return answer

    def json(self, path: str, *, body: str | None = None) -> Any:
        with self.answer(path, body=body) as answer:
            return json.loads(answer.read())

    def close(self) -> None:
        self._connection.close()
