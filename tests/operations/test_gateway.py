"""`make gateway`: the folder for a site's computer, from the outputs that the whole program really exports."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config_templates import pins
from config_templates.gateway import CERTIFICATES, KEY, render_gateway
from config_templates.model import fingerprint
from laptop.certificates import expiry
from operations.__main__ import main
from operations.deployed import Deployed
from operations.gateway import SHEET, design, of_stack, sheet
from tests.laptop.clone import files_below
from tests.operations.served import leaf
from tests.operations.stack import say
from tests.rendering.nginx_blocks import parse
from tests.rendering.test_gateway import gateway


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what is wrong."""
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
    return said.removeprefix("error: ")


@pytest.mark.usefixtures("outputs")
def test_the_folder_is_whole_for_its_reader_alone_and_the_key_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "CT1", "dev", "--certificate", "1"]) == 0
    folder = tmp_path / "bundles/dev/CT1-gateway"
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    rendered = set(render_gateway(gateway()))
    assert {name for name in modes if (folder / name).is_file()} == rendered | {KEY, *CERTIFICATES, SHEET}
    for name, mode in modes.items():
        assert mode == (0o700 if (folder / name).is_dir() or name == "gateway" else 0o600), name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    key = (folder / KEY).read_text()
    assert key.startswith("-----BEGIN PRIVATE KEY-----")
    said = capsys.readouterr()
    others = [(folder / name).read_text() for name in modes if (folder / name).is_file() and name != KEY]
    for text in (said.out, said.err, *others):
        assert not set(key.splitlines()) & set(text.splitlines())
        assert "PRIVATE KEY" not in text
    assert "sudo ./gateway start" in said.out


def test_what_is_in_it_is_what_the_stack_says(tmp_path: Path, outputs: dict[str, Any]) -> None:
    assert main(["gateway", "CT1", "dev", "--certificate", "1", "--out", "here"]) == 0
    folder, given = tmp_path / "here", outputs["modalities"]["CT1"]["1"]
    assert (folder / KEY).read_text() == given["key"]
    assert [(folder / name).read_text() for name in CERTIFICATES] == [given["certificate"], given["authority"]]
    told = json.loads((folder / "forwarder/gateway.json").read_text())
    assert told["certificate_ends"] == int(expiry(given["certificate"]).timestamp())
    service = outputs["service"]
    assert told["server"] == f"{service['aet']} at {service['host']}:{service['dicomPort']}"
    nginx = parse((folder / "nginx/nginx.conf").read_text())
    assert nginx.one("stream", "proxy_ssl_name").args == (service["certificateName"],)
    compose = (folder / "compose.yaml").read_text()
    for image in (pins.ORTHANC_IMAGE, pins.NGINX_IMAGE, pins.POSTGRES_IMAGE):
        assert image in compose
    assert "equipment" in nginx.one("stream", "js_import").args


@pytest.mark.usefixtures("outputs")
def test_what_the_operator_wishes_stands_in_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wishes = ["--from", "CT1,MR_2", "--network", "192.168.10.0/24,10.1.0.0/16", "--listen", "192.168.10.5", "--dicom-port", "104"]
    wishes += ["--direct-port", "105", "--status-port", "9000", "--queue-mb", "5000", "--alarm", "https://alarms.example/hook?secret=x"]
    assert main(["gateway", "CT1", "dev", "--certificate", "1", "--out", "here", *wishes]) == 0
    folder = tmp_path / "here"
    stream = parse((folder / "nginx/nginx.conf").read_text()).one("stream")
    server = stream.all("server")[0]
    assert [rule.args[0] for rule in server.all("allow")] == ["192.168.10.0/24", "10.1.0.0/16"]
    assert server.pairs("set")["$equipment"] == "CT1 MR_2"
    compose = (folder / "compose.yaml").read_text()
    for port in ("104", "105", "9000"):
        assert f'"published": "{port}"' in compose
    assert '"host_ip": "192.168.10.5"' in compose
    assert "queue_mb=5000 " in (folder / "gateway").read_text()
    assert json.loads((folder / "forwarder/gateway.json").read_text())["alarm_url"] == "https://alarms.example/hook?secret=x"
    said = capsys.readouterr().out + (folder / SHEET).read_text()
    assert "equipment    CT1, MR_2, from 192.168.10.0/24, 10.1.0.0/16" in said
    assert "Alarms are posted to alarms.example." in " ".join(said.split())
    assert "secret=x" not in said
    assert "every private network" not in said


