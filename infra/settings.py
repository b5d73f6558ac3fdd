"""Settings: everything that a stack can say, parsed and validated once, with every problem in one message.

Every default stands here; Pulumi.yaml repeats them for `pulumi config` (tests/unit/test_settings.py holds the two equal).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from config_templates import pins
from config_templates.model import PROBE_USER, Aet, Image, Port, Right, User
from config_templates.places import modality_host
from infra.certificates import problem_with_request, problem_with_web_certificate

PROJECT: Final = "orthanc"
# As whom the host itself proves the service through nginx (bootstrap/orthanc_host/configuration.py): it may C-ECHO, and look.
PROBE_AET: Final = "PROBE"
HOST_USER: Final = "host"


class Machine(NamedTuple):
    """An EC2 instance type: what runs on it, and how much memory the containers share."""

    architecture: Literal["arm64", "x86_64"]
    memory_mb: int


# docs.aws.amazon.com/ec2/latest/instancetypes. Another type is one line here; its architecture follows from it.
MACHINES: Final[Mapping[str, Machine]] = {
    **{f"t4g.{size}": Machine("arm64", gib * 1024) for size, gib in {"small": 2, "medium": 4, "large": 8, "xlarge": 16}.items()},
    **{f"m7g.{size}": Machine("arm64", gib * 1024) for size, gib in {"medium": 4, "large": 8, "xlarge": 16, "2xlarge": 32}.items()},
    **{f"c7g.{size}": Machine("arm64", gib * 1024) for size, gib in {"large": 4, "xlarge": 8, "2xlarge": 16}.items()},
    **{f"t3.{size}": Machine("x86_64", gib * 1024) for size, gib in {"small": 2, "medium": 4, "large": 8}.items()},
    **{f"m7i.{size}": Machine("x86_64", gib * 1024) for size, gib in {"large": 8, "xlarge": 16, "2xlarge": 32}.items()},
}

# RDS instance classes and their memory in GiB (docs.aws.amazon.com/AmazonRDS, DB instance classes).
DATABASE_CLASSES: Final[Mapping[str, int]] = {
    "db.t4g.micro": 1,
    "db.t4g.small": 2,
    "db.t4g.medium": 4,
    "db.t4g.large": 8,
    "db.m7g.large": 8,
    "db.m7g.xlarge": 16,
    "db.m7g.2xlarge": 32,
    "db.r7g.large": 16,
    "db.r7g.xlarge": 32,
}

# Docker's default bridges and address pools: a VPC there would hide the database from the containers (moby, ipamutils).
DOCKER_RANGES: Final = tuple(IPv4Network(n) for n in ("172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16"))
PRIVATE_RANGES: Final = tuple(IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
EVERYWHERE: Final = IPv4Network("0.0.0.0/0")
LOG_DAYS: Final = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)


class SettingsError(Exception):
    """What is wrong with a stack's settings: every problem, one a paragraph, each with its remedy."""


def _allowed(what: str, choices: Iterable[str | int]) -> Callable[[Any], Any]:
    known = tuple(choices)

    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(f"{what} is one of {', '.join(map(str, known))}")
        return value

    return check


