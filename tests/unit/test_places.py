"""What is shipped and what is rendered mean the same places."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from config_templates import places, render
from tests.rendering.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]


def test_the_probe_asks_orthanc_by_its_name_and_port() -> None:
    probe = runpy.run_path(str(ROOT / "config_templates/probe/probe.py"))
    assert (probe["NAME"], probe["PORT"]) == (places.ORTHANC_HOST, places.ORTHANC_HTTPS_PORT)


def test_every_file_that_a_service_reads_is_put_there_and_none_besides() -> None:
    rendered = render(SCENARIOS["many"])
    said = "\n".join(rendered.values())
    for directory in ("nginx", "orthanc", "postgres"):
        seen = places.MOUNTS[directory][1]
        read = set(re.findall(rf"{seen}/([A-Za-z0-9_.-]+[A-Za-z0-9])", said))
        put = {*places.SECRETS.get(directory, ()), *places.LAPTOP_SECRETS.get(directory, ())}
        put |= {name.partition("/")[2] for name in rendered if name.startswith(f"{directory}/")}
        # Read without being named: what Orthanc merges, and what a person uses who asks the database.
        assert put - read <= {"users.json", "orthanc.json", "superuser.pgpass"}, directory
        assert read <= put, directory
