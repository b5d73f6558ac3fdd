"""`make demo` cut off at each step, and what an earlier one may have left: with the real Docker, the next run heals it.

tests/laptop/test_interruptions.py does the same at each call of a pretended Docker.
"""

from __future__ import annotations

import signal
import socket

from laptop import demo
from laptop.docker import docker
from laptop.site import container_accounts
from tests.laptop.clone import Clone, ended, strike_down
from tests.laptop.test_interruptions import INTERRUPTED
from tests.service.stack import OTHER_PROJECT, Stack, eventually

PROJECT = OTHER_PROJECT
OURS = f"label=com.docker.compose.project={PROJECT}"


def containers(*filters: str) -> list[str]:
    listed = docker("ps", "--all", "--format", '{{.Label "com.docker.compose.service"}}', "--filter", OURS, *filters)
    return sorted(listed.split())


def cut_off(clone: Clone, line: str, by: signal.Signals, *, when_running: str = "") -> None:
    """Begin `make demo`, and end it when it has said `line` and the container `when_running` runs."""
    process = clone.start("demo")
    assert process.stdout is not None
    said = ""
    while line not in said:
        more = process.stdout.readline()
        assert more, f"it ended before it said {line!r}: {said}"
        said += more
    if when_running:
        running = ("--filter", "status=running")
        eventually(f"{when_running} runs", lambda: when_running in containers(*running), 60)
    strike_down(process, by)
    done = ended(process)
    if by == signal.SIGKILL:
        assert done.code == -by
    else:
        assert (done.code, done.err) == (130, INTERRUPTED)


def test_a_cluster_whose_making_was_cut_off_is_begun_anew(clone: Clone, stack: Stack) -> None:
    """As a power failure leaves it: PostgreSQL's first files are there, the rest, and Orthanc's role and database, are not."""
    clone.site.password("database")
    volume = f"{PROJECT}_database"
    labels = ("--label", f"com.docker.compose.project={PROJECT}", "--label", "com.docker.compose.volume=database")
    docker("volume", "create", *labels, volume)
    account = container_accounts()["postgres"]
    mounted = ("--user", f"{account.uid}:{account.gid}", "--volume", f"{volume}:/var/lib/postgresql", "--entrypoint", "bash")
    half = 'mkdir -p "$PGDATA" && echo 17 >"$PGDATA/PG_VERSION" && touch /var/lib/postgresql/unfinished'
    docker("run", "--rm", *mounted, stack.images.postgres, "-c", half)
    cut_off(clone, "C-ECHO: answered", signal.SIGKILL)  # it serves


def test_ctrl_c_before_and_while_containers_start_leaves_none_of_them(clone: Clone) -> None:
    demo.remove(clone.home)
    clone.plan(project=PROJECT)
    for line, service in (("==> Certificates", ""), ("starting, until", "postgres"), ("starting, until", "orthanc")):
        cut_off(clone, line, signal.SIGINT, when_running=service)
        assert containers() == []


def test_a_container_that_cannot_start_leaves_none_of_the_others(clone: Clone) -> None:
    """The port is taken only while the containers start, when it has been found free."""
    process = clone.start("demo")
    eventually("postgres is there", lambda: containers() != [], 60)
    with socket.create_server(("", clone.site.plan.web_port)):
        error = ended(process).error()
    assert "address already in use" in error or "port is already allocated" in error
    assert containers() == []


def test_kill_9_at_each_step_is_healed_by_the_next_run(clone: Clone) -> None:
    """Each of these runs starts from what the one before has left."""
    for line, service in (
        ("==> Certificates", ""),
        ("starting, until", "postgres"),
        ("starting, until", "orthanc"),
        ("starting, until", "nginx"),
        ("C-STORE: 2 images", ""),
    ):
        cut_off(clone, line, signal.SIGKILL, when_running=service)
    done = clone.run("demo")
    assert done.code == 0, done.err
    assert "images                  | 202" in done.out


def test_what_an_earlier_run_may_have_left_is_healed(clone: Clone) -> None:
    """Half a compose.yaml, no record of what was taken, a container that was made but never started, files under way."""
    assert clone.run("demo").code == 0
    docker("rm", "--force", f"{PROJECT}-nginx-1")
    (clone.home / "compose.yaml").write_text((clone.home / "compose.yaml").read_text()[:700])
    (clone.home / "taken.json").unlink()
    (clone.home / "run" / "nginx" / "nginx.conf.new").write_text("half")
    docker("stop", f"{PROJECT}-orthanc-1")
    done = clone.run("demo")
    assert done.code == 0, done.err
    assert "the study is there already" in done.out
    assert not (clone.home / "run" / "nginx" / "nginx.conf.new").exists()
    (clone.home / "compose.yaml").write_text("name: [half")
    assert clone.run("down").code == 0
    assert containers() == []