@pytest.mark.usefixtures("outputs")
def test_without_wishes_it_is_for_the_modality_itself_from_every_private_network_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gateway", "CT1", "dev", "--out", "here"]) == 0
    said = capsys.readouterr().out
    assert "equipment    CT1, from 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16" in said
    assert "(every private network: NETWORK=192.168.10.0/24 would say which one is the site's)" in said
    assert (tmp_path / "here").is_dir()


@pytest.mark.usefixtures("outputs")
def test_a_modality_that_made_its_own_key_gets_none_and_is_told_where_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "CT1", "dev", "--certificate", "2", "--out", "here"]) == 0
    assert not (tmp_path / "here" / KEY).exists()
    assert f"key          not here: CT1 made it itself. Put it into {KEY} at the site" in capsys.readouterr().out


def test_a_modality_that_may_not_store_would_forward_nothing(
    tmp_path: Path, outputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs["service"]["modalities"]["CT1"]["may"] = ["find", "get"]
    say(tmp_path, outputs)
    assert main(["gateway", "CT1", "dev", "--out", "here"]) == 2
    assert error(capsys) == (
        "CT1 may not store at the stack dev (it may: find, get), so nothing could be forwarded. Give it the right first."
    )
    assert not (tmp_path / "here").exists()


def test_a_stack_of_an_older_program_does_not_say_its_certificates_name(
    tmp_path: Path, outputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del outputs["service"]["certificateName"]
    say(tmp_path, outputs)
    assert main(["gateway", "CT1", "dev", "--out", "here"]) == 2
    assert error(capsys) == (
        "the stack dev does not say which name its certificate carries: an older program deployed it. make up STACK=dev"
    )
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ct1"], "no modality ct1 is enrolled in the stack dev. Enrolled (upper and lower case differ): CT1."),
        (["CT1", "--certificate", "3"], "CT1 has no certificate 3 in the stack dev. In force: 1, 2."),
        (["CT1", "--network", "0.0.0.0/0"], "such a gateway can't be: networks: 0.0.0.0/0 is no local network"),
        (
            ["CT1", "--network", "192.168.10.5/24"],
            "such a gateway can't be: networks.0: '192.168.10.5/24' is no IPv4 network: give one like",
        ),
        (["CT1", "--network", ","], "such a gateway can't be: networks: give at least one network"),
        (["CT1", "--from", "C T"], "such a gateway can't be: devices.0: 'C T' is not allowed here: an AE title has"),
        (["CT1", "--from", ""], "such a gateway can't be: devices: name at least one AE title"),
        (["CT1", "--listen", "nas"], "such a gateway can't be: listen: 'nas' is no IPv4 address"),
        (["CT1", "--dicom-port", "104", "--direct-port", "104"], "such a gateway can't be: the ports 104, 104, 8048 must differ."),
        (["CT1", "--queue-mb", "99"], "such a gateway can't be: queue_mb: Input should be greater than or equal to 100."),
        (["CT1", "--alarm", "ftp://x/y"], "such a gateway can't be: alarm_url: URL scheme should be 'http' or 'https'."),
        (["CT1", "--alarm", "https://x/\nHost: y"], "such a gateway can't be: alarm_url: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("outputs")
def test_a_value_that_can_not_be_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    aet, *options = arguments
    assert main(["gateway", aet, "dev", "--out", "here", *options]) == 2
    assert error(capsys).startswith(complaint)
    assert not (tmp_path / "here").exists()


@pytest.mark.usefixtures("outputs")
def test_renewed_it_keeps_what_the_site_made(tmp_path: Path) -> None:
    assert main(["gateway", "CT1", "dev", "--certificate", "1", "--out", "here"]) == 0
    folder = tmp_path / "here"
    made = {".env": "GATEWAY_UID=1\n", "forwarder/password": "p", "postgres/superuser-password": "q", "orthanc/users.json": "{}"}
    made |= {"orthanc/bound.json": "{}", "queue/pixels/one": "image"}
    assert (folder / KEY).exists()
    for name, text in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = fingerprint((folder / CERTIFICATES[0]).read_text())
    assert main(["gateway", "CT1", "dev", "--certificate", "2", "--out", "here", "--from", "MR1"]) == 0
    assert {name: (folder / name).read_text() for name in made} == made
    assert fingerprint((folder / CERTIFICATES[0]).read_text()) != before
    assert '"MR1"' in (folder / "nginx/nginx.conf").read_text()
    assert not (folder / KEY).exists(), "it belongs to certificate 1; the site has the one for certificate 2"


def test_a_key_that_the_site_put_there_stays_while_it_fits(tmp_path: Path, outputs: dict[str, Any]) -> None:
    assert main(["gateway", "CT1", "dev", "--certificate", "1", "--out", "here"]) == 0
    key = (tmp_path / "here" / KEY).read_text()
    outputs["modalities"]["CT1"]["1"]["key"] = None
    say(tmp_path, outputs)
    assert main(["gateway", "CT1", "dev", "--certificate", "1", "--out", "here"]) == 0
    assert (tmp_path / "here" / KEY).read_text() == key
    (tmp_path / "here" / KEY).write_text("no key")
    assert main(["gateway", "CT1", "dev", "--certificate", "1", "--out", "here"]) == 0
    assert not (tmp_path / "here" / KEY).exists()


def test_over_anything_else_it_is_not_written(tmp_path: Path, outputs: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "CT1", "dev", "--out", "here"]) == 0
    assert main(["modality", "CT1", "dev", "--out", "bundle"]) == 0
    (tmp_path / "letters").mkdir(mode=0o755)
    (tmp_path / "letters/letter").write_text("dear")
    outputs["modalities"]["MR7"] = {"1": {**outputs["modalities"]["CT1"]["1"], "certificate": leaf("mr7").certificate}}
    outputs["service"]["modalities"]["MR7"] = {"may": ["store"]}
    say(tmp_path, outputs)
    before = {name: files_below(tmp_path / name) for name in ("here", "bundle", "letters")}
    capsys.readouterr()
    for place in before:
        assert main(["gateway", "MR7", "dev", "--out", place]) == 2
        assert error(capsys) == f"{place} holds something else than the gateway MR7. Give another folder: OUT=..."
    assert {name: files_below(tmp_path / name) for name in before} == before
    assert stat.S_IMODE((tmp_path / "letters").stat().st_mode) == 0o755
    assert main(["gateway", "MR7", "dev", "--out", "letters/letter"]) == 2
    assert "OUT=..." in error(capsys)
    (tmp_path / "empty").mkdir()
    assert main(["gateway", "MR7", "dev", "--out", "empty"]) == 0


def test_without_a_demo_it_says_what_there_could_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("operations.__main__.HOME", tmp_path / ".demo")
    assert main(["gateway", "CT1"]) == 2
    said = error(capsys)
    assert said.startswith(f"there is no demo in {tmp_path}/.demo: run 'make demo' first")
    assert said.endswith("make gateway AET=CT1 STACK=dev")


def test_the_sheet_is_one_page_and_says_all_that_is_set_at_the_equipment(tmp_path: Path, outputs: dict[str, Any]) -> None:
    service = outputs["service"]
    wishes = ["--from", "CT1,MR_2", "--network", "192.168.10.0/24", "--dicom-port", "104", "--direct-port", "105", "--status-port", "9000"]
    assert main(["gateway", "CT1", "dev", "--certificate", "1", "--out", "here", *wishes]) == 0
    text = (tmp_path / "here" / SHEET).read_text()
    assert len(text.splitlines()) <= 66
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    for fact in (
        "Gateway CT1 to ORTHANC (the stack dev), certificate 1",
        "port to store 104",
        "port for queries 105: C-FIND",
        "called AE title ORTHANC",
        "calling AE title one of CT1, MR_2 (upper and lower case differ)",
        "TLS off",
        "taken from 192.168.10.0/24",
        "echoscu -v -aet CT1 -aec ORTHANC ADDRESS 104",
        "echoscu -v -aet CT1 -aec ORTHANC ADDRESS 105",
        "http://127.0.0.1:9000/",
        f"TCP to {service['host']} port {service['dicomPort']} must be open",
        "./gateway start",
        "./gateway remove",
        f"Its first start pulls {', '.join(image.partition('@')[0] for image in (pins.ORTHANC_IMAGE, pins.NGINX_IMAGE))} and postgres:",
        "which takes HTTPS to their registry",
        "./gateway pull, before this computer comes to the site",
    ):
        assert fact in flat, fact


def test_the_sheet_of_a_gateway_with_stand_ins_says_that_it_starts_nowhere_else(outputs: dict[str, Any]) -> None:
    origin = of_stack("dev", Deployed.model_validate(outputs), "CT1", number=1)
    there = sheet(origin, design(origin, {}))
    here = replace(origin, images=dict.fromkeys(origin.images, f"sha256:{'a' * 64}"))
    assert "starts on no other computer" in " ".join(sheet(here, design(here, {})).split())
    assert "starts on no other computer" not in " ".join(there.split())
