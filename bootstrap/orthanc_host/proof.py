"""The checks that prove the service, each as its users meet it: through nginx's published ports, with certificates and a login."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from orthanc_host import dicom, postgres
from orthanc_host.configuration import PROBE_AET, PROBE_USER, Configuration
from orthanc_host.files import OWN
from orthanc_host.machine import Machine

_SECONDS = 15


@dataclass(frozen=True)
class Findings:
    failed: tuple[str, ...]
    database: str  # what is wrong with it; empty when it is well
    stored_bytes: int | None
    free_bytes: int
    days_left: int  # of the certificate that ends first
    ends_first: str


class Prober:
    """Looks at this host's service from outside its containers."""

    def __init__(self, machine: Machine, configuration: Configuration) -> None:
        self._machine = machine
        self._configuration = configuration
        self._stored: int | None = None

    def findings(self) -> Findings:
        configuration = self._configuration
        failed: list[str] = []
        self._try(failed, "DICOM", self.echo)
        self._try(failed, "HTTPS", self.look)
        free = self._machine.free_bytes(*configuration.disks)
        if free < configuration.minimum_free_mb << 20:
            failed.append(f"disk: {free >> 20} MB are free, at least {configuration.minimum_free_mb} are needed")
        days = certificate_days(configuration, self._machine.now())
        first = min(days, key=lambda name: days[name]) if days else ""
        # A database that answers is no excuse; it is asked only when something failed.
        return Findings(
            tuple(failed),
            self.database() if failed else "",
            self._stored,
            free,
            days.get(first, 0),
            first,
        )

    @staticmethod
    def _try(failed: list[str], what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except ssl.SSLError as error:
            failed.append(f"{what}: TLS: {getattr(error, 'verify_message', '') or error.reason or error}")
        except (OSError, ValueError, KeyError, http.client.HTTPException, dicom.Refused) as error:
            failed.append(f"{what}: {error or type(error).__name__}")

    def echo(self) -> None:
        """C-ECHO over mutual TLS, the server's certificate verified and the one that this release brought."""
        own = self._configuration.run / OWN
        context = ssl.create_default_context(cafile=str(own / "outside-authority.crt"))
        context.load_cert_chain(str(own / "probe.crt"), str(own / "probe.key"))
        with self._connected(context, self._configuration.dicom_port, "nginx/server.crt") as sock:
            dicom.echo(sock, calling=PROBE_AET, called=self._configuration.aet)

    def look(self) -> None:
        """Log in at the web page and ask what only the database knows; a request without a login must be refused."""
        password = json.loads(self._text("orthanc/users.json"))["RegisteredUsers"][PROBE_USER]
        login = base64.b64encode(f"{PROBE_USER}:{password}".encode()).decode()
        status, _ = self._get("/changes?last", {})
        if status != 401:
            raise ValueError(f"a request without a login was answered with {status}, not 401")
        status, _ = self._get("/changes?last", {"Authorization": f"Basic {login}"})
        if status != 200:
            raise ValueError(f"/changes was answered with {status}")
        status, told = self._get("/statistics", {"Authorization": f"Basic {login}"})
        if status == 200:
            self._stored = int(told["TotalDiskSize"])

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        # Which authority signed it is the browsers' business (a site may bring its own); here it must be the very one of the release.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with self._connected(context, self._configuration.web_port, "nginx/web.crt") as sock:
            connection = http.client.HTTPSConnection(self._configuration.server_name, timeout=_SECONDS, context=context)
            connection.sock = sock
            connection.request("GET", path, headers={**headers, "Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if answer.status == 200 else None

    def _connected(self, context: ssl.SSLContext, port: int, certificate: str) -> ssl.SSLSocket:
        """A TLS connection to nginx's published port; the certificate shown there must be the one in the release's file."""
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        plain = socket.create_connection(("127.0.0.1", port), _SECONDS)
        try:
            sock = context.wrap_socket(plain, server_hostname=self._configuration.server_name)
        except OSError:
            plain.close()
            raise
        if sock.getpeercert(binary_form=True) != ssl.PEM_cert_to_DER_cert(_first(self._text(certificate))):
            sock.close()
            raise ValueError(f"the certificate that is shown is not the one in {certificate}")
        return sock

    def database(self) -> str:
        access = self._configuration.database
        authorities = self._text("orthanc/database-authority.crt")
        return postgres.why_not(access.host, access.port, access.user, access.name, authorities)

    def _text(self, name: str) -> str:
        return (self._configuration.run / Path(name)).read_text(encoding="utf-8")


def certificate_days(configuration: Configuration, now: float) -> dict[str, int]:
    """Whole days left of each certificate; negative when it has ended."""
    return {name: int((end.timestamp() - now) // 86400) for name, end in configuration.expires.items()}


def _first(chain: str) -> str:
    end = "-----END CERTIFICATE-----"
    return chain.partition(end)[0] + end
