"""What lies in the directories that the containers mount (tmpfs): a release's own files, and the secrets that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from orthanc_host.configuration import Configuration
from orthanc_host.machine import Aws, Failed, Machine

OWN = "agent"  # the agent's own directory below run_dir; no container mounts it
_AUTHORITIES = Path("/var/lib/orthanc/authorities")
_REFRESH_SECONDS = 86400
_ALLOWED = re.compile(r'^\s+[0-9a-f]{40} "([^"]+)";$')


def shipped(machine: Machine, release: Path, configuration: Configuration) -> dict[str, str]:
    """The release's own files that belong into the directories, by DIRECTORY/NAME."""
    return {
        f"{directory}/{name}": machine.read(release / directory / name) or ""
        for directory in configuration.directories
        for name in machine.names(release / directory)
    }


def without_revoked(files: Mapping[str, str], revoked: Collection[str]) -> dict[str, str]:
    """The same files, in which nginx's allow-list lacks the modalities that somebody refused by hand."""
    name = "nginx/nginx.conf"
    if not revoked or name not in files:
        return dict(files)
    lines = []
    for line in files[name].splitlines(keepends=True):
        found = _ALLOWED.match(line)
        if not (found and found.group(1) in revoked):
            lines.append(line)
    return {**files, name: "".join(lines)}


def secrets(machine: Machine, aws: Aws, configuration: Configuration, placed: Mapping[str, str]) -> dict[str, str]:
    """The secret files of the release. What lies there already and is of the same version is not asked for again."""
    notes = json.loads(machine.read(configuration.run / OWN / "versions.json") or "{}")
    wanted = {file: f"{secret.arn}#{secret.version}#{secret.field}" for file, secret in configuration.files.items()}
    found = {file: placed[file] for file, mark in wanted.items() if file in placed and notes.get(file) == mark}
    fetched: dict[tuple[str, str], Mapping[str, str]] = {}
    for file, secret in configuration.files.items():
        if file in found:
            continue
        place = (secret.arn, secret.version)
        if place not in fetched:
            fetched[place] = _value(aws, *place)
        if secret.field not in fetched[place]:
            raise Failed(f"the secret {secret.arn} has no field {secret.field}")
        found[file] = fetched[place][secret.field]
    return {**found, f"{OWN}/versions.json": json.dumps(wanted, sort_keys=True)}


def _value(aws: Aws, arn: str, version: str) -> Mapping[str, str]:
    """One version of a secret; the current one when that version is gone (Secrets Manager drops it two renewals later)."""
    try:
        told = aws("secretsmanager", "get-secret-value", "--secret-id", arn, "--version-id", version)
    except Failed as error:
        if "ResourceNotFoundException" not in str(error):
            raise
        told = aws("secretsmanager", "get-secret-value", "--secret-id", arn)
    return dict(json.loads(told["SecretString"]))


def passfile(aws: Aws, configuration: Configuration, placed: Mapping[str, str]) -> dict[str, str]:
    """libpq's passfile with the database's current password, asked for only when RDS has made another version of it."""
    database = configuration.database
    stages = aws("secretsmanager", "describe-secret", "--secret-id", database.secret)["VersionIdsToStages"]
    (current,) = [version for version, names in stages.items() if "AWSCURRENT" in names]
    mark = f"{database.secret}#{current}#{database.host}"
    note = f"{OWN}/database-version"
    if placed.get(note) == mark and "orthanc/pgpass" in placed:
        return {note: mark, "orthanc/pgpass": placed["orthanc/pgpass"]}
    told = aws("secretsmanager", "get-secret-value", "--secret-id", database.secret, "--version-id", current)
    login = json.loads(told["SecretString"])
    fields = (database.host, str(database.port), "*", login["username"], login["password"])
    line = ":".join(field if field == "*" else field.replace("\\", "\\\\").replace(":", "\\:") for field in fields)
    return {note: mark, "orthanc/pgpass": f"{line}\n"}


def database_authorities(machine: Machine, configuration: Configuration) -> str:
    """The authorities that sign the database's certificate: from the internet once a day, else from the last time."""
    url = configuration.database.authority_url
    cache = _AUTHORITIES / f"{sha256(url.encode()).hexdigest()[:16]}.json"
    kept = json.loads(machine.read(cache) or "{}")
    if kept and 0 <= machine.now() - kept["at"] < _REFRESH_SECONDS:
        return str(kept["text"])
    try:
        text = _certificates(machine, url)
    except Failed:
        if kept:
            return str(kept["text"])
        raise
    with suppress(OSError):  # a full disk must not keep the service from coming up
        machine.write(cache, json.dumps({"at": machine.now(), "text": text}), 0o644)
    return text


def _certificates(machine: Machine, url: str) -> str:
    text = machine.download(url)
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise Failed(f"{url} holds no certificate")
    return text


def placed(machine: Machine, configuration: Configuration) -> dict[str, str]:
    """What lies in the directories now."""
    return {
        f"{directory}/{name}": machine.read(configuration.run / directory / name) or ""
        for directory in configuration.directories
        for name in machine.names(configuration.run / directory)
        if not name.endswith(".new")
    }


def place(machine: Machine, configuration: Configuration, files: Mapping[str, str]) -> set[str]:
    """Make the directories hold exactly `files`, each readable by its container's user alone. Returns the names that changed."""
    before = placed(machine, configuration)
    try:
        machine.directory(configuration.run, 0o711, (0, 0))
        for directory, owner in configuration.directories.items():
            machine.directory(configuration.run / directory, 0o500, owner)
        machine.directory(Path(configuration.scratch_dir), 0o700, configuration.directories["orthanc"])
        for name in sorted(before.keys() - files.keys()):
            machine.remove(configuration.run / name)
        for name in sorted(files):
            if before.get(name) != files[name]:
                machine.write(configuration.run / name, files[name], 0o400, configuration.directories[name.partition("/")[0]])
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from None
    return {name for name in before.keys() | files.keys() if before.get(name) != files.get(name)}


def digests(files: Mapping[str, str]) -> dict[str, str]:
    return {name: sha256(text.encode()).hexdigest() for name, text in files.items()}


def revocable(nginx_conf: str) -> list[str]:
    """The modalities that nginx's allow-list names."""
    return sorted({found.group(1) for line in nginx_conf.splitlines() for found in [_ALLOWED.match(line)] if found})
