"""`make verify` against the real service: nginx, Orthanc and PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from laptop import demo
from laptop.site import Enrolment
from operations.__main__ import main
from operations.verify import verify
from operations.verify.exchange import PATIENT_ID
from operations.verify.target import of_demo
from tests.service.stack import Stack


def kept(stack: Stack) -> object:
    """The studies of the test object's patient."""
    query = {"Level": "Study", "Query": {"PatientID": PATIENT_ID}}
    return stack.web("/tools/find", method="POST", body=json.dumps(query)).json()


def test_every_check_is_good_and_the_test_object_is_gone(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("operations.__main__.HOME", stack.home)
    assert stack.home != demo.HOME
    code = main(["verify", "--aet", "CT1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "0 BAD" in said
    assert "left out" not in said
    assert "DICOM: TLS 1.1 refused           alert protocol_version" in said
    assert "web: TLS 1.1 refused             alert protocol_version" in said
    assert kept(stack) == []


def test_a_modality_that_may_only_store_still_leaves_nothing(stack: Stack) -> None:
    stack.peer("ONLYSTORE")  # writes its bundle
    findings = {finding.check: finding for finding in verify(of_demo(stack.home, aet="ONLYSTORE"))}
    assert {check for check, finding in findings.items() if finding.verdict != "good"} == {"C-FIND"}
    assert findings["C-FIND"].verdict == "left out"
    assert kept(stack) == []


def test_a_struck_modality_is_bad_and_stores_nothing(stack: Stack) -> None:
    stack.enrol(Enrolment(aet="LEFT"))
    stack.peer("LEFT")
    target = of_demo(stack.home, aet="LEFT")
    stack.strike("LEFT")
    findings = {finding.check: finding for finding in verify(target)}
    assert {check for check, finding in findings.items() if finding.verdict == "BAD"} == {"C-ECHO"}
    assert findings["C-STORE"].verdict == "left out"
    assert kept(stack) == []


def test_a_wrong_password_is_bad_and_nothing_is_stored(stack: Stack) -> None:
    stack.peer("CT1")
    target = of_demo(stack.home, aet="CT1")
    assert target.admin is not None
    findings = {finding.check: finding for finding in verify(replace(target, admin=replace(target.admin, password="wrong")))}
    assert {check for check, finding in findings.items() if finding.verdict == "BAD"} == {"web: admin's login"}
    assert findings["C-STORE"].verdict == "left out"
    assert kept(stack) == []
