"""One run of the agent after another on a pretended machine: what is disturbed, what is told, what is remembered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from orthanc_host import store
from orthanc_host.agent import DONE, REFUSED, UNPROVEN
from orthanc_host.decisions import GIVE_UP_AFTER, RESTART_AFTER, Pointer

from tests.host_program.pretended import GOOD, Pretended, agent

A = Pointer("bucket", "release.tar.gz", "1", "a" * 64)
B = Pointer("bucket", "release.tar.gz", "2", "b" * 64)
BAD = replace(GOOD, failed=("HTTPS: /changes was answered with 500",))
SICK = replace(BAD, database="the database system is starting up")


@pytest.fixture
def machine() -> Pretended:
    """A host on which release A was proven."""
    made = Pretended()
    made.lay(A)
    assert agent(made, A).run() == DONE
    return made


def test_the_first_run_brings_it_up_takes_the_address_and_tells(machine: Pretended) -> None:
    assert machine.running == {"orthanc": 1, "nginx": 1}
    assert machine.holder == "i-1"
    assert json.loads(machine.proven)["status"] == "proven"
    assert any("complete-lifecycle-action" in line for line in machine.ran)
    assert machine.metrics["Proof"] == 1
    assert machine.metrics["StoredBytes"] == 10**9
    (line,) = machine.lines
    assert (line["status"], line["ami"], line["versions"]["docker"], line["versions"]["kernel"]) == ("proven", "ami-1", "25", "6.1")
    assert line["durations"].keys() == {"apply", "prove"}


def test_files_belong_to_the_containers_that_read_them(machine: Pretended) -> None:
    assert machine.owners["/run/orthanc/orthanc/pgpass"] == (999, 999)
    assert machine.owners["/run/orthanc/nginx/server.key"] == (101, 101)
    assert machine.modes["/run/orthanc/nginx/server.key"] == 0o400
    assert machine.modes["/run/orthanc/nginx"] == 0o500
    assert machine.placed("orthanc/pgpass") == "db.example:5432:*:orthanc:a\\:b\\\\d1\n", "libpq wants : and \\ escaped"


def test_no_secret_is_an_argument(machine: Pretended) -> None:
    assert not [line for line in machine.ran if "a:b" in line]


def test_nothing_new_disturbs_nothing_and_fetches_no_secret(machine: Pretended) -> None:
    count, before = len(machine.ran), dict(machine.running)
    assert agent(machine, A).run() == DONE
    assert machine.running == before
    assert machine.since(count) == []
    assert not [line for line in machine.ran[count:] if "get-secret-value" in line or "put-parameter" in line or "download" in line]


@pytest.mark.parametrize(
    ("change", "disturbed"),
    [
        pytest.param({"nginx/server.crt": "certificate 2"}, ["reload"], id="a certificate: nginx reloads"),
        pytest.param({"nginx/nginx.conf": "another allow-list"}, ["reload"], id="the allow-list: nginx reloads"),
        pytest.param({"probe/modalities.json": "{}"}, [], id="modalities: nothing restarts"),
        pytest.param({"orthanc/inside-authority.crt": "x"}, ["restart orthanc", "compose up"], id="what Orthanc reads at start"),
        pytest.param({"compose.yaml": "another image"}, ["compose up"], id="an image: compose makes what changed anew"),
    ],
)
def test_only_what_changed_is_disturbed(machine: Pretended, change: dict[str, str], disturbed: list[str]) -> None:
    machine.lay(B, **change)
    count = len(machine.ran)
    assert agent(machine, B).run() == DONE
    found = machine.since(count)
    assert len(found) == len(disturbed), found
    for line, wanted in zip(found, disturbed, strict=True):
        assert wanted.replace("compose up", "up --detach") in line


def test_a_rotated_password_reaches_the_passfile_and_nobody_is_restarted(machine: Pretended) -> None:
    machine.database_version = "d2"
    count = len(machine.ran)
    assert agent(machine, A).run() == DONE
    assert "d2" in (machine.placed("orthanc/pgpass") or "")
    assert machine.since(count) == []


def test_an_interrupted_run_is_made_good_by_the_next(machine: Pretended) -> None:
    machine.lay(B, **{"nginx/server.crt": "certificate 2"})
    machine.refuses = "interrupted"
    broken = dict(machine.running)
    machine.running = {"orthanc": 1}  # nginx has died, and can't be brought up
    assert agent(machine, B).run() in (DONE, REFUSED)
    machine.refuses, machine.running = "", broken
    count = len(machine.ran)
    assert agent(machine, B).run() == DONE
    assert [line for line in machine.since(count) if "-s reload" in line]


@pytest.mark.parametrize("what", ["secretsmanager", "ssm", "logs", "cloudwatch", "ec2", "authorities", "metadata"])
def test_what_is_away_does_not_stop_a_service_that_runs(machine: Pretended, what: str) -> None:
    machine.away = {what}
    before = dict(machine.running)
    assert agent(machine, A).run() == DONE
    assert machine.running == before


def test_a_host_that_booted_while_secrets_are_away_waits_and_then_comes_up(machine: Pretended) -> None:
    machine.reboot()
    machine.away = {"secretsmanager"}
    assert agent(machine, A, BAD).run() == DONE
    assert machine.running == {}
    assert json.loads(machine.proven)["status"] == "waiting"
    assert store.load(machine).failures == 0
    machine.away = set()
    assert agent(machine, A).run() == DONE
    assert machine.running == {"orthanc": 1, "nginx": 1}


def test_the_authorities_of_last_time_serve_when_they_can_not_be_fetched(machine: Pretended) -> None:
    machine.time += 2 * 86400
    machine.away = {"authorities"}
    machine.reboot()
    assert agent(machine, A).run() == DONE
    assert machine.placed("orthanc/database-authority.crt")


def test_a_sick_database_is_waited_for(machine: Pretended) -> None:
    before = dict(machine.running)
    for _ in range(GIVE_UP_AFTER + 2):
        assert agent(machine, A, SICK).run() == DONE
    assert machine.running == before
    assert "starting up" in json.loads(machine.proven)["reason"]
    assert machine.metrics["Proof"] == 0


def test_a_bad_release_is_refused_and_the_old_one_tells_why(machine: Pretended) -> None:
    machine.lay(B)
    assert agent(machine, B, BAD).run() == REFUSED
    assert machine.metrics["ReleaseFailed"] == 1
    assert agent(machine, A, wanted=B).run() == DONE
    told = json.loads(machine.proven)
    assert (told["status"], told["release"]) == ("proven", A.sha256)
    assert "500" in told["refused"][B.sha256]
    assert (machine.metrics["Proof"], machine.metrics["ReleaseFailed"]) == (1, 1)


def test_a_release_that_is_good_at_the_second_look_is_taken(machine: Pretended) -> None:
    machine.lay(B)
    assert agent(machine, B, BAD, GOOD).run() == DONE
    assert store.load(machine).proven == B


def test_repeated_failures_restart_once_then_ask_for_another_host(machine: Pretended) -> None:
    codes = [agent(machine, A, BAD).run() for _ in range(GIVE_UP_AFTER)]
    assert codes == [UNPROVEN] * GIVE_UP_AFTER
    restarts = [n for n, line in enumerate(machine.ran) if "--force-recreate" in line]
    given_up = [n for n, line in enumerate(machine.ran) if "set-instance-health" in line]
    assert len(restarts) == len(given_up) == 1
    assert RESTART_AFTER < GIVE_UP_AFTER
    assert restarts < given_up


@pytest.mark.parametrize(
    ("causes", "gives_up"),
    [
        (["an instance was taken out of service in response to a user health-check."], True),
        (["an instance was taken out of service in response to a user health-check."] * 2, False),
        (["an instance was started in response to a difference between desired and actual capacity."] * 9, True),
    ],
)
def test_no_more_than_two_hosts_give_up_in_six_hours(machine: Pretended, causes: list[str], gives_up: bool) -> None:
    machine.causes = causes
    for _ in range(GIVE_UP_AFTER):
        agent(machine, A, BAD).run()
    assert any("set-instance-health" in line for line in machine.ran) is gives_up


def test_without_the_groups_history_no_host_gives_up(machine: Pretended) -> None:
    machine.away = {"autoscaling"}
    for _ in range(GIVE_UP_AFTER):
        agent(machine, A, BAD).run()
    assert not any("set-instance-health" in line for line in machine.ran)


def test_a_dying_host_does_not_take_the_address_back(machine: Pretended) -> None:
    machine.holder, machine.lifecycle = "i-2", "Terminated"
    assert agent(machine, A).run() == DONE
    assert machine.holder == "i-2"


def test_a_full_disk_makes_the_agent_forget_nothing(machine: Pretended) -> None:
    machine.free = 0
    full = replace(BAD, failed=("disk: 0 MB are free",))
    for _ in range(GIVE_UP_AFTER):
        agent(machine, A, full).run()
    assert any("image prune" in line for line in machine.ran)
    assert any("set-instance-health" in line for line in machine.ran)


def test_a_registry_that_is_away_is_no_fault_of_a_proven_release(machine: Pretended) -> None:
    machine.reboot()
    machine.images, machine.away = set(), {"registry"}
    for _ in range(GIVE_UP_AFTER):
        assert agent(machine, A, BAD).run() == DONE
    assert not any("set-instance-health" in line for line in machine.ran)


def test_a_modality_that_was_revoked_by_hand_leaves_the_allow_list_until_the_pointer_moves(machine: Pretended) -> None:
    store.save(machine, replace(store.load(machine), revoked={"CT1": A.sha256}))
    assert agent(machine, A).run() == DONE
    assert "CT1" not in (machine.placed("nginx/nginx.conf") or "CT1")
    machine.lay(B)
    assert agent(machine, B).run() == DONE
    assert "CT1" in (machine.placed("nginx/nginx.conf") or "")


def test_state_outlives_a_reboot(machine: Pretended) -> None:
    before = store.load(machine)
    machine.reboot()
    assert store.load(machine) == before
    assert before.proven == A


def test_releases_that_nobody_goes_back_to_are_removed(machine: Pretended) -> None:
    for number in range(9):
        release = Pointer("bucket", "release.tar.gz", "1", f"{number}" * 64)
        machine.lay(release)
        assert agent(machine, release).run() == DONE
    left = machine.names(agent(machine, release).folder.parent)
    assert len(left) == 4
    assert release.sha256 in left
