"""What stands nowhere: secrets in anything that can be looked at, patients in logs."""

from __future__ import annotations

import io
import json
import shutil
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from config_templates import places, render
from laptop import study
from laptop.docker import container_id, docker
from laptop.site import container_accounts
from laptop.tell import Trouble
from tests.service.stack import SERVICES, Stack


def secrets_of(stack: Stack) -> dict[str, str]:
    """Every password, and from each private key a line that no other file has."""
    found = {}
    for path in sorted((stack.home / "keys").iterdir()):
        if path.suffix == ".password":
            found[path.name] = path.read_text()
        if path.suffix == ".key":
            found[path.name] = path.read_text().splitlines()[3]
    assert len(found) > 12
    return found


def findings(stack: Stack, where: str, text: str) -> list[str]:
    return [f"{name} in {where}" for name, secret in secrets_of(stack).items() if secret in text]


def test_no_secret_in_what_docker_tells_of_containers_and_images(stack: Stack) -> None:
    for service in SERVICES:
        told = docker("inspect", container_id(stack.home, service))
        assert findings(stack, f"docker inspect of {service}", told) == []
        image = json.loads(told)[0]["Image"]
        assert findings(stack, f"the image of {service}", docker("image", "inspect", image) + docker("history", "--no-trunc", image)) == []
        assert json.loads(told)[0]["HostConfig"]["ReadonlyRootfs"] is True, "so nothing can have been written into its layer"


def test_no_secret_in_any_process_s_environment_or_arguments(stack: Stack) -> None:
    script = 'for p in /proc/[0-9]*; do cat "$p/environ" "$p/cmdline" 2>/dev/null | tr "\\0" "\\n"; done'
    own = {"orthanc": "Orthanc\n/tmp/orthanc.json", "nginx": "nginx: worker process", "postgres": "config_file=/etc/database"}
    for service in SERVICES:
        told = stack.exec(service, "sh", "-c", script)
        assert own[service] in told, "the service's own processes are among those that were read"
        assert findings(stack, f"processes of {service}", told) == []


def test_no_secret_in_the_logs(stack: Stack) -> None:
    for service in SERVICES:
        assert findings(stack, f"log of {service}", stack.log(service)) == []


def test_no_secret_in_rendered_files(stack: Stack) -> None:
    rendered = render(stack.site.service(stack.images))
    assert {name: findings(stack, name, text) for name, text in rendered.items()} == {name: [] for name in rendered}
    assert findings(stack, "site.json", (stack.home / "site.json").read_text()) == []


def test_every_file_that_a_container_mounts_is_readable_by_its_one_user_alone(stack: Stack) -> None:
    accounts = container_accounts()
    for directory, (container, _) in places.MOUNTS.items():
        folder = stack.home / "run" / directory
        for path in (folder, *folder.iterdir()):
            facts = path.stat()
            assert stat.S_IMODE(facts.st_mode) in ({0o500, 0o700} if path == folder else {0o400}), path
            assert facts.st_uid == accounts[container].uid, path


