"""What one imaging service is: the typed, validated values that its files are rendered from.

Nothing here knows Pulumi, a clock, the environment or a disk. A host on AWS and a laptop differ only in the values.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable
from hashlib import sha1
from ipaddress import ip_address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _matches(pattern: str, remedy: str) -> Callable[[str], str]:
    """A validator whose message says what is allowed, instead of pydantic's bare pattern."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not allowed here: {remedy}")
        return value

    return check


def _host(value: str) -> str:
    try:
        if "%" not in value:  # an IPv6 zone may hold any character, and means something on one machine only
            return str(ip_address(value))
    except ValueError:
        pass
    return _matches(
        r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
        "give a DNS name or an IP address",
    )(value)


# PS3.5 6.2 allows an AE title more than this; these characters need no quoting in any file, log or certificate.
Aet = Annotated[
    str,
    AfterValidator(
        _matches(
            r"(?=.{1,16}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?",
            "an AE title has 1 to 16 letters, digits, '_', and '-' or '.' inside",
        )
    ),
]
Image = Annotated[
    str,
    AfterValidator(
        _matches(
            r"([a-z0-9][\w.:/-]*@)?sha256:[0-9a-f]{64}",
            "pin the image by digest, as NAME:TAG@sha256:..., or by a local image's id, as sha256:...",
        )
    ),
]
# nginx's $ssl_client_fingerprint. SHA-1 is enough to name a certificate that our own authority has signed.
Fingerprint = Annotated[str, AfterValidator(_matches(r"[0-9a-f]{40}", "a SHA-1 fingerprint is 40 lower-case hex digits"))]
# nginx's map reads these four as words of its own, quoted or not.
UserName = Annotated[
    str,
    AfterValidator(
        _matches(
            r"(?!(default|include|hostnames|volatile)$)[a-z][a-z0-9_.-]{0,31}",
            "a user name starts with a letter and has up to 32 of a-z, 0-9, '_', '-', '.'",
        )
    ),
]
Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=1, le=65535)]
Directory = Annotated[
    str,
    AfterValidator(
        _matches(
            r"(/(?!\.{1,2}(/|$))[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\U00010000-\U0010ffff$\"':\\/]+)+",
            "give an absolute path without '..', quotes, '\\\\', '$' or ':'",
        )
    ),
]
Name = Annotated[str, AfterValidator(_matches(r"[a-z][a-z0-9_-]{0,62}", "a name has a-z, 0-9, '_' and '-'"))]
LogName = Annotated[str, AfterValidator(_matches(r"[A-Za-z0-9_./#-]{1,512}", "a log group's name has letters, digits and '_./#-'"))]


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    # Unlike Field(min_length=1), this does not complain besides when an item is wrong.
    if not values:
        raise ValueError("give at least 1 item")
    return values


# The health check's own user: it logs in from inside Orthanc's container, and nginx lets nobody in by that name.
PROBE_USER = "probe"

Right = Literal["store", "find", "worklist", "move", "get"]


def fingerprint(pem: str) -> str:
    """A certificate's Fingerprint: SHA-1 of its DER, as nginx's $ssl_client_fingerprint has it."""
    return sha1(ssl.PEM_cert_to_DER_cert(pem), usedforsecurity=False).hexdigest()


class StrictModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, strict=True, revalidate_instances="always")


class Modality(StrictModel):
    """A DICOM peer: who it is, what it may do, and where it listens if images may be sent to it.

    Every enrolled modality may C-ECHO. `certificates` are the fingerprints of all its certificates in force: two while one is renewed.
    """

    aet: Aet
    may: tuple[Right, ...]
    certificates: Annotated[tuple[Fingerprint, ...], AfterValidator(_some)]
    address: Host | None = None
    port: Port | None = None

    @model_validator(mode="after")
    def _address_and_port(self) -> Self:
        if (self.address is None) != (self.port is None):
            raise ValueError(f"{self.aet}: give both 'address' and 'port', or neither")
        return self


class User(StrictModel):
    """Somebody at the web page."""

    name: UserName = Field(description="who logs in")
    role: Literal["admin", "reader"] = Field(description="an admin may change things, a reader only looks")


