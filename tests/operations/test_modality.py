"""`make modality`: what a vendor gets, from the outputs that the whole program really exports."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config_templates import render
from operations.__main__ import main
from operations.deployed import Deployed
from operations.modality import choose, commands, sheet
from operations.verify.exchange import made_object
from tests.operations.served import authority, leaf, serving
from tests.operations.stack import say
from tests.rendering.nginx_blocks import parse
from tests.rendering.scenarios import SCENARIOS
from tests.unit.recording import deploy
from tests.unit.test_settings import modality


@pytest.mark.usefixtures("outputs")
def test_the_bundle_is_written_for_its_reader_alone_and_the_key_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["modality", "CT1", "dev", "--certificate", "1"]) == 0
    folder = tmp_path / "bundles/dev/CT1-1"
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == dict.fromkeys(
        ("CT1.crt", "CT1.key", "authority.crt", "README.txt"), 0o600
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    key = (folder / "CT1.key").read_text()
    assert key.startswith("-----BEGIN PRIVATE KEY-----")
    said = capsys.readouterr()
    for text in (said.out, said.err, (folder / "README.txt").read_text()):
        assert not set(key.splitlines()) & set(text.splitlines())
        assert "PRIVATE KEY" not in text


@pytest.mark.usefixtures("outputs")
def test_the_newest_certificate_is_taken_and_the_older_ones_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["modality", "CT1", "dev"]) == 0
    said = capsys.readouterr().out
    assert "its older certificate 1 is let in too, until 20" in said
    assert "certificates: [2] in Pulumi.dev.yaml" in said
    assert "Also let in as CT1, until it is struck: certificate 1 (ends" in (tmp_path / "bundles/dev/CT1-2/README.txt").read_text()


@pytest.mark.usefixtures("outputs")
def test_a_modality_that_made_its_own_key_gets_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["modality", "CT1", "dev", "--certificate", "2", "--out", "here"]) == 0
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["CT1.crt", "README.txt", "authority.crt"]
    assert "the modality made its key itself" in capsys.readouterr().out
    assert "not here: the modality made this key itself" in (tmp_path / "here/README.txt").read_text()


def test_the_same_bundle_may_be_written_again_and_no_other_over_it(
    tmp_path: Path, outputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["modality", "CT1", "dev", "--certificate", "1", "--out", "here"]) == 0
    before = {p.name: p.read_text() for p in (tmp_path / "here").iterdir()}
    assert main(["modality", "CT1", "dev", "--certificate", "2", "--out", "here"]) == 2
    assert "the folder here holds another certificate of CT1. Give another one (OUT=...)" in capsys.readouterr().err
    outputs["modalities"]["MR7"] = {"1": {**outputs["modalities"]["CT1"]["1"], "certificate": leaf("mr7").certificate}}
    outputs["service"]["modalities"]["MR7"] = {"may": ["store"]}
    say(tmp_path, outputs)
    assert main(["modality", "MR7", "dev", "--out", "here"]) == 2
    assert "holds another bundle (CT1)" in capsys.readouterr().err
    assert {p.name: p.read_text() for p in (tmp_path / "here").iterdir()} == before


@pytest.mark.usefixtures("outputs")
def test_a_folder_of_another_use_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    (folder / "letter.txt").write_text("dear")
    assert main(["modality", "CT1", "dev", "--out", str(folder)]) == 2
    assert "holds something else (letter.txt)" in capsys.readouterr().err
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert main(["modality", "CT1", "dev", "--out", str(folder / "letter.txt")]) == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.usefixtures("outputs")
def test_an_unknown_modality_is_answered_with_those_that_are_enrolled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["modality", "ct1", "dev"]) == 2
    assert "no modality ct1 is enrolled in the stack dev. Enrolled (upper and lower case differ): CT1." in capsys.readouterr().err
    assert main(["modality", "CT1", "dev", "--certificate", "3"]) == 2
    assert "CT1 has no certificate 3 in the stack dev. In force: 1, 2." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("echo \"error: no stack named 'dev' found\" >&2; exit 255", "there is no stack dev where pulumi is logged in"),
        (
            "echo 'error: PULUMI_ACCESS_TOKEN must be set for login' >&2; exit 255",
            "pulumi is not logged in where the state lies. Log in: pulumi",
        ),
        ("echo 'error: passphrase must be set' >&2; exit 255", "pulumi can't read the stack dev: passphrase must be set"),
        ("echo '{}'", "nothing of it is deployed. Deploy it: make up STACK=dev"),
        ('echo \'{"url": "https://x/"}\'', "deployed by another version: make up STACK=dev"),
    ],
)
@pytest.mark.usefixtures("outputs")
def test_a_stack_that_can_not_be_read_says_why_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, complaint: str
) -> None:
    (tmp_path / "bin/pulumi").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n{program}\n')
    assert main(["modality", "CT1", "dev"]) == 2
    assert complaint in capsys.readouterr().err


def test_without_pulumi_on_path_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["modality", "CT1", "dev"]) == 2
    assert "pulumi is not on PATH" in capsys.readouterr().err


def test_what_is_wrong_with_outputs_is_said_without_the_key_in_them(
    tmp_path: Path, outputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del outputs["modalities"]["CT1"]["1"]["certificate"]
    say(tmp_path, outputs)
    assert main(["modality", "CT1", "dev"]) == 2
    said = capsys.readouterr().err
    assert "modalities.CT1.1.certificate: Field required" in said
    assert outputs["modalities"]["CT1"]["1"]["key"].splitlines()[1] not in said


# -- the sheet -------------------------------------------------------------------------------------------------------------


def receiving() -> str:
    """The sheet of a modality that has every right and an address, with the longest AE title."""
    title = "CT_1-MAIN.ROOM_7"
    stack = deploy(
        {
            "dicomCidrs": ["198.51.100.0/24"],
            "webCidrs": ["203.0.113.0/24"],
            "aet": "HOSPITAL",
            "dicomPort": 2762,
            "modalities": [modality(aet=title, may=["store", "find", "move", "get"], address="198.51.100.20", port=104)],
        }
    )
    found = Deployed.model_validate(json.loads(json.dumps(stack.outputs)))
    return sheet(choose("test", found, title, None))


def test_the_sheet_is_one_page_and_says_all_that_is_set_on_a_modality() -> None:
    text = receiving()
    lines = text.splitlines()
    assert len(lines) <= 60
    assert max(len(line) for line in lines if "+tls" not in line) <= 100
    assert "CT_1-MAIN.ROOM_7   (exactly so" in text
    assert "sent to it (C-MOVE) at 198.51.100.20 port 104" in text
    for fact in ("192.0.2.10", "2762", "HOSPITAL", "echo, store, find, move, get"):
        assert f"  {fact}\n" in text, fact


def test_the_sheet_says_the_tls_that_nginx_is_told() -> None:
    text = receiving()
    for service in SCENARIOS.values():
        stream = parse(render(service)["nginx/nginx.conf"]).one("stream")
        assert stream.value("ssl_protocols") == ("TLSv1.2", "TLSv1.3")
        (suites,) = stream.value("ssl_ciphers") or ()
        assert all(suite in text for suite in suites.split(":"))
    assert "1.2 and 1.3; nothing older" in text


@pytest.mark.parametrize(("may", "programs"), [((), "echoscu"), (("store",), "echoscu storescu"), (("find", "get"), "echoscu findscu")])
def test_the_sheet_tries_what_the_modality_may(may: tuple[str, ...], programs: str) -> None:
    assert " ".join(command.split()[0] for command in handed_over(may, "127.0.0.1", 11112)) == programs


def handed_over(may: tuple[str, ...], host: str, port: int) -> list[str]:
    pair = leaf("ct1.modality.orthanc")
    found = Deployed.model_validate(
        {
            "service": {
                "host": host,
                "aet": "ORTHANC",
                "dicomPort": port,
                "webPort": 443,
                "admins": ["admin"],
                "modalities": {"CT1": {"may": may}},
            },
            "authority": authority().certificate,
            "passwords": {},
            "modalities": {"CT1": {"1": {"certificate": pair.certificate, "authority": authority().certificate, "key": pair.key}}},
        }
    )
    return list(commands(choose("dev", found, "CT1", None)))


@pytest.mark.skipif(shutil.which("echoscu") is None, reason="dcmtk is not installed ('make test' installs it)")
def test_dcmtk_understands_the_commands_of_the_sheet(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.target()  # writes CT1's bundle
        image = str(tmp_path / "image.dcm")
        made_object(datetime.now(UTC)).save_as(image, enforce_file_format=True)
        for command in handed_over(("store", "find"), "127.0.0.1", served.dicom_port):
            words = [image if word == "IMAGE.dcm" else word for word in command.split()]
            done = subprocess.run(words, cwd=tmp_path / "CT1", capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert len(served.held) == 1
        plain = subprocess.run(["echoscu", "-aet", "CT1", *words[-2:]], capture_output=True, timeout=30, check=False)
        assert plain.returncode != 0, "without TLS it must not work, or the test proves nothing"
