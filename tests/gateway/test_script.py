"""A site gateway's own script, as the computer at the site runs it, with a `docker` that is what a test says it is."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config_templates.gateway import CERTIFICATES, KEY, render_gateway
from laptop.private import write
from tests.laptop.clone import Said, ended
from tests.rendering.test_gateway import gateway
from tests.service.stack import eventually

# A Docker whose containers run once compose has been told `up`. Files beside it say how it behaves; `calls` is what it was asked.
ENGINE = r"""
folder=$(dirname "$0")
echo "$*" >>"$folder/calls"
is() { [ -e "$folder/$1" ]; }
case "$*" in
  "compose version"*) is no-compose && exit 1 ;;
  version*) is dead && exit 1 ;;
  info*) cat "$folder/info" 2>/dev/null ;;
  "image inspect "*) is images && { grep -qxF "$3" "$folder/images" || exit 1; } ;;
  "pull "*)
    is no-registry && { echo "Error response from daemon: dial tcp: lookup registry: no such host" >&2; exit 1; }
    echo "$2" >>"$folder/images" ;;
  "ps --all"*) cat "$folder/folders" 2>/dev/null ;;
  "compose ps --quiet "*) is running && echo c0ffee ;;
  "compose up "*)
    cp orthanc/bound.json "$folder/bound-at-up.json"
    is up-fails && { echo "Error response from daemon: port is already allocated" >&2; exit 1; }
    touch "$folder/running" ;;
  "compose down"*) rm -f "$folder/running" ;;
  "compose stop"*" nginx") touch "$folder/door-shut" ;;
  "compose start nginx") rm -f "$folder/door-shut" ;;
  "compose logs"*) echo "what they said" ;;
  *" -s reload") is anew && exit 1 ;;
  *"nginx -q -t "*) is nginx-refuses && { echo "key values mismatch" >&2; exit 1; } ;;
  *" answers"|*" exec -T nginx bash "*) is mute && exit 1 ;;
  *" waiting") is running || exit 1; cat "$folder/waiting" 2>/dev/null || echo 0 ;;
  *" save") echo half; is hangs && { touch "$folder/hanging"; sleep 60; }; is save-fails && exit 1; echo whole ;;
  *" status") echo "gateway      SITE" ;;
  *" drop "*) echo "dropped ${*##* }" ;;
esac
exit 0
"""


class Site:
    """A gateway's folder on its computer."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "my gateway"
        self.programs = home / "programs"
        self.lay()
        self.program("docker", ENGINE)
        self.program("sleep", f'echo "$1" >>"{self.programs}/slept"\n')  # as time goes by

    def lay(self, **changes: object) -> None:
        """As `make gateway` writes it, over what is there."""
        for name, text in render_gateway(gateway(**changes)).items():
            write(self.folder / name, text, 0o700 if name == "gateway" else 0o600)
        for name in (KEY, *CERTIFICATES):
            write(self.folder / name, f"PRETENDED {name}\n")

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def say(self, name: str, text: str = "") -> None:
        (self.programs / name).write_text(text)

    def unsay(self, name: str) -> None:
        (self.programs / name).unlink()

    def calls(self, words: str = "") -> list[str]:
        path = self.programs / "calls"
        return [line for line in path.read_text().splitlines() if words in line] if path.exists() else []

    def begin(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.folder / "gateway"), *arguments],
            cwd=cwd or self.folder,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None) -> Said:
        return ended(self.begin(*arguments, cwd=cwd), 60)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def ran(said: Said) -> str:
    assert said.code == 0, (said.out, said.err)
    return said.out


OWNER = "60112:60112" if os.geteuid() == 0 else f"{os.getuid()}:{os.getgid()}"
SECRETS = ("forwarder/password", "postgres/superuser-password", "orthanc/users.json")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_it_is_sound(tmp_path: Path) -> None:
    script = tmp_path / "gateway"
    script.write_text(render_gateway(gateway())["gateway"])
    command = [str(Path(sys.executable).parent / "shellcheck"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("--help",)])
