"""docs/conformance.md: what it promises to vendors is what is rendered."""

from __future__ import annotations

import json
import re
from typing import get_args

import pydicom.uid
import pytest

from config_templates import Modality, orthanc, places, render
from config_templates.model import Right
from tests.rendering.nginx_blocks import parse
from tests.rendering.scenarios import SCENARIOS, fingerprint, given
from tests.unit.recording import ROOT
from tests.unit.test_settings import load

TEXT = (ROOT / "docs/conformance.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|") and "---" not in line]
FACTS = [row for row in ROWS if re.fullmatch(r"`[\w.]+` `[\w.]+`", row[-1])]
# All defaults: what a stack gets that says nothing.
SERVICE = SCENARIOS["none"]


def said(where: str, name: str) -> object:
    """What a rendered file says; None when it does not."""
    if where == "settings":
        return load().model_dump(by_alias=True)[name]
    if where == "orthanc.json":
        value = json.loads(render(SERVICE)["orthanc/orthanc.json"])
        for key in name.split("."):
            value = value.get(key)
        return value
    stream = parse(render(SERVICE)["nginx/nginx.conf"]).one("stream")
    (incoming,) = (s for s in stream.all("server") if s.one("listen").args[0] == str(places.GATEWAY_DICOM_PORT))
    value = incoming.value(name) or stream.value(name)
    return None if value is None else " ".join(value)


def test_the_page_has_facts_of_each_kind() -> None:
    assert len(FACTS) >= 20
    assert {row[-1].split()[0] for row in FACTS} == {"`settings`", "`orthanc.json`", "`nginx.conf`"}


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row[-1].split()[1].strip("`"))
def test_a_value_on_the_page_is_the_one_that_is_rendered(row: list[str]) -> None:
    where, name = row[-1].replace("`", "").split()
    found = said(where, name)
    if row[1] == "Orthanc's default":
        assert found is None, "it is said now: put the value on the page"
    else:
        shown = json.dumps(found) if isinstance(found, bool) else str(found)
        assert row[1].strip("`") == shown


def test_association_request_and_handshake_have_the_same_time() -> None:
    assert said("nginx.conf", "preread_timeout") == said("nginx.conf", "ssl_handshake_timeout")


def with_rights(*may: Right, receives: bool = False) -> dict[str, object]:
    address, port = ("192.0.2.1", 104) if receives else (None, None)
    modality = Modality(aet="CT1", may=may, certificates=(fingerprint(1),), address=address, port=port)
    return dict(orthanc.modalities(given(SERVICE, modalities=(modality,)))["CT1"])


def opened(rights: dict[str, object]) -> set[str]:
    return {key for key, value in rights.items() if key.startswith("Allow") and value is True} - {"AllowTranscoding"}


def test_each_right_opens_what_the_page_says_and_nothing_else() -> None:
    page = {row[0].strip("`"): row[1].strip("`") for row in ROWS if row[1].startswith("`Allow")}
    assert opened(with_rights()) == {page.pop("(none)")}
    assert set(page) == set(get_args(Right))
    for right in get_args(Right):
        assert opened(with_rights(right)) == {"AllowEcho", page[right]}


def test_storage_commitment_is_for_who_stores_and_can_be_answered() -> None:
    assert "AllowNAction" in opened(with_rights("store", receives=True))
    for rights in (with_rights("store"), with_rights("find", receives=True)):
        assert "AllowNAction" not in opened(rights)
    assert "for modalities that may store and have an address" in TEXT


def test_there_is_no_worklist_as_long_as_no_plugin_of_it_is_configured() -> None:
    assert "**Modality worklist: no.**" in TEXT
    for service in SCENARIOS.values():
        assert not [key for key in json.loads(render(service)["orthanc/orthanc.json"]) if "worklist" in key.lower() and "Allow" not in key]


def test_the_uids_are_those_of_the_standard() -> None:
    names = {row[0]: row[1] for row in ROWS if len(row) == 4 and row[1].startswith("1.2.840")}
    assert len(names) >= 10
    for name, uid in names.items():
        assert pydicom.uid.UID(uid).name.replace("\N{EN DASH}", "-") == name
