"""The services that every fact is checked on: one for each kind of host, and the extremes of how many modalities there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
import yaml

from config_templates import (
    Account,
    CloudWatchLogs,
    Container,
    Database,
    Limits,
    Modality,
    RotatedFiles,
    Service,
    User,
    pins,
    places,
    render,
)

_OWN = Account(uid=1000, gid=1000)  # whoever ran it on a laptop


def fingerprint(number: int) -> str:
    return f"{number:040x}"


_LAPTOP = Service(
    project="imaging",
    orthanc=Container(image=pins.ORTHANC_IMAGE, account=_OWN, memory_mb=2048),
    nginx=Container(image=pins.NGINX_IMAGE, account=_OWN, memory_mb=320),
    postgres=Container(image=pins.POSTGRES_IMAGE, account=_OWN, memory_mb=1024),
    run_dir="/home/ada/my imaging/run",
    scratch_dir="/home/ada/my imaging/scratch",
    web_port=8443,
    database=Database(host=places.DATABASE_HOST),
    users=(User(name="admin", role="admin"),),
    modalities=(
        Modality(
            aet="DEMO",
            may=("store", "find", "move", "get"),
            certificates=(fingerprint(1),),
            address="host.docker.internal",
            port=11113,
        ),
    ),
    logs=RotatedFiles(),
)

_AWS = Service(
    aet="HOSPITAL",
    orthanc=Container(image=pins.ORTHANC_IMAGE, account=Account(uid=999, gid=999), memory_mb=5632),
    nginx=Container(image=pins.NGINX_IMAGE, account=Account(uid=101, gid=101), memory_mb=512),
    run_dir="/run/orthanc-service",
    scratch_dir="/var/lib/orthanc/scratch",
    database=Database(host="orthanc.c9akciq32xyz.eu-central-1.rds.amazonaws.com"),
    users=(User(name="root.ops", role="admin"), User(name="ward-3", role="reader")),
    modalities=(Modality(aet="CT1", may=("store",), certificates=(fingerprint(0xC1),)),),
    logs=CloudWatchLogs(region="eu-central-1", group="/orthanc/production#1"),
)

# Images by local id (a laptop without a registry), and whatever may vary among modalities and limits.
_MANY = Service(
    project="many_2-b",
    aet="PACS.Main_1",
    orthanc=Container(image=f"sha256:{1:064x}", account=Account(uid=999, gid=999), memory_mb=2048),
    nginx=Container(image=f"sha256:{2:064x}", account=Account(uid=101, gid=101), memory_mb=320),
    postgres=Container(image=f"sha256:{3:064x}", account=Account(uid=998, gid=998), memory_mb=1024),
    run_dir="/srv/imaging/run",
    scratch_dir="/srv/imaging/scratch",
    dicom_port=2762,
    web_port=443,
    database=Database(host=places.DATABASE_HOST, port=5433, name="images", user="keeper", index_connections=5),
    users=(
        User(name="ada", role="admin"),
        User(name="ben", role="admin"),
        User(name="c.reader-1_x", role="reader"),
        User(name="d", role="reader"),
    ),
    modalities=(
        Modality(aet="CT_OLD-NEW", may=("store", "worklist"), certificates=(fingerprint(0xC01D), fingerprint(0xC1EA))),
        Modality(
            aet="Viewer.IPv4",
            may=("store", "find", "move", "get", "worklist"),
            certificates=(fingerprint(0x4),),
            address="192.0.2.17",
            port=104,
        ),
        Modality(aet="VIEWER6", may=("find", "move"), certificates=(fingerprint(0x6),), address="2001:DB8::17", port=11112),
        Modality(aet="ARCHIVE", may=("get",), certificates=(fingerprint(0xD),), address="archive.example.org", port=65535),
        Modality(aet="4711", may=(), certificates=(fingerprint(0x4711),)),
    ),
    logs=RotatedFiles(file_mb=3, files=2),
    limits=Limits(
        connections_per_address=7,
        associations_per_modality=3,
        handshake_seconds=5,
        old_worker_seconds=61,
        idle_association_seconds=120,
        dicom_threads=16,
    ),
)

_NONE = Service(
    orthanc=Container(image=pins.ORTHANC_IMAGE, account=Account(uid=999, gid=999), memory_mb=2048),
    nginx=Container(image=pins.NGINX_IMAGE, account=Account(uid=101, gid=101), memory_mb=320),
    run_dir="/run/orthanc-service",
    scratch_dir="/var/lib/orthanc/scratch",
    database=Database(host="192.0.2.5"),
    users=(User(name="admin", role="admin"),),
    logs=RotatedFiles(),
)

SCENARIOS: Final[Mapping[str, Service]] = {"laptop": _LAPTOP, "aws": _AWS, "many": _MANY, "none": _NONE}

every_scenario = pytest.mark.parametrize("service", SCENARIOS.values(), ids=SCENARIOS.keys())


def given(service: Service, **changes: object) -> Service:
    """`service` with other values, validated anew (model_copy would not)."""
    values = {name: getattr(service, name) for name in type(service).model_fields}
    return Service(**{**values, **changes})


# -- rendered files, read back --------------------------------------------------------------------------------------------

Json = dict[str, Any]


def compose_of(service: Service) -> Json:
    parsed: Json = yaml.safe_load(render(service)["compose.yaml"])
    return parsed


def containers_of(service: Service) -> Mapping[str, Json]:
    containers: Mapping[str, Json] = compose_of(service)["services"]
    return containers


def orthanc_of(service: Service) -> Json:
    parsed: Json = json.loads(render(service)["orthanc/orthanc.json"])
    return parsed


def modalities_of(service: Service) -> Mapping[str, Json]:
    parsed: Mapping[str, Json] = json.loads(render(service)["probe/modalities.json"])
    return parsed
