"""A site gateway's forwarder: what it sends, forgets, sets aside and tells. Its Orthanc and clock are pretended; HTTP is real."""

from __future__ import annotations

import http.client
import io
import json
import os
import select
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest

from config_templates.gateway import ORTHANC_HTTP_PORT
from config_templates.gateway import forwarder as program
from config_templates.gateway.forwarder import (
    BATCH,
    PARALLEL,
    REFUSALS_IN_A_ROW,
    Contact,
    Failed,
    Forwarder,
    Queue,
    Refusal,
    Status,
    Watch,
)
from tests.gateway.pretended import PASSWORD, STARTED, Clock, Orthanc, listening, running, serving
from tests.service.stack import eventually, free_port

ROOT = Path(__file__).resolve().parents[2]
ARRIVED = STARTED  # 2027-01-15 08:00:00 UTC


@pytest.fixture
def orthanc() -> Orthanc:
    return Orthanc()


@pytest.fixture
def port(orthanc: Orthanc) -> Iterator[int]:
    with serving(orthanc) as found:
        yield found


@pytest.fixture
def queue(port: int) -> Queue:
    return Queue("127.0.0.1", port, PASSWORD)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def forwarder(queue: Queue, clock: Clock) -> Forwarder:
    return Forwarder(queue, clock)


def names(count: int, prefix: str = "o") -> list[str]:
    return [f"{prefix}{n:03}" for n in range(count)]


def steps(forwarder: Forwarder, most: int = 50) -> list[float]:
    """Until nothing is to be done at once any more."""
    pauses = [forwarder.step()]
    while pauses[-1] == 0.0 and len(pauses) < most:
        pauses.append(forwarder.step())
    return pauses


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        assert abs(datetime.fromisoformat(line["time"]) - datetime.now(UTC)) < timedelta(minutes=5)
    return lines


# -- forwarding ------------------------------------------------------------------------------------------------------------


