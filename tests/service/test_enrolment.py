"""Modalities come and go while others work: no restart, no broken association."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from config_templates.model import fingerprint
from laptop import running, study
from laptop.running import converge, hold_modalities, reload_gateway
from laptop.site import Enrolment, Site, place
from laptop.tell import Trouble
from operations.verify.wire import associate_request
from tests.service.stack import OLD_WORKER_SECONDS, Stack, answer_to, eventually, tls_socket


@contextmanager
def steady_transfer(stack: Stack, aet: str, seed: str) -> Iterator[list[int]]:
    """One association of `aet` that stores image after image while the body runs; yields the statuses."""
    statuses: list[int] = []
    enough = threading.Event()

    def send() -> None:
        with stack.peer(aet).association() as association:
            for image in study.series(slices=500, seed=seed):
                statuses.append(int(getattr(association.send_c_store(image), "Status", -1)))
                if enough.is_set() or statuses[-1] != 0:
                    return
                time.sleep(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        eventually("the transfer has begun", lambda: len(statuses) > 1)
        yield statuses
    finally:
        enough.set()
        sender.join(60)
    assert not sender.is_alive()


def test_another_modalitys_transfer_goes_on_while_one_is_enrolled_and_struck(stack: Stack) -> None:
    before = stack.containers()
    with steady_transfer(stack, "CT1", "steady") as statuses:
        began = time.monotonic()
        stack.enrol(Enrolment(aet="NEW1"))
        assert stack.peer("NEW1").store(study.series(slices=2, seed="new1")) == 2
        refused = stack.peer("NEW1")
        stack.strike("NEW1")
        eventually("the struck modality is refused", lambda: not refused.associate().is_established)
        sent_by_then = len(statuses)
        eventually("the transfer still goes on", lambda: len(statuses) > sent_by_then + 2)
        assert time.monotonic() - began < OLD_WORKER_SECONDS, "too slow to tell: the old worker may be gone"
    assert set(statuses) == {0}
    assert stack.containers() == before


def test_an_idle_association_of_a_struck_modality_is_closed_with_the_old_workers(stack: Stack) -> None:
    stack.enrol(Enrolment(aet="IDLE"))
    with tls_socket(stack.peer("IDLE")) as connection:
        assert answer_to(connection, [associate_request("IDLE")]) == b"\x02"
        connection.settimeout(2)
        connection.recv(4096)  # the rest of the acceptance
        with pytest.raises(TimeoutError):
            connection.recv(4096)
        stack.strike("IDLE")
        connection.settimeout(OLD_WORKER_SECONDS + 15)
        assert connection.recv(4096) == b"", "closed; a TimeoutError would mean that it lives on"


def test_a_run_that_was_interrupted_is_made_good_by_the_next(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.enrol(Enrolment(aet="HALF"))
    peer = stack.peer("HALF")
    assert peer.echo() == 0
    with monkeypatch.context() as patched:
        patched.setattr(running, "reload_gateway", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stack.strike("HALF")
    assert peer.echo() == 0, "the test must have stopped it before nginx took the new files"
    stack.converge()
    assert not peer.associate().is_established


def interrupted(_: Site) -> None:
    raise KeyboardInterrupt


def test_rights_change_while_it_runs(stack: Stack) -> None:
    before = stack.containers()
    stack.enrol(Enrolment(aet="RIGHTS", may=("store",)))
    peer = stack.peer("RIGHTS")
    with pytest.raises(Trouble, match="C-FIND"):
        peer.find_studies(PatientName="Phantom*")
    stack.enrol(Enrolment(aet="RIGHTS", may=("find",)))
    assert peer.find_studies(PatientName="Phantom*")
    image = next(study.series(slices=1, seed="rights"))
    with pytest.raises(Trouble, match="was not stored"):
        peer.store([image])
    assert stack.stored(image.SOPInstanceUID) is None
    stack.strike("RIGHTS")
    assert stack.containers() == before


def test_old_and_new_certificate_overlap_until_the_old_one_is_struck(stack: Stack) -> None:
    stack.enrol(Enrolment(aet="RENEW"))
    old = stack.peer("RENEW")
    old_context = old.context()
    stack.enrol(Enrolment(aet="RENEW", certificates=(1, 2)))
    new = stack.peer("RENEW")
    assert fingerprint(stack.site.modality("RENEW", 1).certificate) != fingerprint(stack.site.modality("RENEW", 2).certificate)
    with tls_socket(old, old_context) as connection:
        assert answer_to(connection, [associate_request("RENEW")]) == b"\x02"
    assert new.echo() == 0
    stack.enrol(Enrolment(aet="RENEW", certificates=(2,)))

    def old_refused() -> bool:
        with tls_socket(old, old_context) as connection:
            return answer_to(connection, [associate_request("RENEW")]) == b""

    eventually("the old certificate is refused", old_refused)
    assert new.echo() == 0
    stack.strike("RENEW")


def test_a_comment_in_nginx_conf_restarts_nothing_and_breaks_nothing(stack: Stack) -> None:
    before = stack.containers()
    files = dict(stack.site.files(stack.images))
    files["nginx/nginx.conf"] = "# another comment\n" + files["nginx/nginx.conf"]
    with steady_transfer(stack, "CT1", "comment") as statuses:
        assert place(stack.site, files) == {"nginx/nginx.conf"}
        reload_gateway(stack.site)
        assert stack.peer("WS1").echo() == 0
        assert stack.converge() == {"nginx/nginx.conf"}
        assert stack.peer("WS1").echo() == 0
    assert set(statuses) == {0}
    assert stack.containers() == before


def test_converging_twice_changes_nothing(stack: Stack) -> None:
    stack.converge()
    before = stack.containers()
    assert converge(stack.site, stack.images) == set()
    assert hold_modalities(stack.site) == ""
    assert stack.containers() == before


def test_orthanc_knows_exactly_the_modalities_of_the_plan(stack: Stack) -> None:
    stack.web("/modalities/INTRUDER", method="PUT", body='{"AET": "INTRUDER", "Host": "10.9.9.9", "Port": 104}')
    assert "modality removed: INTRUDER" in hold_modalities(stack.site)
    known = stack.web("/modalities").json()
    assert isinstance(known, list)
    assert sorted(known) == sorted(m.aet for m in stack.site.plan.modalities)


def test_a_renewed_server_certificate_breaks_no_association(stack: Stack) -> None:
    before = stack.containers()
    with steady_transfer(stack, "CT1", "renewal") as statuses:
        (stack.home / "keys" / "server.crt").unlink()
        assert stack.converge() == {"nginx/server.crt", "nginx/server.key", "nginx/web.crt", "nginx/web.key"}
        assert stack.peer("WS1").echo() == 0
    assert set(statuses) == {0}
    assert stack.containers() == before
