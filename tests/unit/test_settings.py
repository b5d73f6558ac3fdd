"""Settings: what is refused, how it is said, and that Pulumi.yaml, the stacks' files and the class say the same."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_core import to_jsonable_python

from config_templates import Database
from infra.database import max_connections
from infra.settings import DATABASE_CLASSES, FIELDS, MACHINES, Settings, SettingsError
from tests.unit.recording import LEAST, ROOT, request, web_certificate


def load(**changes: object) -> Settings:
    given = {**LEAST, **changes}
    encrypted = ["orthanc:webCertificateKey"]
    return Settings.load({f"orthanc:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in given.items()}, encrypted)


def complaint(**changes: object) -> str:
    with pytest.raises(SettingsError) as error:
        load(**changes)
    return str(error.value)


def modality(**changes: object) -> Mapping[str, object]:
    return {"aet": "CT1", "may": ["store"], **changes}


def test_two_networks_are_all_that_a_stack_must_say() -> None:
    settings = load()
    assert settings.machine.architecture == "arm64"
    assert settings.keep


def test_nothing_said_names_both_ports_and_how_to_set_them() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.load({})
    said = str(error.value)
    for key in ("dicomCidrs", "webCidrs"):
        assert f"orthanc:{key}: is required" in said
        assert f"pulumi config set --path 'orthanc:{key}[0]'" in said


def test_every_problem_is_reported_at_once_also_across_fields() -> None:
    said = complaint(
        zones=["a"],
        instanceType="t2.nano",
        databaseLimitGb="30",
        databaseStorageGb="25",
        webPort="11112",
        aet="TOO_LONG_FOR_DICOM",
        frobnicate="1",
    )
    for key in ("zones", "instanceType", "databaseLimitGb", "webPort", "aet", "frobnicate"):
        assert f"orthanc:{key}" in said, key
    assert said.count("remedy: pulumi config") == 5
    assert "remedy: mend orthanc:zones in the stack's file" in said


def test_the_remedy_names_the_network_that_is_wrong() -> None:
    assert "pulumi config set --path 'orthanc:dicomCidrs[1]'" in complaint(dicomCidrs=["198.51.100.0/24", "198.51.100.1/24"])


def test_what_is_kept_as_a_secret_or_has_no_name_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.load({"orthanc:alarmEmail": "hunter2"}, {"orthanc:alarmEmail"})
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in complaint(users=[{"name": "admin", "role": "admin", "password": "hunter2"}])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dicomCidrs": ["0.0.0.0/0"]}, "openToTheWorld true"),
        ({"dicomCidrs": ["0.0.0.0/1", "128.0.0.0/1"]}, "openToTheWorld true"),
        ({"webCidrs": ["10.0.0.1/8"]}, "not a valid IPv4 network"),
        ({"vpcCidr": "172.17.0.0/16"}, "Docker"),
        ({"vpcCidr": "192.168.8.0/22"}, "Docker"),
        ({"vpcCidr": "8.8.0.0/20"}, "private"),
        ({"vpcCidr": "10.0.0.0/8"}, "/16"),
        ({"zones": ["a", "a"]}, "twice"),
        ({"zones": ["a", "1"]}, "zone"),
        ({"zones": "a, b"}, "is no list"),
        ({"databaseClass": "db.m1.small"}, "db.t4g.micro"),
        ({"logDays": "31"}, "retention"),
        ({"backupDays": "0"}, "greater than or equal to 1"),
        ({"orthancImage": "orthancteam/orthanc:latest"}, "digest"),
        ({"composeUrl": "http://example.org/x"}, "https"),
        ({"domainName": "No Name"}, "DNS name"),
        ({"alarmEmail": "nobody"}, "e-mail"),
        ({"users": [{"name": "eve", "role": "reader"}]}, "no admin"),
        ({"users": [{"name": "probe", "role": "admin"}]}, "health check"),
        ({"modalities": [modality(aet="ORTHANC")]}, "server's own"),
        ({"modalities": [modality(), modality(aet="ct1")]}, "twice"),
        ({"modalities": [modality(may=["stor"])]}, "store"),
        ({"modalities": [modality(address="192.0.2.1")]}, "address' and 'port"),
        ({"modalities": [modality(address="ct1.example.org", port=104)]}, "IPv4"),
        ({"modalities": [modality(address="10.60.0.9", port=104)]}, "inside the VPC"),
        ({"modalities": [modality(certificates=[1, 1])]}, "twice"),
        ({"modalities": [modality(requests={"2": "x"})]}, "no certificate 2"),
        ({"modalities": [modality(requests={"1": "no request"})]}, "certificate request"),
        ({"modalities": [modality(requests={"1": request("orthanc.example.org")})]}, "ct1.modality.orthanc and no other"),
        ({"webCertificate": "x"}, "webCertificateKey"),
    ],
)
def test_refused(changes: dict[str, object], why: str) -> None:
    said = complaint(**changes)
    assert why in said
    assert said.count("remedy:") == 1, said


def test_the_whole_internet_must_be_said_twice() -> None:
    assert load(dicomCidrs=["0.0.0.0/0"], openToTheWorld="true").open_to_the_world


def test_a_modality_may_bring_its_own_request() -> None:
    settings = load(modalities=[modality(certificates=[1, 2], requests={"2": request("ct1.modality.orthanc")})])
    assert list(settings.modalities[0].requests) == [2]


def test_the_request_that_a_page_makes_is_taken(tmp_path: Path) -> None:
    (command,) = re.findall(r"(?m)^`(openssl req .*)`$", (ROOT / "docs/aws.md").read_text(encoding="utf-8"))
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    made = (tmp_path / "mr7.csr").read_text()
    assert load(modalities=[modality(aet="MR7", requests={"1": made})]).modalities[0].requests == {1: made}
    assert "and no other" in complaint(modalities=[modality(aet="MR8", requests={"1": made})])


def test_an_own_web_certificate_is_checked_and_its_key_never_shown() -> None:
    pair, long = web_certificate(), web_certificate(800)

    def own(certificate: str, key: str, domain: str = "pacs.example.org") -> dict[str, Any]:
        return {"webCertificate": certificate, "webCertificateKey": key, "domainName": domain}

    assert load(**own(pair.certificate, pair.key)).web_certificate == pair.certificate
    assert "does not belong" in complaint(**own(pair.certificate, long.key))
    assert "longer than 398 days" in complaint(**own(long.certificate, long.key))
    assert "does not carry domainName" in complaint(**own(pair.certificate, pair.key, "other.example.org"))
    said = complaint(**own(pair.certificate, pair.key, "other.example.org"), webPort="0", zones=["a"])
    assert pair.key.splitlines()[1] not in said


def test_a_secret_in_plain_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.load({"orthanc:webCertificateKey": "hunter2", "orthanc:dicomCidrs": "[]"}, [])
    assert "in plain" in str(error.value)
    assert "--secret" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_pulumi_yaml_and_the_class_say_the_same() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["config"]
    defaults = Settings.model_construct().model_dump(by_alias=True)
    assert list(declared) == list(FIELDS)
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array"}
    for key, declaration in declared.items():
        default = "" if key == "webCertificateKey" else to_jsonable_python(defaults[key])
        assert declaration["default"] == default, key
        assert declaration["type"] == kinds[type(default)], key
        assert declaration["description"] == Settings.model_fields[FIELDS[key]].description, key


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_stacks_files_say_what_settings_knows(stack: str) -> None:
    said = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    settings = Settings.load({k: v if isinstance(v, str) else json.dumps(v) for k, v in said.items()})
    assert settings.keep == settings.multi_az == settings.flow_logs == settings.dashboard == (stack == "prod")


@pytest.mark.parametrize("name", MACHINES)
def test_each_instance_type_is_of_its_architecture_and_has_room(name: str) -> None:
    family = name.partition(".")[0]
    assert MACHINES[name].architecture == ("arm64" if "g" in family[1:] else "x86_64")
    assert MACHINES[name].memory_mb >= 2048


@pytest.mark.parametrize("name", DATABASE_CLASSES)
def test_each_database_class_bears_the_pools_of_two_orthancs(name: str) -> None:
    pool = Database(host="db").index_connections + 1
    reserved = 10  # superuser_reserved_connections (3), reserved_connections, and what RDS itself holds
    assert 2 * pool + reserved <= 0.8 * max_connections(name)