def test_keys_and_bundles_are_readable_by_their_owner_alone(stack: Stack) -> None:
    stack.peer("CT1")
    for folder in (stack.home / "keys", stack.home / "modalities"):
        for path in (folder, *folder.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_container_can_write_to_nothing_but_its_tmpfs_scratch_and_volume(stack: Stack) -> None:
    script = (
        "for d in / /etc /usr /var /etc/probe /etc/gateway /etc/orthanc /etc/database; do touch $d/x 2>/dev/null && echo $d; done; true"
    )
    for service in SERVICES:
        assert stack.exec(service, "sh", "-c", script) == ""


def test_containers_have_no_capability_and_no_root(stack: Stack) -> None:
    for service in SERVICES:
        status = stack.exec(service, "sh", "-c", "cat /proc/self/status")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert {facts["CapEff"], facts["CapPrm"], facts["CapBnd"]} == {"0000000000000000"}
        assert facts["NoNewPrivs"] == "1"
        assert facts["Uid"].split()[0] != "0"


def test_the_merged_configuration_with_its_passwords_lies_in_memory_only(stack: Stack) -> None:
    assert "tmpfs" in stack.exec("orthanc", "sh", "-c", "grep ' /tmp ' /proc/mounts")
    assert "RegisteredUsers" in stack.exec("orthanc", "cat", "/tmp/orthanc.json")


NAME, IDENTIFIER, BIRTH = "Zugspitze^Marlene", "PID-7391-ZQ", "19370814"


@pytest.fixture(scope="module")
def after_good_and_bad_requests(stack: Stack) -> Stack:
    """Requests of every kind that carry a patient's name, identifier and birth date, good ones and failing ones."""
    patient = next(study.series(slices=1, seed="log", patient=NAME))
    patient.PatientID, patient.PatientBirthDate = IDENTIFIER, BIRTH
    peer = stack.peer("CT1")
    peer.store([patient])
    peer.find_studies(PatientName=NAME, PatientID=IDENTIFIER, PatientBirthDate=BIRTH)
    with pytest.raises(Trouble, match="C-FIND"):
        stack.peer("ONLYSTORE").find_studies(PatientName=NAME, PatientID=IDENTIFIER, PatientBirthDate=BIRTH)

    bad = Dataset()
    bad.QueryRetrieveLevel = "NONSENSE"
    bad.PatientName, bad.PatientID, bad.PatientBirthDate = NAME, IDENTIFIER, BIRTH
    with peer.association() as association:
        list(association.send_c_find(bad, StudyRootQueryRetrieveInformationModelFind))
    nowhere = Dataset()
    nowhere.QueryRetrieveLevel = "STUDY"
    nowhere.PatientID, nowhere.StudyInstanceUID = IDENTIFIER, patient.StudyInstanceUID
    for destination in ("NOBODY", "WS1"):  # unknown, and one that does not listen now
        with peer.association() as association:
            list(association.send_c_move(nowhere, destination, StudyRootQueryRetrieveInformationModelMove))
    broken = next(study.series(slices=1, seed="broken", patient=NAME))
    broken.PatientID, broken.PatientBirthDate = IDENTIFIER, BIRTH
    del broken.SOPInstanceUID
    buffer = io.BytesIO()
    broken.save_as(buffer, enforce_file_format=False)

    query = f"PatientName={NAME.replace('^', '%5E')}&PatientID={IDENTIFIER}&PatientBirthDate={BIRTH}"
    raw_query = f"PatientName={NAME}&PatientID={IDENTIFIER}&00100030={BIRTH}"
    for question in (query, raw_query, f"limit=x&{query}", f"includefield=9999&{query}"):
        for user, password in (("admin", None), ("reader", None), ("admin", "wrong"), (None, None)):
            for path in ("/dicom-web/studies", "/dicom-web/nothing", "/nothing", "/dicom-web/studies/1.2.3/series"):
                stack.web(f"{path}?{question}", user=user, password=password)
    find = json.dumps({"Level": "Study", "Query": {"PatientName": NAME, "PatientID": IDENTIFIER, "PatientBirthDate": BIRTH}})
    for body in (find, find.replace("Study", "Nonsense"), find[:-4], NAME + IDENTIFIER + BIRTH):
        stack.web("/tools/find", method="POST", body=body)
        stack.web("/tools/lookup", method="POST", body=IDENTIFIER)
        stack.web("/modalities/NOBODY/query", method="POST", body=body)
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=edge'}
    for content in (buffer.getvalue(), NAME.encode() + IDENTIFIER.encode() + BIRTH.encode()):
        stack.web("/instances", method="POST", body=content)
        edge = b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--edge--\r\n"
        stack.web("/dicom-web/studies", method="POST", body=edge, headers=kind)
    stack.web("/instances", method="POST", body=b"", headers={"Referer": f"https://x/?{query}", "User-Agent": NAME})
    # Statements that fail, as Orthanc's could: in themselves, and because a row is there already.
    insert = f"INSERT INTO t VALUES ('{NAME}');"  # noqa: S608 - our own words
    for statement in (f"SELECT 1/0 WHERE '{NAME}' <> '{IDENTIFIER}{BIRTH}'", f"CREATE TEMP TABLE t (x text UNIQUE); {insert} {insert}"):
        with pytest.raises(Trouble):
            stack.sql(statement)
    identifier = stack.stored(patient.SOPInstanceUID)
    stack.web(
        f"/instances/{identifier}/modify", method="POST", body=json.dumps({"Replace": {"PatientName": NAME, "StudyDate": BIRTH * 40}})
    )
    return stack


@pytest.mark.filterwarnings("ignore:Invalid value for VR LO")
def test_a_patient_s_identifier_cannot_forge_a_line_of_the_log(stack: Stack) -> None:
    image = next(study.series(slices=1, seed="forge"))
    image.PatientID = "X\nE1124 forged"
    del image.StudyInstanceUID
    before = stack.log("orthanc")
    with pytest.raises(Trouble, match="was not stored"):
        stack.peer("CT1").store([image])
    new = stack.log("orthanc")[len(before) :]
    assert "PatientID=(withheld)" in new
    assert "forged" not in new


def test_orthanc_tells_that_an_image_lacked_a_tag_but_not_whose_it_was(after_good_and_bad_requests: Stack) -> None:
    assert "are missing for the following instance: PatientID=(withheld)" in after_good_and_bad_requests.log("orthanc")


@pytest.mark.parametrize("service", SERVICES)
def test_no_patient_in_any_log(after_good_and_bad_requests: Stack, service: str) -> None:
    log = after_good_and_bad_requests.log(service)
    words = (*NAME.split("^"), IDENTIFIER, BIRTH)
    assert [line for line in log.splitlines() if any(word.lower() in line.lower() for word in words)] == []


def test_the_gateways_log_tells_who_did_what(after_good_and_bad_requests: Stack) -> None:
    lines = after_good_and_bad_requests.log("nginx").splitlines()
    entries = [json.loads(line[line.index("{") :]) for line in lines if '{"time":' in line]
    web = [e for e in entries if e["what"] == "web" and e["path"] == "/dicom-web/studies" and e["user"] == "reader"]
    assert {e["method"] for e in web} == {"GET"}
    assert {200} <= {e["status"] for e in web}
    assert all(e["protocol"] == "TLSv1.3" and e["cipher"] and e["bytes_in"] > 0 and e["bytes_out"] > 0 for e in web)
    dicom = [e for e in entries if e["what"] == "dicom-in" and e["calling"] == "CT1" and e["called"] == "ORTHANC" and e["upstream"]]
    assert max(entry["bytes_in"] for entry in dicom) > 500_000, "an image was among them"
    for entry in dicom:
        assert entry["subject"] == "CN=modality-CT1-1"
        assert len(entry["fingerprint"]) == 40
        assert entry["called"] == "ORTHANC"
        assert entry["protocol"] in ("TLSv1.2", "TLSv1.3")
        assert entry["cipher"]


def test_no_container_reaches_the_cloud_s_metadata_address(stack: Stack) -> None:
    """The address is on this machine for the time of the test, and answers everybody but the containers."""

    def address(action: str) -> int:
        return subprocess.run(["ip", "address", action, "169.254.169.254/32", "dev", "lo"], capture_output=True, check=False).returncode

    if shutil.which("ip") is None or address("add") != 0:
        pytest.skip("only root with iproute2 can give the loopback interface another address, which must not be there yet")
    try:
        with HTTPServer(("169.254.169.254", 0), BaseHTTPRequestHandler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            ask = f"timeout 4 bash -c 'exec 3<>/dev/tcp/169.254.169.254/{server.server_port}' 2>/dev/null && echo reached || echo not"
            try:
                control = docker("run", "--rm", "--entrypoint", "bash", stack.images.nginx, "-c", ask)
                assert control.strip() == "reached", "the test must be able to tell"
                for service in SERVICES:
                    assert stack.exec(service, "bash", "-c", ask).strip() == "not"
            finally:
                server.shutdown()
    finally:
        address("del")


def test_the_run_folder_holds_exactly_what_is_listed(stack: Stack) -> None:
    listed = {f"{folder}/{name}" for table in (places.SECRETS, places.LAPTOP_SECRETS) for folder, names in table.items() for name in names}
    rendered = set(stack.site.files(stack.images)) - set(stack.site.secret_files()) - {"compose.yaml"}
    lying = {str(path.relative_to(stack.home / "run")) for path in Path(stack.home / "run").rglob("*") if path.is_file()}
    assert lying == listed | rendered
