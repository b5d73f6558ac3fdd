"""What answers behind the emulated RDS: a real PostgreSQL with RDS's manners."""

from __future__ import annotations

import json
import os
import secrets
import string
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra import database
from laptop.certificates import SERVER_DAYS, Pair, Profile, issue
from laptop.docker import attempt, docker
from rehearsal.laboratory import RehearsalError

_USER: Final = 998  # whom the server runs as in its container
_FOLDER: Final = "/etc/database"
_LETTERS: Final = string.ascii_letters + string.digits
# TLS or nothing (rds.force_ssl), and nobody but the service's own user; the superuser only from inside.
_WHO: Final = f"hostssl all {database.USER} all scram-sha-256\nlocal all postgres trust\n"
_SERVER: Final = " -c ".join(
    (
        "postgres",
        "listen_addresses='*'",
        f"port={database.PORT}",
        f"hba_file={_FOLDER}/pg_hba.conf",
        "password_encryption=scram-sha-256",
        "ssl=on",
        f"ssl_cert_file={_FOLDER}/server.crt",
        f"ssl_key_file={_FOLDER}/server.key",
        "ssl_min_protocol_version=TLSv1.2",
    )
)


@dataclass(frozen=True, kw_only=True)
class Database:
    """One stack's PostgreSQL. What it holds survives a stop; all of it goes with the rehearsal."""

    container: str
    secret: str
    secretsmanager: Any

    def sql(self, statement: str) -> str:
        """What the superuser is answered, bare: rows in lines, columns parted by '|'."""
        words = ("psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-XAtq", "-U", "postgres", "-d", database.NAME, "-f", "-")
        return docker("exec", "--interactive", self.container, *words, stdin=statement).strip()

    def stop(self) -> None:
        docker("stop", "--time", "30", self.container)

    def start(self) -> None:
        docker("start", self.container)
        self._wait()

    def restart(self, away: float = 0) -> None:
        """A failover: every connection breaks, and after `away` seconds it is there again, with all that was committed."""
        docker("kill", self.container)
        time.sleep(away)
        self.start()

    def rotate(self) -> str:
        """Another password, as RDS makes one every seven days: connections that are open stay, new ones need it. Returns it."""
        password = _password()
        self.sql(f"ALTER ROLE {database.USER} PASSWORD '{password}'")
        self._tell(password)
        return password

    def _tell(self, password: str) -> None:
        said = json.dumps({"username": database.USER, "password": password})
        self.secretsmanager.put_secret_value(SecretId=self.secret, SecretString=said)

    def _wait(self) -> None:
        # By network: the server that initialises a new cluster listens on a socket file only.
        ready = ("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(database.PORT), "-U", database.USER, "-d", database.NAME)
        for _ in range(300):
            if attempt("exec", self.container, *ready).returncode == 0:
                return
            time.sleep(0.2)
        raise RehearsalError(f"PostgreSQL did not start:\n{attempt('logs', '--tail', '20', self.container).stderr}")


@contextmanager
def serving(emulated: Any, secretsmanager: Any, authority: Pair, home: Path, words: Sequence[str]) -> Iterator[Database]:
    """PostgreSQL for `emulated`, what the emulated RDS says about it. `words` for `docker run` name and place it; the last is the image."""
    password = _password()
    names = [emulated["Endpoint"]["Address"]]
    pair = issue(authority, names[0][:64], Profile(kind="rsa", usages=["server"], names=names, days=SERVER_DAYS))
    home.mkdir()
    (home / "initial").mkdir()
    _write(home / "server.crt", pair.certificate)
    _write(home / "server.key", pair.key)
    _write(home / "pg_hba.conf", _WHO)
    _write(home / "superuser-password", _password())
    _write(
        home / "initial/create.sql",
        f"CREATE ROLE {database.USER} LOGIN CREATEDB CREATEROLE PASSWORD '{password}';\n"
        f"CREATE DATABASE {database.NAME} OWNER {database.USER} ENCODING 'UTF8' TEMPLATE template0;\n",
    )
    container = docker(
        *("run", "--detach", "--user", f"{_USER}:{_USER}", "--shm-size", "128m", "--stop-signal", "SIGINT"),
        *("--volume", f"{home}:{_FOLDER}:ro", "--volume", f"{home / 'initial'}:/docker-entrypoint-initdb.d:ro"),
        *("--volume", "/var/lib/postgresql", "--env", f"POSTGRES_PASSWORD_FILE={_FOLDER}/superuser-password"),
        *("--entrypoint", "bash", *words, "-c", f"docker-ensure-initdb.sh {_SERVER} && exec {_SERVER}"),
    ).strip()
    try:
        made = Database(container=container, secret=emulated["MasterUserSecret"]["SecretArn"], secretsmanager=secretsmanager)
        # The emulator gives every database one and the same password.
        made._tell(password)  # noqa: SLF001
        made._wait()  # noqa: SLF001
        yield made
    finally:
        docker("rm", "--force", "--volumes", container)


def _password() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(28))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o400)
    os.chown(path, _USER, _USER)