def test_everything_that_waits_is_sent_oldest_first_in_batches_and_forgotten(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive(*names(120))
    steps(forwarder)
    assert sorted(orthanc.received) == names(120)
    assert orthanc.objects == {}
    assert forwarder.sent == 120
    assert max(map(len, orthanc.sends)) == BATCH
    firsts = sorted(batch[0] for batch in orthanc.sends[:PARALLEL])
    assert firsts[0] == "o000"
    for batch in orthanc.sends:
        assert batch == sorted(batch)


def test_the_oldest_go_before_those_that_came_later(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive(*names(200, "old"))
    forwarder.step()
    orthanc.arrive(*names(5, "new"))
    steps(forwarder)
    assert sorted(orthanc.received[-5:]) == names(5, "new")


def test_only_what_the_server_acknowledged_is_forgotten(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive("good", "bad", "fine")
    orthanc.unwanted = {"bad"}
    steps(forwarder)
    assert set(orthanc.objects) == {"bad"}
    assert set(orthanc.received) >= {"good", "fine"}


def test_a_batch_that_fails_is_tried_object_by_object(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive("a", "bad", "c")
    orthanc.unwanted = {"bad"}
    forwarder.step()
    assert orthanc.sends == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    assert orthanc.objects.keys() == forwarder.refused.keys() == {"bad"}
    assert forwarder.contact.reached


@pytest.mark.parametrize(
    "told", [{"InstancesCount": 2, "FailedInstancesCount": 1}, {"InstancesCount": 1, "FailedInstancesCount": 0}], ids=["failed", "missing"]
)
def test_an_answer_that_not_all_were_sent_is_no_acknowledgement(queue: Queue, monkeypatch: pytest.MonkeyPatch, told: object) -> None:
    monkeypatch.setattr(queue, "_ask", lambda *_: json.dumps(told).encode())
    with pytest.raises(Failed, match="1 of 2 were sent"):
        queue.send(["a", "b"])


def test_what_is_refused_is_tried_ever_more_rarely(
    orthanc: Orthanc, forwarder: Forwarder, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.arrive("bad")
    orthanc.unwanted = {"bad"}
    tried = []
    for _ in range(4 * 3600):
        before = len(orthanc.sends)
        if not forwarder.refused or clock.now >= forwarder.refused["bad"].due:
            forwarder.step()
        if len(orthanc.sends) > before:
            tried.append(clock.now)
        clock.now += 1
    assert [round(b - a) for a, b in pairwise(tried)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    refusals = [line for line in logged(capsys) if line["what"] == "refused"]
    assert [line["tries"] for line in refusals] == list(range(1, 10))
    assert (refusals[0]["object"], refusals[0]["why"]) == ("bad", "C-STORE SCU: the status was 0xA900")


def test_before_it_is_due_a_refused_object_is_left_alone(orthanc: Orthanc, forwarder: Forwarder, clock: Clock) -> None:
    orthanc.arrive("bad")
    orthanc.unwanted = {"bad"}
    forwarder.step()
    count = len(orthanc.sends)
    clock.now += 59
    steps(forwarder)
    assert len(orthanc.sends) == count
    clock.now += 1
    steps(forwarder)
    assert len(orthanc.sends) == count + 2  # as a batch, and alone


def test_refused_objects_do_not_block_those_behind_them(orthanc: Orthanc, forwarder: Forwarder) -> None:
    bad = names(15, "bad")
    orthanc.arrive(*bad, *names(30, "good"))
    orthanc.unwanted = set(bad)
    steps(forwarder)
    assert set(orthanc.received) == set(names(30, "good"))
    assert set(orthanc.objects) == set(bad)


def test_more_refused_objects_than_a_page_holds_do_not_hide_the_one_behind_them(
    orthanc: Orthanc, forwarder: Forwarder, clock: Clock
) -> None:
    bad = names(300, "bad")
    orthanc.arrive(*bad, "good")
    assert len(bad) > PARALLEL * BATCH
    for name in bad:
        forwarder.refused[name] = Refusal("no", 9, clock.now + 3000)
    steps(forwarder)
    assert orthanc.received == ["good"]
    assert set(orthanc.objects) == set(bad)


def test_a_refused_object_that_is_taken_later_is_forgotten_like_any_other(orthanc: Orthanc, forwarder: Forwarder, clock: Clock) -> None:
    orthanc.arrive("late")
    orthanc.unwanted = {"late"}
    forwarder.step()
    assert forwarder.refused.keys() == {"late"}
    orthanc.unwanted = set()
    clock.now += 60
    forwarder.step()
    assert orthanc.received == ["late"]
    assert (orthanc.objects, forwarder.refused) == ({}, {})


def test_twenty_refusals_in_a_row_are_the_servers_fault_and_no_more_is_tried_one_by_one(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive(*names(BATCH))
    orthanc.willing = False
    assert forwarder.step() > 1
    assert len(forwarder.refused) == REFUSALS_IN_A_ROW
    assert len(orthanc.sends) == 1 + REFUSALS_IN_A_ROW
    assert (forwarder.contact.reached, forwarder.contact.why) == (
        False,
        "it refuses every object: DicomAssociation - the association was refused",
    )
    forwarder.step()
    assert len(orthanc.sends) == 1 + REFUSALS_IN_A_ROW + 2, "one batch, and one object of it"


def test_one_that_is_taken_begins_the_count_anew(orthanc: Orthanc, forwarder: Forwarder) -> None:
    bad = names(2 * REFUSALS_IN_A_ROW - 2, "bad")
    orthanc.unwanted = set(bad)
    for some in (bad[: len(bad) // 2], ["good"], bad[len(bad) // 2 :]):
        orthanc.arrive(*some)
        forwarder.step()
    assert len(forwarder.refused) == len(bad)
    assert forwarder.contact.reached


def test_a_server_that_takes_nothing_is_an_alarm_though_it_answers_echoes(
    orthanc: Orthanc, forwarder: Forwarder, clock: Clock, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.arrive(*names(300))
    orthanc.willing = False
    for _ in range(40):
        clock.now += forwarder.step()
    watch.tick()
    assert "server" in watch.status.alarms()
    assert [line["what"] for line in logged(capsys)].count("server not reached") == 1, "it does not come and go"


def test_after_a_time_of_refusals_everything_goes_at_once(orthanc: Orthanc, forwarder: Forwarder, clock: Clock) -> None:
    orthanc.arrive(*names(60))
    orthanc.willing = False
    for _ in range(9):
        clock.now += forwarder.step()
    assert len(forwarder.refused) > REFUSALS_IN_A_ROW
    assert orthanc.received == []
    orthanc.willing = True
    steps(forwarder)
    steps(forwarder)
    assert sorted(orthanc.received) == names(60)
    assert (orthanc.objects, forwarder.refused, forwarder.contact.reached) == ({}, {}, True)


@pytest.mark.parametrize(("count", "seconds"), [(15, 0), (60, 30), (1000, 300)])
def test_a_whole_study_that_is_refused_does_not_block_the_next(
    orthanc: Orthanc, forwarder: Forwarder, clock: Clock, count: int, seconds: int
) -> None:
    bad = names(count, "bad")
    orthanc.arrive(*bad, *names(10, "good"))
    orthanc.unwanted = set(bad)
    began = clock.now
    while len(orthanc.received) < 10 and clock.now < began + 1000:
        clock.now += forwarder.step()
    assert set(orthanc.received) == set(names(10, "good"))
    assert clock.now - began <= seconds


def test_an_outage_is_nobodys_fault_and_is_asked_about_ever_more_rarely(
    orthanc: Orthanc, forwarder: Forwarder, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.arrive(*names(10))
    orthanc.answers = False
    pauses = []
    for _ in range(8):
        pauses.append(forwarder.step())
        clock.now += pauses[-1]
    assert pauses == [2, 4, 8, 16, 30, 30, 30, 30]
    assert forwarder.refused == {}
    assert set(orthanc.objects) == set(names(10))
    assert not forwarder.contact.reached
    assert forwarder.contact.since == STARTED
    orthanc.answers = True
    assert forwarder.step() == 0.0
    assert sorted(orthanc.received) == names(10)
    assert forwarder.step() == 1.0, "the pause is the usual one again"
    lost, again, forwarded = logged(capsys)
    assert (lost["what"], lost["why"]) == ("server not reached", "DicomAssociation - connecting to AET 'ORTHANC': refused")
    assert (again["what"], again["after_seconds"]) == ("server reached again", sum(pauses))
    assert (forwarded["what"], forwarded["objects"], forwarded["seconds"]) == ("forwarded", 10, 0)


def test_an_idle_gateway_still_asks_whether_the_server_answers(orthanc: Orthanc, forwarder: Forwarder, clock: Clock) -> None:
    def greetings() -> int:
        return orthanc.calls.count(("POST", "/modalities/server/echo"))

    forwarder.step()
    forwarder.step()
    assert greetings() == 1
    clock.now += 60
    orthanc.answers = False
    forwarder.step()
    assert greetings() == 2
    assert not forwarder.contact.reached
    clock.now += 1
    forwarder.step()
    assert greetings() == 3, "while it does not answer, each time"


def test_after_an_outage_it_asks_at_once_though_nothing_waits_any_more(orthanc: Orthanc, forwarder: Forwarder) -> None:
    forwarder.step()
    orthanc.arrive("a")
    orthanc.answers = False
    forwarder.step()
    orthanc.objects.clear()
    orthanc.answers = True
    forwarder.step()
    assert forwarder.contact.reached


def test_a_change_that_appears_late_under_a_lower_number_is_found(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive("a", "b")
    orthanc.changes += 400
    orthanc.arrive(*names(500))
    forwarder.step()
    orthanc.arrive("slow", change=1)  # its transaction began before those that were seen, and ended after
    forwarder.step()
    assert "slow" in orthanc.received, "at once, though there is more to come"
    steps(forwarder)
    assert orthanc.objects == {}


def test_a_late_change_is_found_while_all_that_waits_is_refused(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.changes += 400
    orthanc.arrive("bad")
    orthanc.unwanted = {"bad"}
    for _ in range(3):
        forwarder.step()
    orthanc.arrive("slow", change=1)
    forwarder.step()
    assert orthanc.received == ["slow"]


def test_what_somebody_dropped_vanishes_from_what_is_refused(orthanc: Orthanc, forwarder: Forwarder, clock: Clock) -> None:
    orthanc.arrive("bad", "worse")
    orthanc.unwanted = {"bad", "worse"}
    forwarder.step()
    del orthanc.objects["bad"]
    clock.now += 59
    forwarder.step()
    assert forwarder.refused.keys() == {"bad", "worse"}
    clock.now += 2
    del orthanc.objects["worse"]
    steps(forwarder)
    assert forwarder.refused == {}


def test_idle_time_is_used_to_notice_what_was_dropped(orthanc: Orthanc, forwarder: Forwarder, clock: Clock) -> None:
    orthanc.arrive("bad")
    orthanc.unwanted = {"bad"}
    forwarder.step()
    forwarder.refused["bad"].due = clock.now + 3600
    del orthanc.objects["bad"]
    clock.now += 60
    forwarder.step()
    assert forwarder.refused == {}


def test_an_object_that_is_there_is_not_taken_for_dropped_whatever_the_status(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive("kept")
    orthanc.fails = lambda method, path: 404 if (method, path) == ("POST", "/modalities/server/store") else 0
    forwarder.step()
    assert forwarder.refused.keys() == {"kept"}


def test_a_queue_in_trouble_does_not_say_that_an_object_is_gone(orthanc: Orthanc, queue: Queue) -> None:
    orthanc.arrive("a")
    orthanc.fails = lambda _method, _path: 503
    with pytest.raises(Failed):
        queue.has("a")
    orthanc.fails = lambda _method, _path: 0
    assert (queue.has("a"), queue.has("b")) == (True, False)


def test_one_that_vanishes_while_its_batch_is_sent_holds_up_none_of_the_others(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive("a", "b")
    arrivals = forwarder.queue.arrivals

    def and_then_gone(since: int, limit: int) -> tuple[list[tuple[str, float]], int, bool]:
        found = arrivals(since, limit)
        orthanc.objects.pop("a", None)
        return found

    forwarder.queue.arrivals = and_then_gone  # type: ignore[method-assign]
    forwarder.step()
    assert orthanc.received == ["b"]
    assert forwarder.refused == {}


def test_a_forwarder_that_dies_between_acknowledgement_and_deletion_sends_it_once_more(
    orthanc: Orthanc, queue: Queue, clock: Clock
) -> None:
    orthanc.arrive("a")
    orthanc.fails = lambda method, _path: -1 if method == "DELETE" else 0
    with pytest.raises(OSError, match="broke off"):
        Forwarder(queue, clock).step()
    assert set(orthanc.objects) == {"a"}
    orthanc.fails = lambda _method, _path: 0
    steps(Forwarder(queue, clock))
    assert orthanc.received == ["a", "a"]
    assert orthanc.objects == {}


def test_one_that_is_gone_already_is_no_error_to_forget(orthanc: Orthanc, queue: Queue) -> None:
    queue.forget("gone")
    orthanc.fails = lambda _method, _path: 500
    with pytest.raises(Failed, match="as the test wants it"):
        queue.forget("gone")


@pytest.mark.parametrize("how", [-1, 503, 401])
def test_a_queue_that_does_not_answer_loses_nothing_and_is_tried_again(orthanc: Orthanc, forwarder: Forwarder, how: int) -> None:
    orthanc.arrive(*names(3))
    orthanc.fails = lambda _method, _path: how
    with pytest.raises((OSError, Failed)):
        forwarder.step()
    orthanc.fails = lambda _method, _path: 0
    steps(forwarder)
    assert sorted(orthanc.received) == names(3)


def test_an_object_that_is_not_read_to_its_end_leaves_no_connection_open(orthanc: Orthanc, queue: Queue) -> None:
    orthanc.arrive("a", content=bytes(2**20))
    with queue.file("a") as (content, size):
        assert (content.read(1), size) == (b"\0", 2**20)
    assert content.closed


def test_a_queue_that_breaks_off_while_it_sends_loses_nothing(orthanc: Orthanc, forwarder: Forwarder) -> None:
    orthanc.arrive(*names(60))
    broken = iter([True])
    orthanc.fails = lambda _method, path: -1 if path.endswith("/store") and next(broken, False) else 0
    with pytest.raises(OSError, match="broke off"):
        forwarder.step()
    steps(forwarder)
    assert sorted(orthanc.received) == names(60)
    assert (orthanc.objects, forwarder.refused) == ({}, {})


def test_a_queue_that_takes_a_question_and_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(OSError, match="timed out"):
        Queue("127.0.0.1", mute.getsockname()[1], PASSWORD)._ask("GET", "/system", seconds=0.1)


def test_no_question_has_no_end(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float | None] = []

    def connect(_host: str, _port: int, timeout: float | None = None) -> NoReturn:
        patience.append(timeout)
        raise ConnectionRefusedError

    monkeypatch.setattr(http.client, "HTTPConnection", connect)
    for ask in (queue.size, queue.file("a").__enter__, lambda: program._asked("/health")):
        with pytest.raises(ConnectionRefusedError):
            ask()
    assert len(patience) == 3
    assert None not in patience


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"Message": "Error in the network protocol", "Details": "the association was refused"}', "the association was refused"),
        (b'{"Message": "Error in the network protocol", "Details": ""}', "Error in the network protocol"),
        (b'{"Message": "Error in the network protocol"}', "Error in the network protocol"),
        (b'{"Status": 500}', "{'Status': 500}"),
        (b"[500]", "[500]"),
        (b"<html>", "<html>"),
        (b"\xff", "\ufffd"),
        (b"", "no reason given"),
    ],
)
def test_the_reason_of_a_failure_is_the_closest_that_orthanc_tells(content: bytes, told: str) -> None:
    assert program._reason(content) == told


def test_the_queue_is_where_its_configuration_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "HOME", tmp_path)
    (tmp_path / "password").write_text("secret\n")
    queue = program._queue()
    assert (queue.host, queue.port, queue.login) == ("orthanc", ORTHANC_HTTP_PORT, Queue("", 0, "secret").login)


def test_a_wrong_password_is_not_answered(port: int) -> None:
    with pytest.raises(Failed) as refused:
        Queue("127.0.0.1", port, "guessed").size()
    assert refused.value.status == 401


# -- alarms ----------------------------------------------------------------------------------------------------------------

WELL: Mapping[str, Any] = {
    "now": STARTED,
    "aet": "CT1",
    "server": "ORTHANC at 192.0.2.10:11112",
    "certificate_ends": STARTED + 31 * 86400,
    "late_minutes": 15,
    "contact": Contact(since=STARTED - 9000),
    "answered": STARTED - 60,
    "waiting": 3,
    "size": 79 * 10**6,
    "bound": 100 * 10**6,
    "oldest": STARTED - 15 * 60,
    "disk": 100,
    "disk_free": 5,
}
ILL: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "queue": ({"answered": STARTED - 61}, "the queue does not answer: equipment can't store"),
    "server": (
        {"contact": Contact(reached=False, since=STARTED - 901, why="refused")},
        "ORTHANC at 192.0.2.10:11112 has not been reached for 15 minutes: refused",
    ),
    "late": ({"oldest": STARTED - 901}, "the oldest object has waited 15 minutes"),
    "refused": (
        {"refused": {"abc": Refusal("0xA900", 1, 0)}},
        "ORTHANC at 192.0.2.10:11112 refuses 1 of the objects that wait: 0xA900",
    ),
    "full": ({"size": 80 * 10**6}, "the queue is 80 % full"),
    "disk": ({"disk": 1000, "disk_free": 49}, "the disk has 49 bytes left"),
    "certificate": ({"certificate_ends": STARTED + 29 * 86400}, "the certificate ends in 29 days: renew it"),
    "forwarder": ({"stale": True}, "the forwarder hangs"),
}


def test_a_gateway_that_is_well_has_no_alarm_up_to_the_last_second() -> None:
    assert Status(**WELL).alarms() == {}
    assert Status(**{**WELL, "oldest": None, "bound": 0, "contact": Contact(reached=False, since=STARTED - 900)}).alarms() == {}


@pytest.mark.parametrize("kind", ILL)
def test_each_alarm_comes_alone_and_says_what_it_means(kind: str) -> None:
    changes, text = ILL[kind]
    alarms = Status(**{**WELL, **changes}).alarms()
    assert alarms.keys() == {kind}
    assert text in alarms[kind]


def test_a_certificate_that_has_ended_is_called_so() -> None:
    assert Status(**{**WELL, "certificate_ends": STARTED - 1}).alarms() == {"certificate": "the certificate has ended: renew it"}
    assert Status(**{**WELL, "certificate_ends": STARTED + 3600}).alarms() == {"certificate": "the certificate ends in 0 days: renew it"}


def test_a_queue_that_nothing_is_known_of_is_not_full_and_nothing_waits_in_it() -> None:
    status = Status(**{**WELL, "bound": 0, "oldest": None})
    assert (status.percent, status.alarms()) == (0, {})
    assert "\northanc_gateway_waiting_oldest_seconds 0\n" in status.metrics()


def test_all_alarms_together_stand_in_what_people_read() -> None:
    ill = Status(**{**WELL, **{name: value for changes, _ in ILL.values() for name, value in changes.items()}})
    assert ill.alarms().keys() == ILL.keys()
    assert [line.removeprefix("ALARM        ") for line in ill.lines() if line.startswith("ALARM ")] == list(ill.alarms().values())


def test_what_people_read_says_how_it_stands() -> None:
    status = Status(**{**WELL, "sent": 12, "last_sent": STARTED - 30, "refused": {"abc": Refusal("0xA900", 2, 0)}})
    assert status.lines()[:7] == [
        "gateway      CT1",
        "server       ORTHANC at 192.0.2.10:11112: answers",
        "waiting      3 objects, 79 MB, the oldest for 15 minutes",
        "queue        79 % of 100 MB; the disk has 5 bytes left",
        "forwarded    12 since the start, the last one 30 s ago",
        "certificate  ends 2027-02-15",
        "refused      abc: 0xA900 (2 tries)",
    ]
    quiet = Status(**{**WELL, "contact": Contact(reached=False, since=STARTED - 7200, why="no route"), "oldest": None}).lines()
    assert "server       ORTHANC at 192.0.2.10:11112: not reached for 2 hours: no route" in quiet
    assert "forwarded    0 since the start, the last one never since the start" in quiet


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(119.4, "119 s"), (120, "2 minutes"), (7199, "119 minutes"), (7200, "2 hours"), (2 * 86400 - 1, "47 hours"), (2 * 86400, "2 days")],
)
def test_a_time_is_told_in_the_largest_unit_of_which_there_are_two(seconds: float, said: str) -> None:
    assert program._span(seconds) == said


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (10**6, "1 MB"), (999 * 10**6, "999 MB"), (15 * 10**8, "1.5 GB")]
)
def test_a_size_is_told_in_the_largest_unit(size: float, said: str) -> None:
    assert program._size(size) == said


def test_metrics_are_numbers_that_prometheus_reads() -> None:
    text = Status(**{**WELL, **ILL["late"][0], "sent": 7}).metrics()
    values = {name: float(value) for name, value in (line.split(" ") for line in text.splitlines())}
    assert text.endswith("\n")
    assert {name.removeprefix("orthanc_gateway_"): value for name, value in values.items()} == {
        "alarms": 1,
        "waiting_objects": 3,
        "waiting_bytes": 79e6,
        "waiting_oldest_seconds": 901,
        "queue_bound_bytes": 100e6,
        "disk_free_bytes": 5,
        "refused_objects": 0,
        "forwarded_objects_total": 7,
        "server_reached": 1,
        "certificate_seconds": 31 * 86400,
    }


def test_what_others_said_stays_text_in_the_page() -> None:
    page = Status(**{**WELL, "refused": {"abc": Refusal("<script>alert('x')</script>", 1, 0)}}).page()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page
    assert "<p class=bad>1 to look at</p>" in page
    assert "All is well." in Status(**WELL).page()


# -- the watch -------------------------------------------------------------------------------------------------------------

SAID = {"aet": "CT1", "server": "ORTHANC at 192.0.2.10:11112", "certificate_ends": STARTED + 9e6, "late_minutes": 15, "alarm_url": ""}


@pytest.fixture
def watch(queue: Queue, forwarder: Forwarder, tmp_path: Path) -> Watch:
    return Watch(queue, forwarder, SAID, disk=tmp_path)


class Pager:
    """Where alarms are posted. `answer` is the status that it gives; 0 for none that HTTP knows."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answer = 200


@pytest.fixture
def pager() -> Pager:
    return Pager()


@pytest.fixture
def posting(queue: Queue, forwarder: Forwarder, tmp_path: Path, pager: Pager) -> Iterator[Watch]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Content-Type"] == "application/json"
            if pager.answer == 0:
                self.wfile.write(b"nothing that HTTP knows\r\n\r\n")
                return
            if pager.answer == 200:
                pager.heard.append(body["text"])
            self.send_response(pager.answer)
            self.send_header("Location", "/moved")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """It would be noise."""

    with listening(Handler) as port:
        yield Watch(queue, forwarder, {**SAID, "alarm_url": f"http://127.0.0.1:{port}/hook"}, disk=tmp_path)


def test_the_watch_sees_what_waits(orthanc: Orthanc, watch: Watch) -> None:
    orthanc.arrive("a", "b", at="20270115T075000", content=b"1234")
    watch.tick()
    status = watch.status
    assert (status.waiting, status.size, status.bound) == (2, 8, 1000 * 1024 * 1024)
    assert status.oldest == ARRIVED - 600
    assert status.disk > status.disk_free > 0
    assert json.loads(status.json())["queue"] is True
    watch.forwarder.step()
    watch.tick()
    assert (watch.status.sent, watch.status.last_sent) == (2, STARTED)
    assert orthanc.calls.count(("GET", "/system")) == 1, "what does not change is asked for once"


def test_alarms_are_posted_when_they_come_change_and_go(orthanc: Orthanc, posting: Watch, clock: Clock, pager: Pager) -> None:
    posting.tick()
    posting.tick()
    assert pager.heard == ["gateway CT1: started, and all is well"]
    orthanc.arrive("a", at="20270115T074000")
    posting.tick()
    posting.tick()
    assert pager.heard[1:] == ["gateway CT1: the oldest object has waited 20 minutes"]
    orthanc.bound = 0
    posting.forwarder.refused["a"] = Refusal("0xA900", 1, clock.now)
    posting.tick()
    assert pager.heard[2:] == [
        "gateway CT1: the oldest object has waited 20 minutes; ORTHANC at 192.0.2.10:11112 refuses 1 of the objects that wait: 0xA900"
    ]
    orthanc.objects.clear()
    posting.forwarder.refused.clear()
    posting.tick()
    posting.tick()
    assert pager.heard[3:] == ["gateway CT1: all is well again"]


def test_an_alarm_that_stays_is_said_again_after_six_hours(orthanc: Orthanc, posting: Watch, clock: Clock, pager: Pager) -> None:
    orthanc.arrive("a", at="20270115T070000")
    posting.tick()
    clock.now += 6 * 3600
    posting.tick()
    assert len(pager.heard) == 1
    clock.now += 1
    posting.tick()
    posting.tick()
    assert len(pager.heard) == 2
    assert pager.heard[1] == "gateway CT1: the oldest object has waited 7 hours"
    orthanc.objects.clear()
    posting.tick()
    clock.now += 7 * 3600
    posting.tick()
    assert pager.heard[2:] == ["gateway CT1: all is well again"], "and nothing more, while nothing is wrong"


NOT_POSTED = {500: "500", 302: "302", 0: "BadStatusLine"}


@pytest.mark.parametrize("answer", NOT_POSTED)
def test_an_alarm_that_could_not_be_posted_is_posted_later_and_the_log_says_so_once(
    orthanc: Orthanc, posting: Watch, pager: Pager, capsys: pytest.CaptureFixture[str], answer: int
) -> None:
    orthanc.arrive("a", at="20270115T074000")
    pager.answer = answer
    for _ in range(3):
        posting.tick()
    lines = logged(capsys)
    assert [line["what"] for line in lines] == ["alarm", "alarm not posted"]
    assert NOT_POSTED[answer] in str(lines[1]["why"])
    pager.answer = 200
    posting.tick()
    posting.tick()
    assert len(pager.heard) == 1


def test_whoever_takes_alarms_and_never_answers_is_given_up(orthanc: Orthanc, posting: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float | None] = []

    def never(_opener: object, _request: object, timeout: float | None = None) -> NoReturn:
        patience.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", never)
    orthanc.arrive("a", at="20270115T070000")
    posting.tick()
    assert len(patience) == 1
    assert None not in patience


def test_without_an_address_alarms_stand_in_the_log(orthanc: Orthanc, watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    orthanc.arrive("a", at="20270115T074000")
    watch.tick()
    watch.tick()
    orthanc.objects.clear()
    watch.tick()
    assert [(line["what"], line.get("alarms")) for line in logged(capsys)] == [
        ("alarm", ["the oldest object has waited 20 minutes"]),
        ("all is well again", None),
    ]


def test_while_the_queue_does_not_answer_what_waited_still_waits(orthanc: Orthanc, posting: Watch, clock: Clock, pager: Pager) -> None:
    orthanc.arrive("a", at="20270115T074000")
    posting.tick()
    orthanc.fails = lambda _method, _path: -1
    clock.now += 30
    posting.tick()
    assert posting.status.waiting == 1
    assert posting.status.alarms().keys() == {"late"}, "it is not all well meanwhile"
    assert json.loads(posting.status.json())["queue"] is False
    clock.now += 31
    posting.tick()
    assert posting.status.alarms().keys() == {"late", "queue"}
    assert len(pager.heard) == 2
    orthanc.fails = lambda _method, _path: 0
    orthanc.bound = 5
    posting.tick()
    assert posting.status.alarms().keys() == {"late"}
    assert posting.status.bound == 5 * 1024 * 1024, "it came back with another"


@pytest.mark.parametrize("trouble", ["an error", "no JSON"])
def test_a_queue_that_answers_nonsense_is_one_that_does_not_answer(
    orthanc: Orthanc, watch: Watch, clock: Clock, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    orthanc.arrive("a")
    watch.tick()
    clock.now += 61
    if trouble == "an error":
        orthanc.fails = lambda _method, _path: 500
    else:
        monkeypatch.setattr(orthanc, "call", lambda *_: (200, b"<html>"))
    watch.tick()
    assert "queue" in watch.status.alarms()
    assert watch.status.waiting == 1


def test_a_watch_that_finds_no_queue_at_its_start_waits_a_minute_before_it_cries(
    orthanc: Orthanc, queue: Queue, forwarder: Forwarder, clock: Clock, tmp_path: Path
) -> None:
    orthanc.fails = lambda _method, _path: -1
    watch = Watch(queue, forwarder, SAID, disk=tmp_path)
    assert watch.status.alarms() == {}
    status = watch.status
    assert (status.waiting, status.size, status.bound, status.oldest) == (0, 0, 0, None)
    assert (status.sent, status.last_sent, status.refused) == (0, 0, {})
    clock.now += 61
    watch.tick()
    assert watch.status.alarms().keys() == {"queue"}


def test_no_log_and_no_status_names_a_patient(orthanc: Orthanc, watch: Watch, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    orthanc.arrive("bad", *names(30), content=b"DICM...DOE^JANE...19700101")
    orthanc.unwanted = {"bad"}
    steps(watch.forwarder)
    orthanc.answers = False
    clock.now += 4000
    watch.forwarder.step()
    watch.tick()
    said = capsys.readouterr()
    for text in (said.out, said.err, watch.status.page(), watch.status.json(), watch.status.metrics()):
        assert text or text == said.err
        assert "DOE" not in text
        assert "1970" not in text
    assert ("GET", "/instances/bad/file") not in orthanc.calls, "it never even looks into one"


# -- its page, and its commands --------------------------------------------------------------------------------------------


@pytest.fixture
def served(watch: Watch, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """The page on a free port, and the commands' queue the pretended one."""
    monkeypatch.setattr(program, "PORT", 0)
    monkeypatch.setattr(program, "_queue", lambda: Queue("127.0.0.1", port, PASSWORD))
    server = program._serve(watch)
    monkeypatch.setattr(program, "PORT", server.server_address[1])
    with running(server):
        yield watch


def ask(path: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", program.PORT, timeout=8)
    connection.request("GET", path)
    answer = connection.getresponse()
    length = answer.length
    text = answer.read().decode()
    connection.close()
    assert length == len(text.encode()), "whoever reads half of it notices"
    return answer.status, answer.headers["Content-Type"], text


def test_the_page_answers_what_it_says(served: Watch) -> None:
    assert ask("/health") == (200, "text/plain; charset=utf-8", "all is well\n")
    assert ask("/")[:2] == (200, "text/html; charset=utf-8")
    assert ask("/metrics") == (200, "text/plain; charset=utf-8", served.status.metrics())
    assert json.loads(ask("/status.json")[2])["alarms"] == []
    code, _, text = ask("/../etc/passwd")
    assert (code, text) == (404, "there are /, /health, /metrics and /status.json\n")


def test_health_is_bad_while_there_is_an_alarm(served: Watch, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["health"]) == 0
    orthanc.arrive("a", at="20270115T074000")
    served.tick()
    assert ask("/health")[::2] == (503, "the oldest object has waited 20 minutes\n")
    assert program.main(["health"]) == 1
    assert capsys.readouterr().out.endswith("the oldest object has waited 20 minutes\n")


@pytest.mark.usefixtures("served")
def test_a_watch_that_hangs_is_noticed_wherever_one_looks(clock: Clock) -> None:
    clock.now += 60
    assert ask("/health")[0] == 200
    clock.now += 1
    code, _, text = ask("/health")
    assert code == 503
    assert text.startswith("the forwarder hangs")
    assert "the forwarder hangs" in ask("/")[2]
    assert "orthanc_gateway_alarms 1\n" in ask("/metrics")[2]
    assert any("the forwarder hangs" in line for line in json.loads(ask("/status.json")[2])["lines"])


def test_status_answers_and_waiting_say_how_it_stands(
    served: Watch, orthanc: Orthanc, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.arrive("a", "b")
    served.tick()
    assert program.main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == served.status.lines()
    assert program.main(["waiting"]) == 0
    assert capsys.readouterr().out == "2\n"
    assert program.main(["answers"]) == 0
    orthanc.fails = lambda _method, _path: -1
    clock.now += 1
    served.tick()
    assert program.main(["answers"]) == 1
    assert program.main(["waiting"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("error: the queue broke off")
    orthanc.fails = lambda _method, _path: 500
    assert program.main(["waiting"]) == 1
    assert capsys.readouterr().err == "error: as the test wants it\n"


def test_without_a_forwarder_that_runs_each_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(program, "PORT", 9)
    for command in ("health", "status", "answers"):
        assert program.main([command]) == 1
        assert capsys.readouterr().err.startswith("error: ")


class Output:
    """Standard output that keeps its bytes."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()


def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[bytes, int, int]]:
    output = Output()
    monkeypatch.setattr(sys, "stdout", output)
    assert program.main(["save"]) == 0
    monkeypatch.undo()
    output.buffer.seek(0)
    with tarfile.open(fileobj=output.buffer) as archive:
        return {entry.name: (found.read(), entry.mode, int(entry.mtime)) for entry in archive if (found := archive.extractfile(entry))}


@pytest.mark.usefixtures("served")
def test_what_is_saved_is_every_waiting_object_as_it_is_and_it_still_waits(
    orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {name: os.urandom(100_000 + n) for n, name in enumerate(names(300))}
    for name, content in contents.items():
        orthanc.arrive(name, content=content)
    assert saved(monkeypatch) == {f"{name}.dcm": (content, 0o600, int(ARRIVED)) for name, content in contents.items()}
    assert len(orthanc.objects) == 300
    assert capsys.readouterr().err == "300 objects saved; they still wait\n"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("status", [500, 404])
def test_what_goes_on_to_the_server_meanwhile_or_can_not_be_read_keeps_none_of_the_others_from_being_saved(
    orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    orthanc.arrive("a", "broken", "gone", "z")

    def fails(_method: str, path: str) -> int:
        if path == "/instances/a/file":
            orthanc.objects.pop("gone", None)
        return status if path == "/instances/broken/file" else 0

    orthanc.fails = fails
    assert saved(monkeypatch).keys() == {"a.dcm", "z.dcm"}
    assert capsys.readouterr().err == "NOT SAVED: broken can't be read: as the test wants it\n2 objects saved; they still wait\n"


@pytest.mark.usefixtures("served")
def test_a_queue_that_breaks_off_while_it_is_saved_is_an_error(
    orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.arrive("a", "b")
    orthanc.fails = lambda _method, path: -1 if path == "/instances/b/file" else 0
    monkeypatch.setattr(sys, "stdout", Output())
    assert program.main(["save"]) == 1
    assert capsys.readouterr().err.startswith("error: the queue broke off")


def test_only_what_is_refused_can_be_dropped(served: Watch, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]) -> None:
    orthanc.arrive("bad", "good")
    served.forwarder.refused["bad"] = Refusal("0xA900", 1, STARTED)
    served.tick()
    assert program.main(["drop", "good"]) == 1
    assert capsys.readouterr().err == ("error: the server does not refuse good: only what it refuses can be dropped (./gateway status)\n")
    assert set(orthanc.objects) == {"bad", "good"}
    assert program.main(["drop", "bad"]) == 0
    assert capsys.readouterr().out == "dropped bad\n"
    assert set(orthanc.objects) == {"good"}


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["status", "now"], ["drop"], ["drop", "a", "b"], ["_queue"]])
def test_whatever_else_is_asked_is_answered_with_what_there_is(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(arguments) == 2
    assert capsys.readouterr().err == "usage: forwarder.py run | health | status | answers | waiting | save | drop ID\n"


def test_what_is_asked_of_the_file_itself_is_answered_by_its_exit_code() -> None:
    command = [sys.executable, str(ROOT / "config_templates/gateway/forwarder.py"), "frobnicate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.partition(":")[0]) == (2, "usage")


# -- running ---------------------------------------------------------------------------------------------------------------


def test_a_fault_that_comes_and_goes_is_logged_once_and_outlived(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    naps: list[float] = []
    faults: Iterator[Exception | None] = iter(
        [OSError("gone"), OSError("gone"), None, Failed(500, "gone"), ValueError("no JSON"), KeyError("Last")]
    )
    monkeypatch.setattr("time.sleep", naps.append)

    def work() -> float:
        try:
            fault = next(faults)
        except StopIteration:
            raise KeyboardInterrupt from None
        if fault is not None:
            raise fault
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        program._for_ever(work, 7)
    assert naps == [2, 2, 7, 2, 2, 2]
    assert [line["why"] for line in logged(capsys)] == ["gone", "gone", "no JSON", "'Last'"]


def _run_with(folder: Path, port: int, change: str) -> subprocess.Popen[str]:
    """`forwarder.py run` as a process of its own, whose queue is the pretended one."""
    code = f"""
import pathlib, sys
from config_templates.gateway import forwarder as f
f.HOME = pathlib.Path({str(folder)!r}); f.PORT = 0; f.TICK_SECONDS = 0.05
f._queue = lambda: f.Queue("127.0.0.1", {port}, {PASSWORD!r})
f.Watch.__init__.__defaults__ = (f.HOME,)
{change}
sys.exit(f.main(["run"]))
"""
    (folder / "gateway.json").write_text(json.dumps(SAID))
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=buffered)


def test_it_runs_and_sends_what_comes(orthanc: Orthanc, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orthanc.arrive("a")
    page = free_port()
    process = _run_with(tmp_path, port, f"f.PORT = {page}")
    try:
        eventually("the first is sent", lambda: orthanc.received == ["a"], 30)
        orthanc.arrive("b")
        eventually("the second is sent", lambda: orthanc.received == ["a", "b"], 30)
        eventually("both are forgotten", lambda: not orthanc.objects, 30)
        assert process.poll() is None
        monkeypatch.setattr(program, "PORT", page)
        assert program._asked("/health")[0] in {200, 503}, "its page is served"
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 10)[0], "docker logs shows a line when it is written"
    finally:
        process.kill()
        process.communicate()


def test_a_watch_that_dies_takes_the_process_with_it_so_that_docker_starts_it_again(port: int, tmp_path: Path) -> None:
    process = _run_with(tmp_path, port, "f.Watch.tick = lambda self: 1 / 0")
    try:
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "ZeroDivisionError: division by zero" in err