class Account(StrictModel):
    """The numeric user and group that one container runs as."""

    uid: int = Field(ge=1, lt=2**31)
    gid: int = Field(ge=1, lt=2**31)


class Container(StrictModel):
    image: Image
    account: Account
    memory_mb: int = Field(ge=64)


class Database(StrictModel):
    """The PostgreSQL server. `host` is the name that its certificate must carry (verify-full)."""

    host: Host
    port: Port = 5432
    name: Name = "orthanc"
    user: Name = "orthanc"
    # Orthanc keeps index_connections + 1 open, and two Orthancs overlap while a host is replaced: 26 of the some 80
    # that the smallest RDS class bears.
    index_connections: int = Field(default=12, ge=2, le=50)


class RotatedFiles(StrictModel):
    """Docker keeps each container's log in files of bounded size."""

    kind: Literal["files"] = "files"
    file_mb: int = Field(default=10, ge=1)
    files: int = Field(default=5, ge=2)


class CloudWatchLogs(StrictModel):
    """Docker sends each container's log to an existing log group, and drops lines rather than block the service."""

    kind: Literal["cloudwatch"] = "cloudwatch"
    region: Name
    group: LogName


class Limits(StrictModel):
    """Bounds that a site may have to move. Times in seconds."""

    # Before TLS, peers differ by nothing but their address, and a whole hospital may share one. This leaves room for 2,000 that
    # never finish their handshake, yet keeps a single address from taking all 4,096 connections that nginx.conf allows.
    connections_per_address: int = Field(default=2500, ge=1)
    # Scanners keep a few open. One that opens ever more, and closes none, must not take all of Orthanc's threads.
    associations_per_modality: int = Field(default=128, ge=1)
    handshake_seconds: int = Field(default=10, ge=1)
    # After a reload, associations of the old configuration (a struck modality's too) live on this long at most.
    old_worker_seconds: int = Field(default=600, ge=1)
    # Orthanc closes an association on which nothing is asked for this long; many scanners keep one open between series.
    idle_association_seconds: int = Field(default=300, ge=10)
    # An association occupies a thread as long as it is open: 4 (Orthanc's default) make others wait for seconds.
    dicom_threads: int = Field(default=256, ge=4, le=512)

    @model_validator(mode="after")
    def _no_modality_can_take_all_threads(self) -> Self:
        if self.associations_per_modality >= self.dicom_threads:
            raise ValueError(
                f"associations_per_modality ({self.associations_per_modality}) must be less than dicom_threads ({self.dicom_threads}): "
                "one modality could keep all others out"
            )
        return self


def _unique(what: str, names: Iterable[str], remedy: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise ValueError(f"{what} {name!r} stands twice (upper and lower case count as the same): {remedy}")
        seen.add(name.lower())


class Service(StrictModel):
    """One imaging service. `run_dir` holds the stable directories that containers mount, `scratch_dir` Orthanc's temporary files.

    `postgres` is the laptop's own database container; on AWS it is None and `database.host` is the RDS endpoint.
    """

    project: Name = "orthanc"
    aet: Aet = "ORTHANC"
    orthanc: Container
    nginx: Container
    postgres: Container | None = None
    run_dir: Directory
    scratch_dir: Directory
    dicom_port: Port = 11112
    web_port: Port = 443
    database: Database
    users: tuple[User, ...] = Field(min_length=1)
    modalities: tuple[Modality, ...] = ()
    logs: RotatedFiles | CloudWatchLogs = Field(discriminator="kind")
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("modality", (m.aet for m in self.modalities), "give every modality its own AE title")
        _unique("modality", (self.aet, *(m.aet for m in self.modalities)), "that is the server's own AE title")
        _unique("user", (PROBE_USER, *(u.name for u in self.users)), "'probe' is the health check's own user; others may stand once")
        _unique("certificate", (c for m in self.modalities for c in m.certificates), "a certificate is one modality's identity")
        if not any(u.role == "admin" for u in self.users):
            raise ValueError("users: nobody is an admin; give one user the role 'admin'")
        if self.dicom_port == self.web_port:
            raise ValueError(f"dicom_port and web_port are both {self.web_port}: choose two ports")
        return self