def _matching(pattern: str, rule: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return check


def _room_for_the_vpc(net: IPv4Network) -> IPv4Network:
    """in a private range (RFC 1918), from /16 to /24, clear of Docker's own ranges"""
    if not any(net.subnet_of(private) for private in PRIVATE_RANGES):
        raise ValueError("is no private range (RFC 1918): hosts on the internet would become unreachable")
    if not 16 <= net.prefixlen <= 24:
        raise ValueError("must be between /16 (AWS's largest VPC) and /24 (16 subnets of AWS's smallest, /28)")
    for docker in DOCKER_RANGES:
        if net.overlaps(docker):
            raise ValueError(f"overlaps Docker's own {docker}: containers would lose their way to the database")
    return net


def _zones(letters: tuple[str, ...]) -> tuple[str, ...]:
    """two to four letters from a to f"""
    if not 2 <= len(letters) <= 4 or not set(letters) <= set("abcdef"):
        raise ValueError("takes two to four zone letters from a to f (RDS demands two)")
    return letters


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """each once"""
    if len(set(values)) != len(values):
        raise ValueError("names something twice")
    return values


def _at_least_one(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """at least one"""
    # Unlike Field(min_length=1), this does not complain besides when an item is wrong.
    if not values:
        raise ValueError("names none: give at least 1 item")
    return values


Generation = Annotated[int, Field(ge=1, le=9999)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, alias_generator=to_camel, populate_by_name=True)


class Modality(_Model):
    """A DICOM peer: its AE title, its rights, where images may be sent to it, and its certificates in force.

    Each number in `certificates` is one certificate. A request (PEM) under such a number means that the modality made that key
    itself, and it never leaves it; without one the stack makes the key.
    """

    aet: Aet = Field(description="its AE title")
    may: Annotated[tuple[Right, ...], AfterValidator(_each_once)] = Field(
        description="its rights; everybody enrolled may C-ECHO; `worklist` opens nothing yet: no worklist plugin is loaded"
    )
    # An address, because a security group knows no names.
    address: IPv4Address | None = Field(None, description="where images may be sent to it, with `port`")
    port: Port | None = Field(None, description="its DICOM TLS port, with `address`")
    certificates: Annotated[tuple[Generation, ...], AfterValidator(_at_least_one), AfterValidator(_each_once)] = Field(
        (1,), description="its certificates in force, by number"
    )
    # CloudWatch looks at whole periods of five minutes, and at a day at most.
    silent_minutes: Annotated[int, Field(ge=5, le=1440, multiple_of=5)] | None = Field(
        None, description="an alarm when nothing was heard of it for so long, in fives; for a site gateway, which calls each minute: 15"
    )
    requests: Mapping[int, str] = Field({}, description="by number, a request (PEM) that it made itself: its key never leaves it")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.address is None) != (self.port is None):
            raise ValueError(f"{self.aet} has only one of 'address' and 'port': give both (images may be sent to it) or neither")
        for number, request in self.requests.items():
            if number not in self.certificates:
                raise ValueError(f"{self.aet} has a request {number}, but no certificate {number}: add {number} to its certificates")
            if problem := problem_with_request(request, modality_host(self.aet)):
                raise ValueError(f"{self.aet}'s request {number} {problem}")
        return self


def _one_identity_each(modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    """AE titles differ by more than case, and each certificate request stands once"""
    seen: set[str] = set()
    for modality in modalities:
        if modality.aet.lower() in seen:
            raise ValueError(f"has the AE title {modality.aet} twice (upper and lower case count as the same)")
        seen.add(modality.aet.lower())
    requests = [request for m in modalities for request in m.requests.values()]
    if len(set(requests)) != len(requests):
        raise ValueError("uses one certificate request twice: a certificate is one modality's identity")
    return modalities


def _somebody_is_admin(users: tuple[User, ...]) -> tuple[User, ...]:
    """names differ, at least one is an admin, and none is the health check's own"""
    names = [u.name for u in users]
    if len(set(names)) != len(names):
        raise ValueError("names a user twice")
    for taken in (PROBE_USER, HOST_USER):
        if taken in names:
            raise ValueError(f"names '{taken}', which is the health check's own user")
    if not any(u.role == "admin" for u in users):
        raise ValueError("has no admin: nobody could delete or correct anything")
    return users


Sha256 = Annotated[str, AfterValidator(_matching(r"[0-9a-f]{64}", "must be the 64 lower-case hex digits of a SHA-256"))]
Url = Annotated[str, AfterValidator(_matching(r"https://[A-Za-z0-9.-]+(/[A-Za-z0-9._~%+-]+)+", "must be an https:// address with a path"))]


class Settings(_Model):
    """What a stack says. The field's description and example are also the reference and the remedy in error texts."""

    # -- who may come in
    dicom_cidrs: Annotated[tuple[IPv4Network, ...], AfterValidator(_each_once)] = Field(
        (), description="networks that may reach the DICOM port; required", examples=["198.51.100.0/24"]
    )
    web_cidrs: Annotated[tuple[IPv4Network, ...], AfterValidator(_each_once)] = Field(
        (), description="networks that may reach the web page; required", examples=["198.51.100.0/24"]
    )
    open_to_the_world: bool = Field(default=False, description="confirms that 0.0.0.0/0 above is meant", examples=["true"])
    modalities: Annotated[tuple[Modality, ...], AfterValidator(_one_identity_each)] = Field(
        (), description="DICOM peers: aet, may, address and port for C-MOVE, certificates", examples=["CT1"]
    )
    users: Annotated[tuple[User, ...], AfterValidator(_somebody_is_admin)] = Field(
        (User(name="admin", role="admin"),), description="people at the web page: name, and role admin or reader", examples=["admin"]
    )

    # -- network
    vpc_cidr: Annotated[IPv4Network, AfterValidator(_room_for_the_vpc)] = Field(
        IPv4Network("10.60.0.0/20"), description="range of the VPC, clear of Docker's", examples=["10.60.0.0/20"]
    )
    zones: Annotated[tuple[str, ...], AfterValidator(_each_once), AfterValidator(_zones)] = Field(
        ("a", "b"), description="availability zones by letter, at least two (RDS demands it)", examples=["a"]
    )
    flow_logs: bool = Field(default=False, description="log every refused connection of the VPC", examples=["true"])

    # -- host
    instance_type: Annotated[str, AfterValidator(_allowed("an instance type", MACHINES))] = Field(
        "t4g.small", description="EC2 instance type; its architecture (arm64 or x86_64) follows from it", examples=["t4g.medium"]
    )
    volume_gb: Annotated[int, Field(ge=16, le=1000)] = Field(
        20, description="the host's disk in GB: system, images, logs; no patient data", examples=["20"]
    )
    host_days: Annotated[int, Field(ge=1, le=365)] = Field(
        30, description="days after which a host is replaced by one from the newest AMI", examples=["30"]
    )

    # -- database
    database_class: Annotated[str, AfterValidator(_allowed("a database class", DATABASE_CLASSES))] = Field(
        "db.t4g.micro", description="RDS instance class", examples=["db.t4g.medium"]
    )
    database_storage_gb: Annotated[int, Field(ge=20, le=65536)] = Field(20, description="storage to begin with, in GB", examples=["20"])
    database_limit_gb: Annotated[int, Field(ge=26, le=65536)] = Field(
        100, description="storage may grow by itself up to this, in GB", examples=["1000"]
    )
    multi_az: bool = Field(default=False, description="keep a standby of the database in a second zone", examples=["true"])
    backup_days: Annotated[int, Field(ge=1, le=35)] = Field(
        7, description="days for which the database can be restored to any moment", examples=["14"]
    )
    restore_from: Annotated[
        str,
        AfterValidator(
            _matching(
                r"|[a-z](-?[a-z0-9])*|rds:[a-z](-?[a-z0-9])*|arn:aws:rds:[a-z0-9-]+:\d{12}:snapshot:[a-z0-9:-]+",
                "must be the name or ARN of a database snapshot in this region, or empty",
            )
        ),
    ] = Field(
        "",
        description="snapshot that a new stack's database begins with; an existing database takes no notice",
        examples=["orthanc-prod-final"],
    )
    keep: bool = Field(default=True, description="protect database, key, authorities and secrets from destruction", examples=["false"])

    # -- DICOM and web
    aet: Aet = Field("ORTHANC", description="the server's own AE title", examples=["ORTHANC"])
    dicom_port: Port = Field(11112, description="published DICOM TLS port", examples=["11112"])
    web_port: Port = Field(443, description="published HTTPS port", examples=["443"])
    domain_name: Annotated[
        str, AfterValidator(_matching(r"|([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", "must be a DNS name in lower case, or empty"))
    ] = Field("", description="DNS name that you point to the address; enters the server certificate", examples=["pacs.example.org"])
    web_certificate: str = Field("", description="own certificate chain for the web page, PEM, leaf first", examples=["< chain.pem"])
    web_certificate_key: SecretStr = Field(SecretStr(""), description="its private key, PEM", examples=["--secret < key.pem"])

    # -- certificates: raise a number to renew
    outside_authority: Generation = Field(
        1, description="authority of server and modalities; raising it enrols everybody anew", examples=["2"]
    )
    inside_authority: Generation = Field(1, description="authorities between the containers", examples=["2"])
    server_certificate: Generation = Field(1, description="the server's certificate, 397 days", examples=["2"])
    inside_certificates: Generation = Field(1, description="the containers' certificates and the host's own, 397 days", examples=["2"])
    outgoing_certificate: Generation = Field(1, description="what we show to modalities that we send to, 397 days", examples=["2"])
    modality_days: Annotated[int, Field(ge=30, le=3650)] = Field(
        1095, description="lifetime of the modalities' certificates in days", examples=["1095"]
    )

    # -- watching
    log_days: Annotated[int, AfterValidator(_allowed("a log retention in days", LOG_DAYS))] = Field(
        30, description="days for which logs are kept (a number that CloudWatch knows)", examples=["365"]
    )
    alarm_email: Annotated[str, AfterValidator(_matching(r"|[^@\s]+@[^@\s]+\.[^@\s]+", "must be an e-mail address, or empty"))] = Field(
        "", description="who is told about alarms (AWS first asks that person to confirm)", examples=["pacs@example.org"]
    )
    dashboard: bool = Field(default=False, description="make a CloudWatch dashboard (3 USD a month)", examples=["true"])

    # -- pins
    orthanc_image: Image = Field(
        pins.ORTHANC_IMAGE,
        description="Orthanc's image, by digest",
        examples=["orthancteam/orthanc:TAG@sha256:DIGEST"],
    )
    nginx_image: Image = Field(
        pins.NGINX_IMAGE,
        description="nginx's image, by digest",
        examples=["nginx:TAG@sha256:DIGEST"],
    )
    # {machine} becomes aarch64 or x86_64, the names that the project's releases use.
    compose_url: Annotated[
        str, AfterValidator(_matching(r"https://[A-Za-z0-9.-]+(/[A-Za-z0-9._{}-]+)+", "must be an https:// address with a path"))
    ] = Field(
        "https://github.com/docker/compose/releases/download/v5.4.0/docker-compose-linux-{machine}",
        description="Docker's compose plugin; {machine} stands for aarch64 or x86_64",
        examples=["https://github.com/docker/compose/releases/download/vVERSION/docker-compose-linux-{machine}"],
    )
    compose_sha256_arm64: Sha256 = Field(
        "fc5d1371f1ec7987e703da94ede49af3fbfb240b83f22991a98511de7bc4b93b", description="its checksum for arm64", examples=["SHA256"]
    )
    compose_sha256_x86_64: Sha256 = Field(
        "837fd1d35bf6a494f41b5b5988269a7be79de337cf1a1a6ff0e45ab51bb4e9be",
        alias="composeSha256X8664",
        description="its checksum for x86_64",
        examples=["SHA256"],
    )
    database_authority_url: Url = Field(
        "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
        description="the authorities that sign RDS's certificates",
        examples=["https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"],
    )

    @property
    def machine(self) -> Machine:
        return MACHINES[self.instance_type]

    @classmethod
    def load(cls, config: Mapping[str, str], encrypted: Collection[str] = ()) -> Self:
        """The settings of a stack from its whole configuration, as Pulumi hands it over: strings, lists and objects as JSON.

        `encrypted` names the keys whose values are secrets in the stack's file.

        Raises one SettingsError about everything that is wrong, also across fields that are fine by themselves.
        """
        texts = {key.removeprefix(f"{PROJECT}:"): text for key, text in config.items() if key.startswith(f"{PROJECT}:")}
        given, problems = {}, []
        for key, text in texts.items():
            field = FIELDS.get(key)
            if field is None:
                problems.append(
                    _problem(key, None, f"is no setting; there are {', '.join(sorted(FIELDS))}", f"pulumi config rm {PROJECT}:{key}")
                )
                continue
            try:
                given[key] = json.loads(text) if field in _STRUCTURED else text
            except json.JSONDecodeError:
                problems.append(_problem(key, text, "is no list", how_to_set(key)))
        wrong: set[str] = set()
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            problems += [_from_pydantic(e, encrypted) for e in error.errors()]
            wrong = {str(e["loc"][0]) for e in error.errors()}
            # What is fine by itself, so that the rules across fields speak in the same run.
            settings = cls.model_validate({key: value for key, value in given.items() if key not in wrong})
        problems += [
            _problem(
                key,
                None,
                "stands in the stack's file in plain, where everybody reads it: make a new one, and encrypt that",
                how_to_set(key),
            )
            for key, name in FIELDS.items()
            if name in _SECRET and texts.get(key) and f"{PROJECT}:{key}" not in encrypted
        ]
        problems += [
            _problem(key, _shown(key, texts.get(key), encrypted), why, how_to_set(key))
            for key, why in _across(settings)
            if key not in wrong
        ]
        if problems:
            raise SettingsError("\n\n".join(problems))
        return settings


FIELDS: Final[Mapping[str, str]] = {(f.alias or to_camel(n)): n for n, f in Settings.model_fields.items()}
_STRUCTURED: Final = ("dicom_cidrs", "web_cidrs", "modalities", "users", "zones")
_SECRET: Final = ("web_certificate_key",)


def wide(network: IPv4Network) -> bool:
    """Whether it is the whole internet, or so much of it that it might as well be: half of it is as open as all of it."""
    return network.prefixlen < 8


def _networks(s: Settings) -> Iterator[tuple[str, str]]:
    for key, networks in (("dicomCidrs", s.dicom_cidrs), ("webCidrs", s.web_cidrs)):
        if not networks:
            yield key, "is required and has no default, so that nobody opens a port by accident"
        elif any(wide(network) for network in networks) and not s.open_to_the_world:
            yield (
                key,
                f"opens the port to the whole internet; if that is meant, say it twice: pulumi config set {PROJECT}:openToTheWorld true",
            )


def _across(s: Settings) -> Iterator[tuple[str, str]]:
    """Rules that involve several fields: (the setting to change, why)."""
    yield from _networks(s)
    if s.dicom_port == s.web_port:
        yield "webPort", f"is the DICOM port too ({s.dicom_port})"
    if s.database_limit_gb * 100 < s.database_storage_gb * 126:
        yield "databaseLimitGb", f"must be at least 26 % above databaseStorageGb ({s.database_storage_gb}), or RDS never grows it"
    if s.aet.lower() in {m.aet.lower() for m in s.modalities}:
        yield "modalities", f"contains the server's own AE title {s.aet}"
    if PROBE_AET.lower() in {m.aet.lower() for m in s.modalities} or s.aet.lower() == PROBE_AET.lower():
        yield "modalities" if s.aet.lower() != PROBE_AET.lower() else "aet", f"takes {PROBE_AET}, the AE title of the host's own proof"
    for modality in s.modalities:
        if modality.address is not None and modality.address in s.vpc_cidr:
            yield "modalities", f"has {modality.aet} at {modality.address}, inside the VPC ({s.vpc_cidr}), where no modality can be"
    if s.web_certificate or s.web_certificate_key.get_secret_value():
        why = problem_with_web_certificate(s.web_certificate, s.web_certificate_key.get_secret_value(), s.domain_name)
        if why:
            yield "webCertificate", why


def _shown(key: str, value: object, encrypted: Collection[str]) -> str | None:
    """The value as it may stand in a message: none of what is a secret by its nature, or is kept as one in the stack's file."""
    if value is None or FIELDS.get(key) in _SECRET or f"{PROJECT}:{key}" in encrypted:
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if not text:
        return "''"
    first = text.splitlines()[0]
    return first if first == text and len(first) <= 80 else f"{first[:77]}..."


def _problem(key: str, value: str | None, why: str, remedy: str) -> str:
    return f"{PROJECT}:{key}{'' if value is None else f' = {value}'}: {why}\n    remedy: {remedy}"


def how_to_set(key: str, inner: Sequence[str | int] = ()) -> str:
    """The `pulumi config set` line that sets `key`, with an example for a value; or where to mend what no such line can say.

    `inner` is the place inside a list: its index first.
    """
    name = FIELDS[key]
    example = str((Settings.model_fields[name].examples or ["VALUE"])[0])
    if name in ("dicom_cidrs", "web_cidrs"):
        return f"pulumi config set --path '{PROJECT}:{key}[{inner[0] if inner else 0}]' {example}"
    if name in _STRUCTURED:
        return f"mend {PROJECT}:{key} in the stack's file, Pulumi.STACK.yaml; docs/aws.md shows how it is written"
    if name in _SECRET:
        return f"pulumi config set --secret {PROJECT}:{key} {example.removeprefix('--secret ')}"
    return f"pulumi config set {PROJECT}:{key} {example}"


def _from_pydantic(error: Any, encrypted: Collection[str]) -> str:
    key, *inner = error["loc"]
    where = key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
    why = error["msg"].removeprefix("Value error, ")
    # What stands under a name that does not exist may be anything, a password too.
    value = None if error["type"] == "extra_forbidden" else _shown(key, error.get("input"), encrypted)
    return _problem(where, value, why, how_to_set(key, inner))
