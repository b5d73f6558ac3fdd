"""What a release says to the agent: host.json as it lies there (raw), with defaults filled in (merged), and checked (Configuration)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# host.json may say otherwise; these serve every stack so far.
DEFAULTS: Mapping[str, Any] = {
    "run_dir": "/run/orthanc",
    "minimum_free_mb": 1024,  # an image of Orthanc unpacks to about that
    "up_seconds": 900,  # a new Orthanc may first upgrade the database's schema
}
PROBE_USER = "host"  # logs in at the web page, may only look
PROBE_AET = "PROBE"  # calls with a certificate of its own, may only C-ECHO


class ConfigurationError(Exception):
    """host.json can't be used: every problem, one a line."""


@dataclass(frozen=True)
class Secret:
    """Where one file's content lies in Secrets Manager."""

    arn: str
    version: str
    field: str


@dataclass(frozen=True)
class DatabaseAccess:
    host: str
    port: int
    name: str
    user: str
    secret: str  # made and rotated by RDS: {"username": …, "password": …}
    authority_url: str


@dataclass(frozen=True)
class Configuration:
    stack: str
    region: str
    group: str
    hook: str
    metrics: str  # CloudWatch namespace
    proven: str  # Parameter Store name
    log_group: str
    aet: str
    dicom_port: int
    web_port: int
    server_name: str  # what the server's certificates are for
    address: str
    allocation: str
    database: DatabaseAccess
    files: Mapping[str, Secret]
    directories: Mapping[str, tuple[int, int]]  # below run_dir -> uid and gid of the container that mounts it
    scratch_dir: str
    expires: Mapping[str, datetime]  # certificate -> end of its life
    run_dir: str
    minimum_free_mb: int
    up_seconds: int

    @property
    def run(self) -> Path:
        return Path(self.run_dir)

    @property
    def disks(self) -> tuple[str, ...]:
        """Where the system, the images and Orthanc's temporary files lie; usually one disk."""
        return ("/", "/var/lib/docker", self.scratch_dir)


def merged(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {**DEFAULTS, **raw}


def validated(said: Mapping[str, Any]) -> Configuration:
    """Raises ConfigurationError that names everything that is missing or of the wrong kind."""
    problems: list[str] = []

    def take(name: str, kind: type, within: Mapping[str, Any] = said, prefix: str = "") -> Any:
        value = within.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or value == "":
            problems.append(f"host.json: {prefix}{name} must be a {kind.__name__}, and is {value!r}")
            return kind()
        return value

    texts = ("stack", "region", "group", "hook", "metrics", "proven", "log_group", "aet", "server_name", "run_dir", "scratch_dir")
    taken = {name: take(name, str) for name in texts}
    numbers = {name: take(name, int) for name in ("dicom_port", "web_port", "minimum_free_mb", "up_seconds")}
    address, database = take("address", dict), take("database", dict)
    files, directories, expires = take("files", dict), take("directories", dict), take("expires", dict)
    access = DatabaseAccess(
        **{name: take(name, str, database, "database.") for name in ("host", "name", "user", "secret", "authority_url")},
        port=take("port", int, database, "database."),
    )
    secrets = {}
    for file, told in files.items():
        place = told if isinstance(told, dict) else {}
        fields = {key: take(key, str, place, f"files[{file}].") for key in ("secret", "version", "field")}
        secrets[file] = Secret(fields["secret"], fields["version"], fields["field"])
        if file.partition("/")[0] not in directories:
            problems.append(f"host.json: files[{file}] lies in no known directory")
    owners, ends = _owners(directories, problems), _ends(expires, problems)
    ip, allocation = take("ip", str, address, "address."), take("allocation", str, address, "address.")
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Configuration(
        **taken,
        **numbers,
        address=ip,
        allocation=allocation,
        database=access,
        files=secrets,
        directories=owners,
        expires=ends,
    )


def _owners(directories: Mapping[str, Any], problems: list[str]) -> dict[str, tuple[int, int]]:
    owners = {}
    for name, owner in directories.items():
        if isinstance(owner, list) and len(owner) == 2 and all(isinstance(n, int) for n in owner):
            owners[name] = (owner[0], owner[1])
        else:
            problems.append(f"host.json: directories.{name} must be [uid, gid], and is {owner!r}")
    return owners


def _ends(expires: Mapping[str, Any], problems: list[str]) -> dict[str, datetime]:
    ends = {}
    for name, text in expires.items():
        try:
            ends[name] = datetime.fromisoformat(str(text))
        except ValueError:
            problems.append(f"host.json: expires.{name} is no date: {text!r}")
        else:
            if ends[name].tzinfo is None:
                problems.append(f"host.json: expires.{name} has no time zone: {text!r}")
    return ends
