"""Compose, nginx, Orthanc and PostgreSQL themselves accept what is rendered for every golden scenario."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from config_templates import Database, Service, places, render
from laptop.docker import attempt, docker
from laptop.site import container_accounts
from tests.rendering.scenarios import SCENARIOS, given
from tests.service.stack import Stack, eventually

every_scenario = pytest.mark.parametrize("name", sorted(SCENARIOS))


def lay_out(service: Service, stack: Stack, folder: Path) -> Path:
    """The scenario's files and, beside them, secrets of the running stack: everything that a container would see."""
    everything = {**stack.site.secret_files(), **render(service)}
    for name, text in everything.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o400)  # libpq and PostgreSQL refuse secrets that others may read
        if os.geteuid() == 0 and directory(name) in places.MOUNTS:
            account = container_accounts()[places.MOUNTS[directory(name)][0]]
            os.chown(path, account.uid, account.gid)
    return folder


def directory(name: str) -> str:
    return name.partition("/")[0]


def as_account(container: str) -> str:
    account = container_accounts()[container]
    return f"--user={account.uid}:{account.gid}"


def mounts(folder: Path, container: str) -> list[str]:
    folder.chmod(0o755)
    return [f"--volume={folder / name}:{seen}:ro" for name, (owner, seen) in places.MOUNTS.items() if owner == container]


@every_scenario
def test_compose_accepts_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(render(SCENARIOS[name])["compose.yaml"])
    checked = attempt("compose", "--file", str(tmp_path / "compose.yaml"), "config", "--quiet")
    assert (checked.returncode, checked.stderr) == (0, "")


@every_scenario
def test_nginx_accepts_it(name: str, stack: Stack, tmp_path: Path) -> None:
    folder = lay_out(SCENARIOS[name], stack, tmp_path)
    command = ["run", "--rm", as_account("nginx"), *mounts(folder, "nginx"), "--entrypoint=nginx", stack.images.nginx]
    checked = attempt(*command, "-t", "-c", "/etc/gateway/nginx.conf")
    assert checked.returncode == 0, checked.stderr
    assert "test is successful" in checked.stderr
    assert "[warn]" not in checked.stderr


@every_scenario
def test_orthanc_starts_with_it_and_is_healthy(name: str, stack: Stack, tmp_path: Path) -> None:
    """Its configuration, but for the database, which is the tests' own; in a container of its own, without compose's limits."""
    service = given(SCENARIOS[name], database=Database(host=places.DATABASE_HOST))
    folder = lay_out(service, stack, tmp_path)
    tmpfs = ["--tmpfs=/tmp:mode=1777", "--tmpfs=/run/orthanc/plugins:exec,mode=1777", "--tmpfs=/var/lib/orthanc/db:mode=1777"]
    command = ["run", "--detach", "--network=orthanc-test_database", "--read-only", as_account("orthanc"), *tmpfs]
    identifier = docker(*command, *mounts(folder, "orthanc"), stack.images.orthanc).strip()
    try:
        health = ["exec", identifier, "python3", "/etc/probe/probe.py"]
        eventually("Orthanc is healthy", lambda: attempt(*health, "health").returncode == 0, 40)
        merged = json.loads(docker("exec", identifier, "cat", "/tmp/orthanc.json"))
        assert merged["DicomAet"] == service.aet
        said = attempt("logs", identifier)
        assert not re.search(r"(?m)^E\d{4} ", said.stdout + said.stderr), "Orthanc logs its errors with an E in front"
    finally:
        docker("rm", "--force", "--volumes", identifier)


@pytest.mark.parametrize("name", ["laptop", "many"])
def test_postgresql_starts_with_it_and_lets_orthanc_s_role_in(name: str, stack: Stack, tmp_path: Path) -> None:
    database = SCENARIOS[name].database
    folder = lay_out(SCENARIOS[name], stack, tmp_path)
    tmpfs = [f"--tmpfs={where}:mode=1777" for where in ("/tmp", "/var/run/postgresql", "/var/lib/postgresql")]
    command = ["run", "--detach", "--network=none", "--read-only", as_account("postgres"), *tmpfs]
    command += ["--env=POSTGRES_PASSWORD_FILE=/etc/database/superuser-password", *mounts(folder, "postgres"), "--entrypoint=bash"]
    start = yaml.safe_load(render(SCENARIOS[name])["compose.yaml"])["services"]["postgres"]["entrypoint"]
    identifier = docker(*command, stack.images.postgres, *start[1:]).strip()
    login = f"host=127.0.0.1 port={database.port} user={database.user} dbname={database.name} sslmode=require"
    ask = "PGPASSWORD=$(cat /etc/database/orthanc-password) psql -At \"$0\" -c 'CREATE EXTENSION pg_trgm' -c 'SELECT ssl FROM pg_stat_ssl'"
    try:
        ready = [
            "exec",
            identifier,
            "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(database.port),
            "-U",
            database.user,
            "-d",
            database.name,
        ]
        eventually("PostgreSQL is ready", lambda: attempt(*ready).returncode == 0, 40)
        assert docker("exec", identifier, "sh", "-c", ask, login).split()[-1] == "t"
    finally:
        docker("rm", "--force", "--volumes", identifier)
