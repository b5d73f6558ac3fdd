"""The web page's API as an admin uses it: enough to find a test object and remove it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from operations.verify.finding import Bad
from operations.verify.target import Target
from operations.verify.wire import SECONDS


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


@dataclass(frozen=True)
class Archive:
    target: Target

    @cached_property  # reading all that browsers trust takes longer than a request
    def context(self) -> ssl.SSLContext:
        """Trusts what browsers trust, and the service's own authority: a site may have brought a certificate for its page."""
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=self.target.authority)
        return context

    def ask(self, path: str, *, method: str = "GET", body: str | None = None, login: bool = True) -> Answer:
        admin = self.target.admin
        headers = {}
        if login and admin is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{admin.name}:{admin.password}".encode()).decode()
        connection = http.client.HTTPSConnection(self.target.host, self.target.web_port, timeout=SECONDS, context=self.context)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except http.client.HTTPException as error:
            raise OSError(f"the web page broke off: {error!r}") from None
        finally:
            connection.close()

    def json(self, path: str, *, method: str = "GET", body: str | None = None) -> Any:
        answer = self.ask(path, method=method, body=body)
        if answer.status != 200:
            raise Bad(f"{method} {path} was answered with {answer.status}")
        return json.loads(answer.body)

    def studies(self, study_uid: str) -> Sequence[str]:
        """Orthanc's identifiers of the study with that StudyInstanceUID: one, or none."""
        return [found["ID"] for found in self.json("/tools/lookup", method="POST", body=study_uid) if found["Type"] == "Study"]

    def studies_of(self, patient_id: str) -> Sequence[Any]:
        """The studies of one patient, each with its main tags."""
        query = {"Level": "Study", "Expand": True, "CaseSensitive": True, "Query": {"PatientID": patient_id}}
        found: Sequence[Any] = self.json("/tools/find", method="POST", body=json.dumps(query))
        return found

    def remove(self, study: str) -> None:
        """Remove a study by Orthanc's identifier; one that is gone already is no fault."""
        answer = self.ask(f"/studies/{study}", method="DELETE")
        if answer.status not in _REMOVED:
            raise Bad(f"DELETE of the study {study} was answered with {answer.status}")


_REMOVED: Final = (200, 404)