def test_whatever_else_is_asked_is_answered_with_what_there_is(site: Site, arguments: tuple[str, ...]) -> None:
    said = site.run(*arguments)
    assert said.code == 2
    offered = set(re.findall(r"(?m)^\./gateway (\w+)", said.out))
    assert offered == set(re.findall(r"(?m)^(\w+)\)", render_gateway(gateway())["gateway"]))
    assert site.calls() == []


# -- start -----------------------------------------------------------------------------------------------------------------


def test_it_starts_and_says_how_it_stands_and_what_to_set(site: Site) -> None:
    out = ran(site.run("start"))
    assert "gateway      SITE" in out
    assert "Equipment stores at port 11112, and asks at port 11113." in out
    assert site.calls("compose up") == ["compose up --detach --remove-orphans"]
    uid, gid = OWNER.split(":")
    assert site.read(".env") == f"GATEWAY_UID={uid}\nGATEWAY_GID={gid}\n"


def test_its_secrets_are_made_once_for_their_reader_alone_and_are_no_argument(site: Site) -> None:
    ran(site.run("start"))
    before = {name: site.read(name) for name in SECRETS}
    password = before["forwarder/password"]
    assert re.fullmatch(r"[0-9a-f]{48}", password)
    assert password != before["postgres/superuser-password"]
    assert before["orthanc/users.json"] == f'{{"RegisteredUsers": {{"forwarder": "{password}"}}}}\n'
    for name in (*SECRETS, "orthanc/bound.json"):
        found = (site.folder / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600, name
        assert f"{found.st_uid}:{found.st_gid}" == OWNER, name
    for name in ("pixels", "index", "watch"):
        assert stat.S_IMODE((site.folder / "queue" / name).stat().st_mode) == 0o700
    ran(site.run("start"))
    assert {name: site.read(name) for name in SECRETS} == before
    assert not [line for line in site.calls() if password in line]
    assert list(site.folder.rglob("*.new")) == []


def test_a_folder_that_is_renewed_keeps_secrets_and_queue_and_nginx_takes_the_new_certificate(site: Site) -> None:
    ran(site.run("start"))
    assert site.calls("-s reload") == [], "it has just read it"
    before = {name: site.read(name) for name in SECRETS}
    (site.folder / "queue/pixels/waits").write_text("x")
    site.lay(certificate_ends=1_900_000_000)
    ran(site.run("start"))
    assert {name: site.read(name) for name in SECRETS} == before
    assert site.has("queue/pixels/waits")
    assert len(site.calls("-s reload")) == 1


def test_an_nginx_that_was_made_anew_and_does_not_listen_yet_has_the_new_certificate_anyway(site: Site) -> None:
    ran(site.run("start"))
    site.say("anew")
    assert "Equipment stores at port" in ran(site.run("start"))
    assert site.calls(" -s reload")


def test_a_certificate_that_does_not_belong_to_its_key_is_told_instead_of_the_old_one_kept_in_silence(site: Site) -> None:
    ran(site.run("start"))
    site.say("nginx-refuses")
    said = site.run("start")
    assert said.error().startswith("nginx does not take what lies in nginx/: see above. Do certificate and key belong together?")
    assert "key values mismatch" in said.err
    assert site.calls("-s reload") == []
    assert site.has("../programs/running"), "what ran runs on"


def test_images_that_are_there_are_not_asked_for_and_a_missing_one_alone_is_pulled_before_anything_starts(site: Site) -> None:
    one = gateway()
    ran(site.run("start"))
    assert site.calls("pull ") == [], "a line that is down keeps no gateway from starting"
    site.say("images", f"{one.orthanc_image}\n{one.postgres_image}\n")
    ran(site.run("start"))
    assert site.calls("pull ") == [f"pull {one.nginx_image}"]
    calls = site.calls()
    assert calls.index(f"pull {one.nginx_image}") < len(calls) - 1 - calls[::-1].index("compose up --detach --remove-orphans")
    assert {line for line in calls if line.startswith("image inspect ")} == {
        f"image inspect {image}" for image in (one.orthanc_image, one.nginx_image, one.postgres_image)
    }


def test_an_image_that_can_not_be_had_is_named_with_what_to_do_and_nothing_is_made(site: Site) -> None:
    one = gateway()
    site.say("images", f"{one.orthanc_image}\n")
    site.say("no-registry")
    said = site.run("start")
    assert said.error() == (
        f"the image {one.nginx_image} is not here and could not be pulled: see above. Let this computer reach the registry by HTTPS, "
        "here or once before it comes to the site (./gateway pull), and start again."
    )
    assert "no such host" in said.err
    assert not [made for made in (*SECRETS, ".env", "queue") if site.has(made)]
    assert site.calls("compose up") == site.calls("compose down") == []
    site.unsay("no-registry")
    ran(site.run("start"))


def test_images_can_be_fetched_before_the_computer_comes_to_the_site(site: Site) -> None:
    site.say("images")
    ran(site.run("pull"))
    assert not [made for made in (*SECRETS, ".env", "queue") if site.has(made)]
    site.say("no-registry")
    ran(site.run("start"))
    assert len(site.calls("pull ")) == 3


def test_the_images_of_a_try_on_one_machine_are_not_looked_for_at_a_registry(site: Site) -> None:
    site.lay(nginx_image=f"sha256:{'a' * 64}")
    site.say("images", f"{gateway().orthanc_image}\n")
    assert site.run("start").error() == (
        f"the image sha256:{'a' * 64} is only on the machine that wrote this folder. Write the folder with STACK=..., for any computer."
    )
    assert site.calls("pull ") == site.calls("compose up") == []


def test_a_running_one_runs_on_when_the_images_of_a_renewed_folder_can_not_be_had(site: Site) -> None:
    ran(site.run("start"))
    before = site.calls("compose ")
    site.say("images")
    site.say("no-registry")
    assert site.run("start").error().startswith(f"the image {gateway().orthanc_image} is not here")
    assert [line for line in site.calls("compose ")[len(before) :] if line.split()[1] not in ("version", "ps")] == []
    assert site.has("../programs/running")


@pytest.mark.parametrize("name", [KEY, *CERTIFICATES])
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_without_key_or_certificates_nothing_is_made(site: Site, name: str, how: str) -> None:
    path = site.folder / name
    path.write_text("") if how == "empty" else path.unlink()
    error = site.run("start").error()
    assert error == f"{name} is missing. Put it there (PEM; the key without a passphrase), and start again."
    assert not [made for made in (*SECRETS, ".env", "queue") if site.has(made)]
    assert site.calls("compose up") == []


def test_a_second_user_is_told_who_started_it(site: Site) -> None:
    (site.folder / ".env").write_text("GATEWAY_UID=4711\nGATEWAY_GID=100\n")
    error = site.run("start").error()
    assert error == "another user started it before (4711; 60112 is root's). Start it as that one."
    assert site.calls("compose up") == []
    assert site.read(".env") == "GATEWAY_UID=4711\nGATEWAY_GID=100\n"


@pytest.mark.parametrize(
    "info", [" Security Options:\n  seccomp\n   Profile: builtin\n  rootless\n", " Operating System: Docker Desktop\n"]
)
def test_a_docker_that_hides_where_calls_come_from_is_not_used(site: Site, info: str) -> None:
    site.say("info", info)
    assert site.run("start").error().startswith("this Docker (rootless, or Docker Desktop) hides where a connection comes from.")
    assert site.calls("compose up") == []
    site.say("info", " Operating System: Debian GNU/Linux 13\n Security Options:\n  seccomp\n   Profile: builtin\n")
    ran(site.run("start"))


@pytest.mark.parametrize("command", ["start", "status", "remove"])
def test_a_docker_that_does_not_answer_is_told_before_anything_is_made(site: Site, command: str) -> None:
    site.say("dead")
    assert site.run(command).error() == "Docker does not answer, or not to you. Start it (systemctl start docker), or use sudo."
    assert not [made for made in (*SECRETS, ".env", "queue") if site.has(made)]


def test_another_system_and_a_missing_compose_are_told(site: Site) -> None:
    site.say("no-compose")
    assert site.run("start").error() == "Docker or its compose plugin is not there. Install Docker Engine."
    site.program("uname", "echo Darwin\n")
    assert site.run("start").error().startswith("this is Darwin, where Docker hides where a connection comes from.")
    assert not site.has(".env")


@pytest.mark.parametrize("command", ["start", "remove"])
def test_two_at_once_do_not_get_in_each_others_way(site: Site, command: str) -> None:
    ran(site.run("start"))
    count = len(site.calls("compose up")) + len(site.calls("compose down"))
    other = os.open(site.folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert site.run(command).error() == "another ./gateway start or remove is at work here. Wait until it has ended."
    assert len(site.calls("compose up")) + len(site.calls("compose down")) == count
    ran(site.run("status"))
    os.close(other)
    ran(site.run(command))


def test_a_system_without_flock_starts_without_a_lock(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BusyBox may be built without it."""
    programs = tmp_path / "without flock"
    programs.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if program.name != "flock" and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    ran(site.run("start"))


def test_a_copy_of_the_folder_is_no_second_queue_for_the_same_gateway(site: Site, tmp_path: Path) -> None:
    ran(site.run("start"))
    first = site.folder
    site.say("folders", f"{first}\n{first}\n")
    ran(site.run("start"))
    site.folder = tmp_path / "renewed"
    site.lay()
    error = site.run("start").error()
    assert error == (
        f"it was started in {first}, which has a queue of its own. Was it renewed? Copy these files over those, and start it there. "
        "Was it moved with its queue? Rename the queue there, and start again."
    )
    assert not [made for made in (*SECRETS, ".env", "queue") if site.has(made)]
    site.say("folders", f"{site.folder}\n{first}\n{shutil.copytree(first, tmp_path / 'z')}\n")
    assert site.run("start").error().startswith(f"it was started in {first}, which"), "the first of two"
    asked = site.calls("ps --all")[-1]
    assert "--filter label=com.docker.compose.project=orthanc-gateway-site " in asked
    assert '{{.Label "com.docker.compose.project.working_dir"}}' in asked


def test_a_folder_that_was_copied_with_its_queue_starts_once_the_older_queue_is_out_of_the_way(site: Site, tmp_path: Path) -> None:
    ran(site.run("start"))
    first = site.folder
    site.say("folders", f"{first}\n")
    site.folder = Path(shutil.copytree(first, tmp_path / "copied"))
    assert site.run("start").code == 1
    (first / "queue").rename(first / "queue.old")
    ran(site.run("start"))


def test_a_folder_that_was_moved_with_its_queue_starts_where_it_lies(site: Site, tmp_path: Path) -> None:
    ran(site.run("start"))
    site.say("folders", f"{site.folder}\n")
    site.folder = site.folder.rename(tmp_path / "moved")
    ran(site.run("start"))


def test_it_knows_its_folder_by_a_link_too(site: Site, tmp_path: Path) -> None:
    ran(site.run("start"))
    site.say("folders", f"{site.folder}\n")
    link = tmp_path / "link"
    link.symlink_to(site.folder)
    site.folder = link
    ran(site.run("start"))


def test_a_first_start_that_docker_refuses_leaves_nothing_half_started(site: Site) -> None:
    site.say("up-fails")
    said = site.run("start")
    assert said.error() == "Docker could not start it: see above. What waits is kept."
    assert "port is already allocated" in said.err
    assert site.calls("compose down") == ["compose down"], "without --volumes"
    site.unsay("up-fails")
    ran(site.run("start"))


def test_a_running_one_runs_on_when_docker_refuses_the_change(site: Site) -> None:
    ran(site.run("start"))
    site.say("up-fails")
    assert site.run("start").error().startswith("Docker could not start it")
    assert site.calls("compose down") == []


def test_one_that_does_not_serve_is_told_with_what_its_containers_say(site: Site) -> None:
    site.say("mute")
    said = site.run("start")
    assert said.error() == "it does not serve after three minutes: see above. What waits is kept."
    assert "what they said" in said.err
    slept = (site.programs / "slept").read_text().split()
    assert 170 <= sum(map(int, slept)) <= 180


# -- the bound -------------------------------------------------------------------------------------------------------------


def bound(site: Site) -> int:
    found = re.fullmatch(r'\{"MaximumStorageSize": (\d+)\}\n', site.read("orthanc/bound.json"))
    assert found is not None
    return int(found[1])


def disk(site: Site, free_mb: int, used_mb: int = 0) -> None:
    site.program("df", f"echo Filesystem; echo /dev/x 9 9 {free_mb * 1024} 9% /\n")
    site.program("du", f"echo {used_mb * 1024} queue\n")


def test_four_fifths_of_the_disk_may_wait_what_waits_already_counted(site: Site) -> None:
    disk(site, free_mb=1000, used_mb=500)
    ran(site.run("start"))
    assert bound(site) == 1200


def test_a_bound_that_was_asked_for_is_kept_to_unless_the_disk_is_smaller(site: Site) -> None:
    site.lay(queue_mb=300)
    disk(site, free_mb=1000)
    ran(site.run("start"))
    assert bound(site) == 300
    ran(site.run("stop"))
    site.unsay("running")
    disk(site, free_mb=250)
    ran(site.run("start"))
    assert bound(site) == 200


def test_a_running_one_keeps_its_bound(site: Site) -> None:
    disk(site, free_mb=1000)
    ran(site.run("start"))
    disk(site, free_mb=500)
    ran(site.run("start"))
    assert bound(site) == 800
    site.unsay("running")
    ran(site.run("start"))
    assert bound(site) == 400


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@needs_root
def test_a_disk_that_is_too_small_is_told_with_its_figures(small_disk: Path) -> None:
    site = Site(small_disk)
    error = site.run("start").error()
    found = re.fullmatch(r"the disk under (.*)/queue has room for (\d+) MB, and 100 are the least. Make room, and start again.", error)
    assert found is not None, error
    assert found[1] == str(site.folder)
    assert 70 <= int(found[2]) < 80
    assert site.calls("compose up") == []
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    ran(site.run("start"))
    assert 140 <= bound(site) <= 160


@needs_root
def test_a_full_disk_makes_no_half_secret(small_disk: Path) -> None:
    site = Site(small_disk)
    filler = small_disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True, check=False)  # until there is no room
    assert site.run("start").code == 1
    assert not [name for name in SECRETS if site.has(name) and site.read(name)]
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    ran(site.run("start"))
    assert len(site.read("forwarder/password")) == 48


def test_a_secret_that_was_cut_short_is_none(site: Site) -> None:
    site.program("od", "echo ' 00 ff'\n")
    assert site.run("start").error() == "forwarder/password could not be written. Is the disk full?"
    assert not site.has("forwarder/password")
    assert site.calls("compose up") == []


# -- the rest --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "stop", "logs", "save", "drop", "remove"])
def test_what_was_never_started_says_so(site: Site, command: str) -> None:
    assert site.run(command, "x").error() == "it was never started here: ./gateway start"
    assert site.calls() == ["compose version", "version"]


def test_status_stop_logs_and_drop_ask_what_they_say(site: Site) -> None:
    ran(site.run("start"))
    count = len(site.calls())
    assert ran(site.run("status")) == "gateway      SITE\n"
    assert ran(site.run("logs", "7")) == "what they said\n"
    assert ran(site.run("drop", "abc")) == "dropped abc\n"
    ran(site.run("stop"))
    assert [line for line in site.calls()[count:] if line not in {"compose version", "version"}] == [
        "compose exec -T forwarder python3 /etc/forwarder/forwarder.py status",
        "compose logs --no-color --tail 7",
        "compose exec -T forwarder python3 /etc/forwarder/forwarder.py drop abc",
        "compose stop",
    ]


def test_what_waits_is_saved_for_its_reader_alone_where_one_stands(site: Site, tmp_path: Path) -> None:
    ran(site.run("start"))
    ran(site.run("save", "waiting.tar", cwd=tmp_path))
    found = tmp_path / "waiting.tar"
    assert found.read_text() == "half\nwhole\n"
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    ran(site.run("save", str(tmp_path / "elsewhere.tar")))
    assert (tmp_path / "elsewhere.tar").exists()


def test_a_file_that_is_there_is_not_saved_over(site: Site, tmp_path: Path) -> None:
    ran(site.run("start"))
    (tmp_path / "waiting.tar").write_text("dear")
    assert site.run("save", "waiting.tar", cwd=tmp_path).error().endswith("waiting.tar is there already. Give another file.")
    assert (tmp_path / "waiting.tar").read_text() == "dear"
    assert site.run("save").error() == "say into which file: ./gateway save waiting.tar"


def test_saving_that_fails_leaves_no_half_file(site: Site, tmp_path: Path) -> None:
    ran(site.run("start"))
    site.say("save-fails")
    assert site.run("save", "waiting.tar", cwd=tmp_path).error() == "it could not be saved: see above."
    assert list(tmp_path.glob("waiting*")) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_saving_that_is_interrupted_leaves_no_half_file(site: Site, tmp_path: Path, how: signal.Signals) -> None:
    ran(site.run("start"))
    site.say("hangs")
    shutil.copy("/bin/sleep", site.programs / "sleep")
    process = site.begin("save", "waiting.tar", cwd=tmp_path)
    eventually("it saves", (site.programs / "hanging").exists, 30)
    os.killpg(process.pid, how)
    assert ended(process, 30).code == 130
    assert list(tmp_path.glob("waiting*")) == []


def test_nothing_is_removed_while_something_waits_and_the_door_is_opened_again(site: Site) -> None:
    ran(site.run("start"))
    site.say("waiting", "3\n")
    error = site.run("remove").error()
    assert error == "objects that still wait: 3. See ./gateway status; to give them up: ./gateway remove --lose"
    assert site.calls("compose stop") == ["compose stop --timeout 60 nginx"]
    assert not site.has("../programs/door-shut")
    assert site.calls("compose down") == []
    assert site.has("queue")


def test_nothing_is_removed_when_nobody_knows_whether_something_waits(site: Site) -> None:
    ran(site.run("start"))
    site.unsay("running")
    assert site.run("remove").error().startswith("objects that still wait: unknown.")
    assert not site.has("../programs/door-shut")
    assert site.has("queue")


@pytest.mark.parametrize(("waiting", "option"), [("0", ()), ("3", ("--lose",))])
def test_removed_it_leaves_the_folder_as_it_came(site: Site, waiting: str, option: tuple[str, ...]) -> None:
    came = sorted(str(path) for path in site.folder.rglob("*"))
    ran(site.run("start"))
    (site.folder / "queue/pixels/left").write_text("x")
    site.say("waiting", f"{waiting}\n")
    out = ran(site.run("remove", *option))
    assert "it holds the gateway's key. Remove it, and strike SITE if nobody needs it any more." in out
    assert site.calls("compose down") == ["compose down --volumes --remove-orphans"]
    assert sorted(str(path) for path in site.folder.rglob("*")) == came
    assert site.run("status").error().startswith("it was never started here")
    ran(site.run("start"))


def test_an_option_that_it_does_not_know_gives_nothing_up(site: Site) -> None:
    ran(site.run("start"))
    site.say("waiting", "3\n")
    assert site.run("remove", "--loose").code == 1
    assert site.has("queue")
