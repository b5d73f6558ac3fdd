"""What `make bench` compares differs from the real service in what it says, and in nothing else."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from config_templates import Service, render
from laptop.bench_variants import NO_TLS, ORIGINAL, THIS, Files, Variant
from laptop.tell import Trouble
from tests.rendering.nginx_blocks import Block, parse
from tests.rendering.scenarios import SCENARIOS, given

# The bench's own service: no modality that images are sent to, so no outgoing ports.
SERVICE: Service = given(SCENARIOS["laptop"], modalities=SCENARIOS["aws"].modalities)


def changed_files(variant: Variant) -> set[str]:
    before, after = render(SERVICE), variant.change(render(SERVICE))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def changed_lines(variant: Variant, name: str) -> tuple[list[str], list[str]]:
    """The lines of the file that are gone, and those that are new."""
    lines = list(difflib.ndiff(render(SERVICE)[name].splitlines(), variant.change(render(SERVICE))[name].splitlines()))
    return [line[2:].strip() for line in lines if line.startswith("- ")], [line[2:].strip() for line in lines if line.startswith("+ ")]


def nginx(variant: Variant) -> Block:
    return parse(variant.change(render(SERVICE))["nginx/nginx.conf"])


def connection(variant: Variant) -> dict[str, list[str]]:
    configuration = json.loads(variant.change(render(SERVICE))["orthanc/orthanc.json"])
    return parse_qs(urlsplit(configuration["PostgreSQL"]["ConnectionUri"]).query)


def compose(files: Files) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(files["compose.yaml"])
    return parsed


def test_this_service_is_the_real_one_but_for_what_would_be_measured_by_mistake() -> None:
    assert changed_files(THIS) == {"compose.yaml", "postgres/postgresql.conf"}
    real, measured = compose(render(SERVICE)), compose(THIS.change(render(SERVICE)))
    del real["networks"]["no-metadata"]
    for container in real["services"].values():
        del container["networks"]["no-metadata"]
    real["services"]["orthanc"]["environment"]["STONE_WEB_VIEWER_PLUGIN_ENABLED"] = "false"
    assert measured == real
    assert changed_lines(THIS, "postgres/postgresql.conf") == ([], ["", "autovacuum = off", "checkpoint_timeout = 1d"])


def test_without_tls_nothing_is_encrypted_and_the_rest_is_as_it_was() -> None:
    assert changed_files(NO_TLS) == changed_files(THIS) | {
        "nginx/nginx.conf",
        "orthanc/orthanc.json",
        "postgres/pg_hba.conf",
        "probe/probe.py",
    }
    gone, new = changed_lines(NO_TLS, "nginx/nginx.conf")
    assert all(re.match(r"(proxy_)?ssl|listen \d+ ssl|js_preread association\.admit|proxy_pass https:", line) for line in gone), gone
    assert all(re.match(r"listen \d+( |;)|proxy_pass http:", line) for line in new), new
    assert not [block for block in nginx(NO_TLS).walk() if "ssl" in block.name or "ssl" in block.args]
    assert connection(NO_TLS)["sslmode"] == ["disable"]
    for name in changed_files(THIS):
        assert changed_lines(NO_TLS, name) == changed_lines(THIS, name)


def test_the_original_encrypts_at_the_front_door_and_to_a_database_that_it_does_not_verify() -> None:
    assert changed_files(ORIGINAL) == changed_files(THIS) | {"nginx/nginx.conf", "orthanc/orthanc.json", "probe/probe.py"}
    gone, new = changed_lines(ORIGINAL, "nginx/nginx.conf")
    assert all(re.match(r"proxy_ssl|proxy_pass https:", line) for line in gone), gone
    assert all(line.startswith("proxy_pass http:") for line in new), new
    assert connection(ORIGINAL)["sslmode"] == ["require"]
    assert "sslrootcert" not in connection(ORIGINAL), "libpq would verify"


def test_the_original_s_orthanc_waits_for_delayed_acknowledgements() -> None:
    assert compose(THIS.change(render(SERVICE)))["services"]["orthanc"]["environment"]["TCP_NODELAY"] == "1"
    assert "TCP_NODELAY" not in compose(ORIGINAL.change(render(SERVICE)))["services"]["orthanc"]["environment"]


def test_the_original_s_database_compresses_by_its_default() -> None:
    gone, new = changed_lines(ORIGINAL, "postgres/postgresql.conf")
    assert (gone, new) == (["default_toast_compression = 'lz4'"], changed_lines(THIS, "postgres/postgresql.conf")[1])


@pytest.mark.parametrize("variant", [NO_TLS, ORIGINAL])
def test_orthanc_s_ports_and_its_health_check_are_in_clear_in_both(variant: Variant) -> None:
    before, after = (json.loads(files["orthanc/orthanc.json"]) for files in (render(SERVICE), variant.change(render(SERVICE))))
    differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert differing == {"SslEnabled", "DicomTlsEnabled", "PostgreSQL"}
    assert (after["SslEnabled"], after["DicomTlsEnabled"]) == (False, False)
    assert changed_lines(variant, "probe/probe.py")[1] == ["self.sock = plain"]
    same = {"application_name", "passfile", "connect_timeout", "target_session_attrs"}
    assert all(connection(variant)[name] == connection(THIS)[name] for name in same)


@pytest.mark.parametrize("variant", [THIS, NO_TLS, ORIGINAL])
def test_a_template_that_moved_on_is_noticed(variant: Variant) -> None:
    moved = {name: text.replace("proxy_ssl", "proxy-ssl").replace("no-metadata", "nowhere") for name, text in render(SERVICE).items()}
    with pytest.raises(Trouble, match=r"mend laptop/bench_variants\.py"):
        variant.change(moved)
