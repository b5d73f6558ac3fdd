"""The laptop's own database: who may log in, how, and what its log may say. RDS is told the same by its parameter group."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from config_templates import Service, places, render
from tests.rendering.scenarios import SCENARIOS, containers_of, every_scenario

_with_a_database = pytest.mark.parametrize("service", [SCENARIOS["laptop"], SCENARIOS["many"]], ids=["laptop", "many"])


def _settings(service: Service) -> dict[str, str]:
    lines = [line for line in render(service)["postgres/postgresql.conf"].splitlines() if line and not line.startswith("#")]
    settings = {}
    for line in lines:
        found = re.fullmatch(r"(\w+) = ('[^']*'|[\w-]+)", line)
        assert found, line
        assert found[1] not in settings, line
        settings[found[1]] = found[2].strip("'")
    return settings


@every_scenario
def test_files_of_a_database_are_rendered_only_where_the_service_has_one_of_its_own(service: Service) -> None:
    assert any(name.startswith("postgres") for name in render(service)) is (service.postgres is not None)


@_with_a_database
def test_the_database_speaks_tls_only_and_keeps_what_it_has_acknowledged(service: Service) -> None:
    settings = _settings(service)
    assert settings["ssl"] == "on"
    assert settings["ssl_min_protocol_version"] == "TLSv1.2"
    assert settings["password_encryption"] == "scram-sha-256"
    assert settings["synchronous_commit"] == "on"
    assert not {"fsync", "full_page_writes"} & settings.keys()  # their defaults are the safe ones


@_with_a_database
def test_the_databases_log_holds_no_statement_and_no_detail_of_an_error(service: Service) -> None:
    settings = _settings(service)
    assert settings["log_statement"] == "none"
    assert settings["log_min_duration_statement"] == "-1"
    assert settings["log_min_error_statement"] == "panic"
    assert settings["log_error_verbosity"] == "terse"
    assert settings["log_parameter_max_length"] == settings["log_parameter_max_length_on_error"] == "0"
    assert not {"log_min_duration_sample", "log_duration", "auto_explain.log_min_duration"} & settings.keys()


@_with_a_database
def test_orthanc_logs_in_by_tls_and_password_to_its_own_database_and_nobody_else_by_network(service: Service) -> None:
    rules = [line.split() for line in render(service)["postgres/pg_hba.conf"].splitlines() if line and not line.startswith("#")]
    database, user = service.database.name, service.database.user
    assert [[word.strip('"') for word in rule] for rule in rules] == [
        ["hostssl", database, user, "0.0.0.0/0", "scram-sha-256"],
        ["local", "all", "postgres", "scram-sha-256"],
    ]


@_with_a_database
def test_the_database_reads_what_is_mounted_and_nothing_on_its_command_line_undoes_it(service: Service) -> None:
    container = containers_of(service)["postgres"]
    home = places.MOUNTS["postgres"][1]
    server = f"postgres -c config_file={home}/postgresql.conf"
    # The image's script makes the cluster and ends; the server is started without the password that the script has read.
    shell, options, script = container["entrypoint"]
    assert (shell, options) == ("bash", "-ec")
    assert f"docker-ensure-initdb.sh {server}\n" in script
    assert script.endswith(f"\nexec {server}\n")
    assert "command" not in container
    assert container["environment"] == {"POSTGRES_PASSWORD_FILE": f"{home}/superuser-password"}
    assert _settings(service)["hba_file"] == f"{home}/pg_hba.conf"
    assert _settings(service)["port"] == str(service.database.port)
    named = set(re.findall(rf"{home}/([\w.-]+)", "".join(render(service).values())))
    assert named <= {*places.LAPTOP_SECRETS["postgres"], "postgresql.conf", "pg_hba.conf"}


@_with_a_database
def test_the_database_listens_where_its_networks_reach_and_logs_where_docker_reads(service: Service) -> None:
    settings = _settings(service)
    assert settings["listen_addresses"] == "*"  # which networks there are, compose.yaml says
    writable = {line.partition(":")[0] for line in containers_of(service)["postgres"]["tmpfs"]}
    assert settings["unix_socket_directories"] in writable
    assert (settings["log_destination"], settings["logging_collector"]) == ("stderr", "off")


@_with_a_database
def test_the_cluster_lies_in_a_volume_and_is_shut_down_in_order(service: Service) -> None:
    container = containers_of(service)["postgres"]
    assert [(mount["source"], mount["target"]) for mount in container["volumes"] if mount["type"] == "volume"] == [
        ("database", "/var/lib/postgresql")  # where the images of version 18 and later keep it, in a folder of their own
    ]
    assert container["stop_signal"] == "SIGINT"  # "fast": aborts what runs, and checkpoints


@_with_a_database
def test_the_password_of_orthancs_role_stands_in_no_statement(service: Service) -> None:
    sql = render(service)["postgres-init/create.sql"]
    assert "LOGIN PASSWORD :'password';" in sql
    assert f"\\set password `cat {places.MOUNTS['postgres'][1]}/orthanc-password`" in sql
    assert "SUPERUSER" not in sql.upper()


# Plays the image's script: tells what it finds, makes a cluster where there is none, and ends as it is told to.
_MAKES = """#!/bin/bash
ls -A >"$SEEN"
if [ -e 18/PG_VERSION ]; then exit 0; fi
mkdir 18 && touch 18/PG_VERSION && sleep "$SECONDS_LONG" && exit "$ENDS"
"""


def _start(folder: Path, *, ends: int = 0, seconds: float = 0) -> subprocess.Popen[str]:
    """What the container's first process does, with its volume in `folder` and both programs pretended."""
    for name, text in {"docker-ensure-initdb.sh": _MAKES, "postgres": "#!/bin/bash\necho serves\n"}.items():
        (folder / name).write_text(text, encoding="ascii")
        (folder / name).chmod(0o755)
    (folder / "volume").mkdir(exist_ok=True)
    shell, options, script = containers_of(SCENARIOS["laptop"])["postgres"]["entrypoint"]
    assert "cd /var/lib/postgresql\n" in script
    told = {"PATH": f"{folder}:/usr/bin:/bin", "SEEN": str(folder / "seen"), "SECONDS_LONG": str(seconds), "ENDS": str(ends)}
    here = script.replace("/var/lib/postgresql", str(folder / "volume"))
    return subprocess.Popen([shell, options, here], cwd=folder, env=told, stdout=subprocess.PIPE, text=True)


def _seen(folder: Path) -> list[str]:
    return (folder / "seen").read_text(encoding="ascii").split()


def test_a_cluster_whose_making_was_cut_off_is_begun_anew_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    cut_off = _start(tmp_path, ends=3)
    assert (cut_off.communicate(timeout=30)[0], cut_off.returncode) == ("", 3)
    assert {path.name for path in (tmp_path / "volume").iterdir()} == {"18", "unfinished"}
    for found in (["unfinished"], ["18"]):
        whole = _start(tmp_path)
        assert (whole.communicate(timeout=30)[0], whole.returncode) == ("serves\n", 0)
        assert _seen(tmp_path) == found
        assert [path.name for path in (tmp_path / "volume").iterdir()] == ["18"]


def test_a_stop_is_heeded_while_a_cluster_is_made(tmp_path: Path) -> None:
    started = _start(tmp_path, seconds=0.5)
    for _ in range(1000):
        if (tmp_path / "volume/18/PG_VERSION").exists():
            break
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    assert (started.communicate(timeout=30)[0], started.returncode) == ("", 1)
    assert (tmp_path / "volume/unfinished").exists()
