"""`make verify` against a service on this machine that misbehaves in one way after the other."""

from __future__ import annotations

import copy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset

from config_templates.model import Right
from infra.monitoring import alarms
from infra.stack import Stack
from laptop import certificates, demo
from laptop.peer import Peer
from laptop.private import write
from laptop.site import Enrolment, Site
from laptop.tell import Trouble
from operations.__main__ import main
from operations.deployed import Bundle, Deployed
from operations.verify import Finding, report, summary, verify
from operations.verify import exchange as exchanging
from operations.verify.finding import SLOW_SECONDS, SOON_DAYS, URGENT_DAYS, Bad, latency
from operations.verify.target import Login, Modality, Target, of_demo, of_stack
from operations.verify.wire import TLS_1_1, TLS_1_2, takes_tls
from tests.operations.served import PASSWORD, Served, authority, leaf, serving
from tests.unit.recording import REGION, ROOT
from tests.unit.test_settings import load


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanging, "PAUSE_SECONDS", 0.01)


@pytest.fixture(scope="module")
def _one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def good(_one_for_all: Served) -> Served:
    """A good service; a test may give it faults that are no matter of TLS."""
    _one_for_all.faults = frozenset()
    _one_for_all.held.clear()
    _one_for_all.removed.clear()
    return _one_for_all


def found(target: Target) -> Mapping[str, Finding]:
    return {finding.check: finding for finding in verify(target)}


def bad(target: Target) -> Mapping[str, str]:
    """What is BAD, with what was measured."""
    return {check: finding.measured for check, finding in found(target).items() if finding.verdict == "BAD"}


def test_a_good_service_passes_every_check_and_keeps_nothing(good: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(good.target()) == 0
    said = capsys.readouterr().out
    assert "20 good; 0 BAD\n" in said
    assert "left out" not in said
    for measured in ("TLSv1.3", "396 days left", "alert protocol_version", "status 401", "512 KiB of pixels in", "(median of 5, at most"):
        assert measured in said, measured
    assert len(good.removed) == 1
    assert not good.held
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("old TLS", {"web: TLS 1.1 refused", "DICOM: TLS 1.1 refused"}),
        ("plain web", {"web: plaintext refused"}),
        ("anybody gets in", {"DICOM: no certificate refused", "DICOM: stranger's cert. refused"}),
        ("any title", {"DICOM: other AE title refused"}),
        ("plain DICOM", {"DICOM: TLS", "DICOM: certificate", "DICOM: TLS 1.1 refused", "DICOM: plaintext refused", "C-ECHO"}),
    ],
)
def test_each_fault_of_tls_is_found_by_its_own_check(tmp_path: Path, fault: str, checks: set[str]) -> None:
    with serving(tmp_path, fault) as served:
        assert set(bad(served.target())) == checks
        assert not served.held, "the test object was left behind"


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("no login", {"web: login required"}),
        ("echo refused", {"C-ECHO"}),
        ("store refuses", {"C-STORE", "C-FIND"}),
        ("find fails", {"C-FIND"}),
        ("find sees nothing", {"C-FIND"}),
    ],
)
def test_each_fault_behind_tls_is_found_by_its_own_check(good: Served, fault: str, checks: set[str]) -> None:
    good.faults = frozenset({fault})
    assert set(bad(good.target())) == checks
    assert not good.held, "the test object was left behind"


@pytest.mark.parametrize(("days", "verdict", "advice"), [(URGENT_DAYS, "BAD", "renew it now"), (SOON_DAYS, "good", "renew it soon")])
def test_a_certificate_that_ends_is_told_before_it_does(tmp_path: Path, days: int, verdict: str, advice: str) -> None:
    pair = leaf("ct1.modality.orthanc", days)
    with serving(tmp_path, days=days) as served:
        findings = found(served.target(certificates={("MR7", 1): leaf("mr7").certificate, ("CT1", 2): pair.certificate}))
    for check in ("web: certificate", "DICOM: certificate", "modalities' certificates"):
        assert findings[check].verdict == verdict, check
        assert findings[check].measured.endswith(advice)
    assert "of 2 in force, CT1's number 2 ends first" in findings["modalities' certificates"].measured


