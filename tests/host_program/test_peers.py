"""What the agent says on the wire, read by programs that know the protocols; and what it makes of host.json."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from orthanc_host import configuration, dicom
from orthanc_host.configuration import ConfigurationError, merged, validated
from orthanc_host.files import revocable, without_revoked
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF

from infra.release import agent as shipped_agent
from infra.release import containers
from infra.settings import HOST_USER, PROBE_AET
from tests.host_program.pretended import HOST, SHIPPED


def test_the_association_request_is_one_to_pynetdicom() -> None:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(dicom.association_request("PROBE", "ORTHANC"))
    assert (pdu.calling_ae_title.strip(), pdu.called_ae_title.strip()) == ("PROBE", "ORTHANC")
    (context,) = pdu.presentation_context
    assert context.abstract_syntax == dicom.VERIFICATION
    assert context.transfer_syntax == [dicom.IMPLICIT_LITTLE_ENDIAN]


def test_the_echo_request_is_one_to_pynetdicom() -> None:
    pdu = P_DATA_TF()
    pdu.decode(dicom.echo_request())
    (value,) = pdu.presentation_data_value_items
    fragment = value.presentation_data_value or b""
    command = decode(BytesIO(fragment[1:]), is_implicit_vr=True, is_little_endian=True)
    assert (command.CommandField, command.AffectedSOPClassUID, command.CommandDataSetType) == (0x0030, dicom.VERIFICATION, 0x0101)
    assert command.CommandGroupLength == len(fragment) - 1 - 12


def test_the_probe_is_who_the_program_enrols() -> None:
    assert (configuration.PROBE_AET, configuration.PROBE_USER) == (PROBE_AET, HOST_USER)


def test_what_the_program_says_is_what_the_agent_reads() -> None:
    found = validated(merged({**HOST, **containers()}))
    assert found.run_dir == "/run/orthanc"
    assert set(found.directories) == {"orthanc", "probe", "nginx", "agent"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"region": ""}, "region"),
        ({"dicom_port": "11112"}, "dicom_port"),
        ({"dicom_port": True}, "dicom_port"),
        ({"database": {}}, "database.host"),
        ({"address": None}, "address"),
        ({"directories": {"nginx": [0]}}, "directories.nginx"),
        ({"files": {"elsewhere/x": {"secret": "a", "version": "1", "field": "x"}}}, "files[elsewhere/x]"),
        ({"files": {"nginx/x": "?"}}, "files[nginx/x].secret"),
        ({"expires": {"server": "tomorrow"}}, "expires.server"),
        ({"expires": {"server": "2027-01-01T00:00:00"}}, "expires.server"),
    ],
)
def test_bad_configuration_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named.replace("[", r"\[")):
        validated(merged({**HOST, **wrong}))


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        validated({})
    assert len(str(caught.value).splitlines()) > 10


def test_a_revoked_modality_loses_its_lines_and_no_other() -> None:
    conf = 'map {\n        0123456789012345678901234567890123456789 "CT1";\n        1123456789012345678901234567890123456789 "CT10";\n}\n'
    assert revocable(conf) == ["CT1", "CT10"]
    left = without_revoked({"nginx/nginx.conf": conf}, {"CT1"})["nginx/nginx.conf"]
    assert revocable(left) == ["CT10"]
    assert left.startswith("map {")
    assert SHIPPED["nginx/nginx.conf"] == without_revoked(SHIPPED, ())["nginx/nginx.conf"]


def test_it_needs_no_newer_python_than_amazon_linux_has() -> None:
    """Vermin knows since when each word of the language and its library exists; annotations are never evaluated."""
    places = [str(Path(__file__).parents[2] / "bootstrap" / name) for name in ("orthanc_host", "puller.py")]
    command = [str(Path(sys.executable).parent / "vermin"), "--target=3.9-", "--no-tips", "--no-eval-annotations", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_release_carries_the_whole_agent() -> None:
    carried = shipped_agent()
    assert "orthanc_host/__main__.py" in carried
    assert json.dumps(sorted(carried)).count("orthanc_host/") == len(
        list((Path(__file__).parents[2] / "bootstrap/orthanc_host").glob("*.py"))
    )
