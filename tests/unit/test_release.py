from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.mocks import MockResourceArgs

from config_templates import Account, CloudWatchLogs, Container, Database, Modality, Service, User, places
from config_templates.model import fingerprint
from infra import release
from infra.release import facts_from, pack, rendered
from infra.stack import Stack
from tests.unit.recording import LEAST, REGION, ROOT, Recorder, certificate, deploy
from tests.unit.test_settings import load, modality
from tests.unit.test_stack import deployed, released

STACK = Stack(name="test", region=REGION, keep=False)
FILES = st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True), st.text(max_size=200), max_size=8)


@given(FILES)
def test_an_archive_holds_what_it_was_given_and_nothing_of_the_moment(files: dict[str, str]) -> None:
    archive = pack(files)
    assert archive == pack(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entries = {entry.name: entry for entry in tar}
        assert sorted(entries) == sorted(files)
        for name, text in files.items():
            content = tar.extractfile(name)
            assert content is not None
            assert content.read().decode() == text
            assert (entries[name].mtime, entries[name].uid, entries[name].uname, entries[name].mode) == (0, 0, "", 0o644)


def test_a_preview_shows_a_new_modality_though_its_certificate_is_not_made_yet() -> None:
    settings = load(modalities=[modality(), modality(aet="MR7", may=["store", "find"])])
    pem = certificate("CT1").certificate
    files = rendered(settings, STACK, {"database": "db.example", "modalities": {"CT1": {"1": pem}}})
    assert '"MR7"' in files["nginx/nginx.conf"]
    assert '"MR7"' in files["probe/modalities.json"]
    assert "db.example" in files["orthanc/orthanc.json"]
    assert facts_from(settings, {}).modality_certificates["CT1"][1] != facts_from(settings, {}).modality_certificates["MR7"][1]


def test_containers_get_what_the_system_leaves_them() -> None:
    service = release.service(load(), STACK, facts_from(load(), {}))
    assert service.orthanc.memory_mb + service.nginx.memory_mb + release.SYSTEM_MB == 2048
    assert service.orthanc.memory_mb >= 1024
    assert service.nginx.memory_mb >= 320  # what tests/rendering holds nginx.conf to


def test_run_directories_have_one_way_to_be_written() -> None:
    assert {path.split("/")[0] for path in rendered(load(), STACK, {}) if "/" in path} <= set(places.MOUNTS)


def test_a_host_runs_the_service_that_the_stack_says_with_the_certificates_that_are_in_force() -> None:
    digest = "a" * 64
    settings = load(
        aet="HOSPITAL",
        dicomPort="2762",
        webPort="8443",
        instanceType="t3.medium",
        orthancImage=f"o@sha256:{digest}",
        nginxImage=f"n@sha256:{digest}",
        users=[{"name": "ada", "role": "admin"}, {"name": "ben", "role": "reader"}],
        modalities=[modality(certificates=[1, 3], address="198.51.100.1", port=104), modality(aet="MR7", may=[])],
    )
    pems = {name: certificate(name).certificate for name in ("host", "one", "three")}
    known = {"database": "db.example", "modalities": {"PROBE": {"1": pems["host"]}, "CT1": {"1": pems["one"], "3": pems["three"]}}}
    facts = facts_from(settings, known)
    (unknown,) = facts.modality_certificates["MR7"].values()
    assert unknown.startswith("0" * 32)  # nobody takes it for a real one
    assert release.service(settings, STACK, facts) == Service(
        project="orthanc-test",
        aet="HOSPITAL",
        orthanc=Container(image=f"o@sha256:{digest}", account=Account(uid=999, gid=999), memory_mb=4096 - 320 - 640),
        nginx=Container(image=f"n@sha256:{digest}", account=Account(uid=101, gid=101), memory_mb=320),
        run_dir="/run/orthanc",
        scratch_dir="/var/lib/orthanc/scratch",
        dicom_port=2762,
        web_port=8443,
        database=Database(host="db.example", port=5432, name="orthanc", user="orthanc"),
        users=(User(name="ada", role="admin"), User(name="ben", role="reader"), User(name="host", role="reader")),
        modalities=(
            Modality(aet="PROBE", may=(), certificates=(fingerprint(pems["host"]),)),
            Modality(
                aet="CT1",
                may=("store",),
                certificates=(fingerprint(pems["one"]), fingerprint(pems["three"])),
                address="198.51.100.1",
                port=104,
            ),
            Modality(aet="MR7", may=(), certificates=(unknown,)),
        ),
        logs=CloudWatchLogs(region=REGION, group="/orthanc/test/containers"),
    )


def test_what_a_preview_does_not_know_is_replaced_by_what_nobody_takes_for_real() -> None:
    settings = load(modalities=[modality()])
    for known in ({}, {"database": None, "modalities": None}, {"modalities": {"CT1": None}}, {"modalities": {"CT1": {"1": None}}}):
        facts = facts_from(settings, known)
        assert facts.database_host.endswith(".invalid")
        assert {aet: list(numbers) for aet, numbers in facts.modality_certificates.items()} == {"PROBE": [1], "CT1": [1]}


def test_a_preview_shows_the_files_though_the_database_has_no_address_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Recorder._answer

    def without_address(args: MockResourceArgs) -> Mapping[str, object]:
        return {key: value for key, value in answer(args).items() if key != "address"}

    monkeypatch.setattr(Recorder, "_answer", staticmethod(without_address))
    shown = deploy({**LEAST, "modalities": [modality()]}, preview=True).one("orthanc:infra:ConfigRelease")["files"]
    assert "@database.not-known-yet.invalid:5432/" in shown["orthanc/orthanc.json"]
    assert '"CT1"' in shown["nginx/nginx.conf"]


def test_an_archive_brings_the_program_that_the_host_shall_run() -> None:
    files = released(deployed("dev"))
    program = sorted((ROOT / "bootstrap/orthanc_host").glob("*.py"))
    assert program
    assert {f"orthanc_host/{path.name}": path.read_text(encoding="utf-8") for path in program}.items() <= files.items()


def test_an_archive_carries_no_time() -> None:
    assert pack({"a": "b"})[4:8] == bytes(4)  # RFC 1952: MTIME