def test_the_days_are_those_of_the_alarms() -> None:
    watched = {a.threshold for a in alarms(load(), Stack(name="dev", region=REGION, keep=False)) if a.metric == "CertificateDaysLeft"}
    assert watched == {SOON_DAYS, URGENT_DAYS}


def test_a_server_that_is_not_who_it_says_is_bad_but_its_days_are_counted_all_the_same(good: Served, tmp_path: Path) -> None:
    stranger = certificates.make_authority("stranger", "ecdsa").certificate
    target = good.target(authority=stranger)
    assert target.modality is not None
    bundle = shutil.copytree(target.modality.bundle, tmp_path / "CT1")
    (bundle / "authority.crt").write_text(stranger)
    findings = found(replace(target, modality=replace(target.modality, bundle=bundle)))
    assert "certificate" in findings["web: TLS"].measured
    assert findings["web: TLS"].verdict == findings["DICOM: TLS"].verdict == "BAD"
    assert findings["web: certificate"].verdict == findings["DICOM: certificate"].verdict == "good"
    assert not good.removed


def test_a_slow_answer_is_bad() -> None:
    assert latency([SLOW_SECONDS * 0.9]).startswith("answers in 1800 ms")
    with pytest.raises(Bad, match="slower than 2000 ms"):
        latency([0.1, SLOW_SECONDS * 1.1, SLOW_SECONDS * 1.2])


def test_what_is_not_reached_is_said_once_and_the_rest_left_out(good: Served) -> None:
    findings = found(good.target(dicom_port=1))
    assert "does not take a connection" in findings["DICOM: reached"].measured
    assert {f.verdict for c, f in findings.items() if c.startswith(("C-", "DICOM: ")) and c != "DICOM: reached"} == {"left out"}
    assert findings["web: admin's login"].verdict == "good"


def test_the_greeting_by_hand_is_one_that_a_server_takes(tmp_path: Path) -> None:
    with serving(tmp_path, "old TLS") as old, serving(tmp_path) as new:
        assert takes_tls("127.0.0.1", old.web_port, TLS_1_1)[0]
        assert takes_tls("localhost", old.web_port, TLS_1_1)[0]
        assert takes_tls("127.0.0.1", new.web_port, TLS_1_2)[0]
        assert takes_tls("127.0.0.1", new.web_port, TLS_1_1) == (False, "alert protocol_version")


# -- the test object -------------------------------------------------------------------------------------------------------


def test_the_object_is_nobodys_and_says_so_in_every_field_that_people_see() -> None:
    one, other = exchanging.made_object(datetime.now(UTC)), exchanging.made_object(datetime.now(UTC))
    assert (one.PatientID, str(one.PatientName)) == ("MAKE-VERIFY", "Verify^Not A Patient")
    assert "may be deleted" in one.StudyDescription
    assert one.StudyInstanceUID != other.StudyInstanceUID
    assert one.SOPInstanceUID == one.file_meta.MediaStorageSOPInstanceUID != other.SOPInstanceUID


def test_an_object_that_arrived_though_nobody_acknowledged_it_is_removed(good: Served) -> None:
    good.faults = frozenset({"store breaks off"})
    assert bad(good.target()).keys() == {"C-STORE"}
    assert len(good.removed) == 1
    assert not good.held


