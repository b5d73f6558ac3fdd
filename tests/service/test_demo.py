"""`make demo` again, and the commands beside it."""

from __future__ import annotations

import pytest

from laptop import demo
from laptop.__main__ import main
from laptop.site import Enrolment
from laptop.tell import Trouble
from tests.service.stack import DICOM_PORT, WEB_PORT, Stack


def test_a_second_demo_changes_nothing_and_sends_nothing(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    before = stack.containers()
    demo.run(stack.home, dicom_port=None, web_port=None)
    told = capsys.readouterr().out
    assert "running already, nothing to change" in told
    assert "the study is there already" in told
    assert stack.containers() == before


def test_a_stopped_demo_keeps_its_studies(stack: Stack) -> None:
    studies = sorted(str(found.StudyInstanceUID) for found in stack.peer("CT1").find_studies())
    demo.stop(stack.home)
    demo.run(stack.home, dicom_port=None, web_port=None)
    stack.enrol_receiver()
    assert sorted(str(found.StudyInstanceUID) for found in stack.peer("CT1").find_studies()) == studies


def test_enrolling_and_striking_by_command(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "HOME", stack.home)
    assert main(["enrol", "BYHAND", "--may", "store,find"]) == 0
    assert "BYHAND may store, find; its certificate and key are in" in capsys.readouterr().out
    assert stack.peer("BYHAND").echo() == 0
    assert main(["strike", "BYHAND"]) == 0
    assert main(["strike", "BYHAND"]) == 1
    assert "no modality BYHAND is enrolled here. Enrolled: " in capsys.readouterr().err
    assert main(["logs"]) == 0
    assert "dicom-in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["enrol", "MUCH-TOO-LONG-FOR-AN-AE-TITLE"], "an AE title has 1 to 16"),
        (["enrol", "X1", "--may", "fly"], "may.0: Input should be 'store', 'find'"),
        (["enrol", "X1", "--address", "10.0.0.1"], "give both 'address' and 'port'"),
        (["enrol", "ct1"], "'ct1' stands twice"),
        (["enrol", "ORTHANC"], "that is the server's own AE title"),
        (["demo", "--dicom-port", str(WEB_PORT)], "choose two ports"),
        (["demo", "--dicom-port", "70000"], "less than or equal to 65535"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    monkeypatch.setattr(demo, "HOME", stack.home)
    before = (stack.home / "site.json").read_text(), stack.containers()
    assert main(arguments) == 1
    assert complaint in capsys.readouterr().err
    assert ((stack.home / "site.json").read_text(), stack.containers()) == before


def test_a_database_whose_password_is_gone_is_not_begun_over(stack: Stack) -> None:
    password = stack.home / "keys" / "database.password"
    kept = password.read_text()
    password.unlink()
    try:
        with pytest.raises(Trouble, match="docker compose -p orthanc-test down --volumes"):
            demo.run(stack.home, dicom_port=DICOM_PORT, web_port=WEB_PORT)
    finally:
        password.write_text(kept)
        password.chmod(0o600)


def test_a_plan_that_cannot_be_read_says_where_and_why(stack: Stack) -> None:
    plan = stack.home / "site.json"
    kept = plan.read_text()
    plan.write_text(kept.replace('"dicom_port"', '"dicomPort"'))
    try:
        with pytest.raises(Trouble, match=r"site\.json can't be used: dicomPort: Extra inputs are not permitted"):
            stack.enrol(Enrolment(aet="NEVER"))
    finally:
        plan.write_text(kept)