@pytest.mark.parametrize("step", ["store", "find_studies"])
def test_an_interruption_in_between_leaves_nothing(good: Served, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    real = Peer.store

    def interrupted(self: Peer, images: Iterable[Dataset] = (), **_: str) -> None:
        real(self, images)
        raise KeyboardInterrupt

    monkeypatch.setattr(Peer, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(verify(good.target()))
    assert len(good.removed) == 1
    assert not good.held


def test_a_run_that_is_ended_by_a_signal_leaves_nothing(good: Served, tmp_path: Path) -> None:
    """The command itself, as a process, while its C-FIND waits."""
    target = good.target()
    assert target.modality is not None
    site = Site.load(tmp_path).with_plan(dicom_port=good.dicom_port, web_port=good.web_port).enrolled(Enrolment(aet="CT1"))
    site.save()
    write(tmp_path / "keys/outside-authority.crt", target.authority)
    write(tmp_path / "keys/admin.password", PASSWORD)
    shutil.copytree(target.modality.bundle, tmp_path / "modalities/CT1")
    good.faults = frozenset({"find hangs"})
    program = "import sys, pathlib, operations.__main__ as m; m.HOME = pathlib.Path(sys.argv[1]); sys.exit(m.main(['verify']))"
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert good.hangs.wait(20)
        assert len(good.held) == 1
        process.terminate()
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert "C-STORE" not in said
    assert len(good.removed) == 1
    assert not good.held


def test_who_stops_reading_the_report_stops_no_removal(good: Served) -> None:
    findings = verify(good.target())
    next(finding for finding in findings if finding.check == "C-STORE")
    findings.close()  # type: ignore[attr-defined]
    assert len(good.removed) == 1
    assert not good.held


@pytest.mark.parametrize(("fault", "why"), [("nothing is removed", "DELETE of the study"), ("removed things stay", "it is still found")])
def test_an_object_that_can_not_be_removed_is_told_loudly(good: Served, fault: str, why: str) -> None:
    good.faults = frozenset({fault})
    told = bad(good.target())
    (uid,) = good.held
    assert told.keys() == {"test object removed"}
    assert f"StudyInstanceUID {uid}" in told["test object removed"]
    assert f"IT MAY BE LEFT BEHIND ({why}" in told["test object removed"]


def test_what_a_killed_run_left_is_removed_and_nothing_else(good: Served) -> None:
    now = datetime.now(UTC)
    old, young, namesake = (exchanging.made_object(now - timedelta(hours=age)) for age in (2, 0, 2))
    other = copy.deepcopy(old)
    other.StudyInstanceUID, other.PatientID = "1.2.3", "SOMEBODY"
    namesake.PatientName = "Real^Person"
    for image in (old, young, namesake, other):
        good.held[str(image.StudyInstanceUID)] = image
    findings = found(good.target())
    assert "1 of earlier runs removed too" in findings["test object removed"].measured
    assert set(good.held) == {str(i.StudyInstanceUID) for i in (young, namesake, other)}


@pytest.mark.parametrize(
    ("changes", "why", "left_out"),
    [
        ({"admin": None}, "nothing could be removed afterwards", {"web: admin's login", *exchanging.CHECKS}),
        ({"admin": Login(name="admin", password="wrong")}, "nothing could be removed afterwards", set(exchanging.CHECKS)),
        ({"modality": None}, "no enrolled modality has a key", {"C-ECHO", "DICOM: TLS", *exchanging.CHECKS}),
    ],
)
def test_without_a_login_or_a_key_nothing_is_stored(good: Served, changes: dict[str, object], why: str, left_out: set[str]) -> None:
    findings = found(good.target(**changes))
    omitted = {check: f.measured for check, f in findings.items() if f.verdict == "left out"}
    assert left_out <= set(omitted)
    assert why in omitted["C-STORE"]
    assert not good.held
    assert not good.removed
    assert findings["DICOM: TLS 1.1 refused"].verdict == "good"


@pytest.mark.parametrize(("may", "omitted"), [(("find",), set(exchanging.CHECKS)), (("store",), {"C-FIND"}), ((), set(exchanging.CHECKS))])
def test_no_more_is_tried_than_the_modality_may(good: Served, may: tuple[Right, ...], omitted: set[str]) -> None:
    target = good.target()
    assert target.modality is not None
    findings = found(replace(target, modality=replace(target.modality, may=may)))
    assert {check for check, f in findings.items() if f.verdict == "left out"} == omitted
    assert all("CT1 may not" in findings[check].measured for check in omitted)
    assert not good.held


def test_another_enrolled_title_is_tried_under_the_modalitys_certificate(good: Served) -> None:
    many = {("CT1", 1): leaf("ct1.modality.orthanc").certificate, ("MR7", 1): leaf("mr7").certificate}
    assert found(good.target(certificates=many))["DICOM: other AE title refused"].measured == "as MR7: rejected"


def test_the_summary_counts_and_names() -> None:
    findings = [Finding("good", "a", ""), Finding("BAD", "b", ""), Finding("left out", "c", "")]
    assert summary(findings) == ("1 good; 1 BAD: b; 1 left out: c", 1)
    assert summary(findings[::2]) == ("1 good; 0 BAD; 1 left out: c", 0)


# -- where targets come from -----------------------------------------------------------------------------------------------


def outputs(rights: Mapping[str, list[str]], *, without_key: tuple[str, ...] = ()) -> Deployed:
    pair = leaf("any")
    bundle = {"certificate": pair.certificate, "authority": authority().certificate}
    return Deployed.model_validate(
        {
            "service": {
                "host": "192.0.2.10",
                "aet": "HOSPITAL",
                "dicomPort": 2762,
                "webPort": 8443,
                "admins": ["ada", "bob"],
                "modalities": {aet: {"may": may} for aet, may in rights.items()},
            },
            "authority": authority().certificate,
            "passwords": {"bob": "secret", "eve": "other"},
            "modalities": {aet: {"1": bundle if aet in without_key else {**bundle, "key": pair.key}} for aet in rights},
        }
    )


@pytest.mark.parametrize(
    ("rights", "without_key", "chosen"),
    [
        ({"A": ["store"], "B": ["find", "store"], "C": ["store", "find", "move"]}, (), "B"),
        ({"A": ["store"], "B": ["find", "store"]}, ("B",), "A"),
        ({"A": []}, (), "A"),
        ({"A": ["store", "find"]}, ("A",), None),
        ({}, (), None),
    ],
)
def test_of_a_stacks_modalities_the_one_that_may_most_is_taken(
    tmp_path: Path, rights: dict[str, list[str]], without_key: tuple[str, ...], chosen: str | None
) -> None:
    target = of_stack("dev", outputs(rights, without_key=without_key), tmp_path)
    assert (target.modality.aet if target.modality else None) == chosen
    assert (target.host, target.dicom_port, target.web_port, target.aet) == ("192.0.2.10", 2762, 8443, "HOSPITAL")
    assert target.admin == Login(name="bob", password="secret")
    assert len(target.certificates) == len(rights)


def test_an_older_certificate_will_do_when_the_modality_keeps_the_newest_key_to_itself(tmp_path: Path) -> None:
    said = outputs({"A": ["store", "find"]})
    old, new = said.modalities["A"][1], Bundle(certificate=leaf("new").certificate, authority=authority().certificate)
    target = of_stack("dev", said.model_copy(update={"modalities": {"A": {1: old, 2: new}}}), tmp_path)
    assert target.modality is not None
    assert (tmp_path / "A.crt").read_text() == old.certificate
    assert set(target.certificates) == {("A", 1), ("A", 2)}


def test_a_modality_may_be_chosen_by_its_title(tmp_path: Path) -> None:
    found_there = outputs({"A": ["store", "find"], "B": []})
    target = of_stack("dev", found_there, tmp_path, aet="B")
    assert target.modality == Modality(aet="B", bundle=tmp_path, may=())
    with pytest.raises(Trouble, match=r"no modality X with a key that is known here\. With a key: A, B"):
        of_stack("dev", found_there, tmp_path, aet="X")


def test_no_secret_shows_when_outputs_are_wrong() -> None:
    with pytest.raises(ValidationError) as error:
        Deployed.model_validate({"passwords": {"admin": ["hunter2"]}, "authority": 5, "service": {}, "modalities": {"A": {"1": "hunter2"}}})
    assert "hunter2" not in str(error.value)


def test_no_password_shows_in_a_target(tmp_path: Path) -> None:
    assert "secret" not in repr(of_stack("dev", outputs({"A": []}), tmp_path)) + repr(outputs({"A": []}))


def test_the_demo_is_asked_by_its_own_files_which_stay_as_they_are(tmp_path: Path) -> None:
    site = Site.load(tmp_path).with_plan(dicom_port=21112).enrolled(Enrolment(aet="DEMO"))
    site.save()
    folder = site.write_bundle("DEMO")
    site.password("admin")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    target = of_demo(tmp_path)
    assert target.modality == Modality(aet="DEMO", bundle=folder, may=("store", "find", "move", "get"))
    assert (target.host, target.dicom_port, target.web_port) == ("localhost", 21112, 8443)
    assert target.admin == Login(name="admin", password=site.password("admin"))
    assert list(target.certificates) == [("DEMO", 1)]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_without_a_demo_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("operations.__main__.HOME", tmp_path)
    assert tmp_path != demo.HOME
    assert main(["verify"]) == 2
    assert "run 'make demo' first, or name a stack on AWS: STACK=dev" in capsys.readouterr().err
