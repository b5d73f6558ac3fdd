"""When something is wrong: one line says what, why and what to do; nothing half-made stays, and the next run heals.

Here with a pretended Docker; tests/service/test_interruptions.py has the real one.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from laptop import certificates, site
from laptop.certificates import AUTHORITY_DAYS, Key, KeyKind, Pair
from laptop.images import Images
from laptop.site import Enrolment, Plan, Site, placed
from tests.laptop.clone import ENGINE, Clone, files_below


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path)
    made.program("docker", ENGINE)
    return made


# -- Docker -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            (
                "Docker Engine does not answer (Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon "
                "running?). Start it: Docker Desktop, or 'sudo systemctl start docker'."
            ),
        ),
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            (
                "you may not use Docker (permission denied while trying to connect to the Docker daemon socket at "
                "unix:///var/run/docker.sock). Join its group, 'sudo usermod -aG docker $USER', and log in again."
            ),
        ),
    ],
)
def test_an_engine_that_is_stopped_or_forbidden_is_told_with_its_remedy(clone: Clone, said: str, complaint: str) -> None:
    clone.program("docker", f"echo '{said}' >&2; exit 1\n")
    for command in (["demo"], ["enrol", "CT1"], ["down"], ["clean"]):
        assert clone.run(*command, environment={"DOCKER_HOST": ""}).error() == complaint
    assert files_below(clone.home) == []


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")
def test_the_real_client_without_an_engine_is_understood(clone: Clone, tmp_path: Path) -> None:
    (clone.programs / "docker").unlink()
    socket_path = f"unix://{tmp_path}/docker.sock"
    said = clone.run("demo", environment={"DOCKER_HOST": socket_path}).error()
    assert said.startswith("Docker Engine does not answer (")
    assert said.endswith(f"). Start it, or unset DOCKER_HOST, which says {socket_path}.")
    assert files_below(clone.home) == []


def test_a_machine_without_docker_is_told_how_to_get_it(clone: Clone) -> None:
    (clone.programs / "docker").unlink()
    assert clone.run("demo", environment={"PATH": str(clone.programs)}).error().startswith("docker is not installed. 'laptop/prereq")


def test_a_docker_without_compose_is_told_how_to_get_it(clone: Clone) -> None:
    clone.program("docker", 'case "$1" in compose) echo "docker: \'compose\' is not a docker command." >&2; exit 1 ;; esac; echo 28.0\n')
    assert clone.run("demo").error().startswith("docker has no compose plugin (version 2 or newer). 'laptop/prereq")


# -- what is in the way -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "family", "address"),
    [
        ("DICOM_PORT", socket.AF_INET, ""),
        ("WEB_PORT", socket.AF_INET, "127.0.0.1"),
        ("WEB_PORT", socket.AF_INET6, "::"),
    ],
)
def test_a_port_that_is_taken_stops_it_before_anything_is_made(
    clone: Clone, variable: str, family: socket.AddressFamily, address: str
) -> None:
    option = f"--{variable.lower().replace('_', '-')}"
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert clone.run("demo", option, str(port)).error() == (
            f"port {port} is taken by another program ('sudo ss -ltnp' or 'lsof -i :{port}' shows which). "
            f"Stop it, or choose another port: make demo {variable}=..."
        )
        assert files_below(clone.home) == []
        clone.plan("CT1", **{variable.lower(): port})
        assert f"port {port} is taken" in clone.run("enrol", "CT2").error()
        assert files_below(clone.home) == ["site.json"]
    assert not any(" up " in call for call in clone.calls())
    assert clone.run("enrol", "CT2").code == 0


def test_another_service_on_this_machine_is_named(clone: Clone) -> None:
    clone.program("docker", f"case \"$*\" in 'network ls'*) echo other_no-metadata other; exit ;; esac\n{ENGINE}")
    assert clone.run("demo").error() == (
        "another imaging service is on this machine (Docker's network other_no-metadata), and there is room for one. "
        "Stop it, its studies stay: docker compose -p other down"
    )
    assert files_below(clone.home) == []


def test_studies_without_their_password_are_not_begun_over(clone: Clone) -> None:
    (clone.programs / "volume").touch()
    assert clone.run("demo").error().endswith("or give its studies up: docker compose -p orthanc down --volumes")
    assert files_below(clone.home) == []


# -- no network ---------------------------------------------------------------------------------------------------------------

_NO_IMAGES = """
case "$*" in
  "image inspect"*) exit 1 ;;
  pull*) echo 'Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: {reason}' >&2
    exit 1 ;;
esac
"""
_NO_WAY_OUT = (
    "no registry can be reached, and no stand-in could be built from Debian's packages ({reason}). "
    "Connect this machine to the internet, make room if its disk is full, and run the same command again."
)


def without_network(clone: Clone, *, reason: str = "no such host") -> None:
    clone.program("docker", _NO_IMAGES.format(reason=reason) + ENGINE)
    clone.program("sudo", 'exec "$@"\n')


def test_neither_a_registry_nor_a_mirror_is_one_line(clone: Clone) -> None:
    without_network(clone)
    clone.program("debootstrap", "echo 'I: Retrieving InRelease'; echo 'E: Failed getting release file http://mirror/Release'; exit 1\n")
    said = clone.run("demo", environment={"TMPDIR": str(clone.programs)})
    assert said.error() == _NO_WAY_OUT.format(reason="E: Failed getting release file http://mirror/Release")
    assert "no registry can be reached: " in said.out
    assert files_below(clone.home) == []
    assert list(clone.programs.glob("orthanc-base-*")) == []


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/sbin/debootstrap").exists(), reason="debootstrap needs root")
def test_the_real_debootstrap_without_a_mirror_is_understood(clone: Clone) -> None:
    without_network(clone)
    nowhere = "http://127.0.0.1:9"
    said = clone.run("demo", environment={"http_proxy": nowhere, "https_proxy": nowhere, "TMPDIR": str(clone.programs)})
    assert said.error().startswith("no registry can be reached, and no stand-in could be built from Debian's packages (E: ")
    assert list(clone.programs.glob("orthanc-base-*")) == []


def test_a_package_mirror_that_is_lost_while_an_image_is_built_is_one_line(clone: Clone) -> None:
    without_network(clone)
    log = "Err:1 http://mirror trixie InRelease\\nE: Failed to fetch http://mirror/nginx.deb\\nThe command returned a non-zero code: 100"
    clone.program(
        "docker", f"case \"$*\" in build*) printf '{log}' >&2; exit 1 ;; esac\n" + _NO_IMAGES.format(reason="no such host") + ENGINE
    )
    clone.program("debootstrap", "exit 0\n")
    clone.program("tar", "exit 0\n")
    assert clone.run("demo").error() == _NO_WAY_OUT.format(reason="E: Failed to fetch http://mirror/nginx.deb")


def test_a_pull_that_fails_for_another_reason_is_no_cause_for_stand_ins(clone: Clone) -> None:
    without_network(clone, reason="x' >/dev/null; echo 'write /var/lib/docker/tmp/GetImageBlob1: no space left on device")
    said = clone.run("demo").error()
    assert said.startswith("the image orthancteam/orthanc:")
    assert said.endswith("(write /var/lib/docker/tmp/GetImageBlob1: no space left on device). Mend that, and run the same command again.")
    assert not any(call.startswith("build") for call in clone.calls())


# -- values that can't be used ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b'{"aet": ', "Invalid JSON: EOF while parsing a value at line 1 column 8"),
        (b'{"aet": "\xff"}', "Invalid JSON: invalid unicode code point at line 1 column 10"),
        (b'{"dicomPort": 1}', "dicomPort: Extra inputs are not permitted"),
        (b'{"dicom_port": "many"}', "dicom_port: Input should be a valid integer, unable to parse string as an integer"),
        (b'{"aet": ""}', "aet: '' is not allowed here: an AE title has 1 to 16 letters"),
        # What does not fit together:
        (b'{"users": []}', "users: Tuple should have at least 1 item"),
        (b'{"users": [{"name": "a", "role": "reader"}]}', "users: nobody is an admin; give one user the role 'admin'"),
        (b'{"project": "A B"}', "project: 'A B' is not allowed here: a name has a-z, 0-9, '_' and '-'"),
        (b'{"dicom_port": 21112, "web_port": 21112}', "dicom_port and web_port are both 21112: choose two ports"),
        (b'{"modalities": [{"aet": "CT1", "port": 104}]}', "CT1: give both 'address' and 'port', or neither"),
    ],
)
def test_a_broken_setting_is_named_before_anything_is_made(clone: Clone, content: bytes, complaint: str) -> None:
    clone.home.mkdir()
    (clone.home / "site.json").write_bytes(content)
    said = clone.run("demo").error()
    assert said.startswith(f"{clone.home}/site.json ")
    assert complaint in said
    assert ". Mend " in said
    assert files_below(clone.home) == ["site.json"]
    assert not any(" up " in call or call.startswith(("pull", "build")) for call in clone.calls())


def test_a_damaged_key_is_named_and_never_replaced_silently(clone: Clone) -> None:
    clone.plan("CT1")
    assert clone.run("enrol", "CT2").code == 0
    for name in ("outside-authority.crt", "modality-CT1-1.key", "server.crt"):
        path = clone.home / "keys" / name
        kept = path.read_text()
        path.write_text(kept[: len(kept) // 2])
        said = clone.run("enrol", "CT2").error()
        assert str(path.with_suffix("")) in said
        assert "is damaged. Restore them from a copy, or remove both" in said
        path.write_text(kept)
    password = clone.home / "keys" / "database.password"
    password.write_text("")
    assert clone.run("enrol", "CT2").error().startswith(f"{password} is empty. Restore it from a copy")


def test_a_damaged_record_of_what_the_containers_took_makes_them_take_all_again(clone: Clone) -> None:
    clone.plan("CT1")
    assert clone.run("enrol", "CT2").code == 0
    (clone.home / "taken.json").write_text('{"nginx/ng')
    assert clone.run("enrol", "CT2").code == 0
    assert len((clone.programs / "reloads").read_text().splitlines()) == 1


# -- a full disk --------------------------------------------------------------------------------------------------------------

_ON_A_SMALL_DISK = """
mount -t tmpfs -o size="$1" none .demo && cp site.json .demo/ || exit 77
"$2" -m laptop enrol CT2; echo "ended with $?"
find .demo -name '*.new'
mount -o remount,size=8m .demo
"$2" -m laptop enrol CT2 >/dev/null; echo "then with $?"
"""


@pytest.mark.parametrize("size", ["8k", "40k", "180k"])
def test_a_full_disk_is_one_line_and_room_heals_it(clone: Clone, size: str) -> None:
    clone.plan("CT1")
    (clone.home / "site.json").rename(clone.folder / "site.json")
    done = clone.with_mounts_of_its_own(_ON_A_SMALL_DISK, size)
    (error,) = done.stderr.strip().splitlines()
    assert error.startswith("error: "), done.stderr
    assert str(clone.home) in error
    assert error.endswith("The disk is full, or your share of it. Make room, and run the same command again.")
    assert done.stdout.splitlines() == ["ended with 1", "then with 0"]
    assert len([call for call in clone.calls() if " up " in call]) == 1, "nothing is started with half of its files"


# -- cut off between two files ------------------------------------------------------------------------------------------------


class CutOffError(BaseException):
    """The process ends here."""


def cut_off(monkeypatch: pytest.MonkeyPatch, number: int, *, renamed: bool) -> None:
    """Let the process end in the middle of its `number`th file, before or after it has its name."""
    count = 0
    replace = Path.replace

    def counted(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == number and not renamed:
            raise CutOffError
        done = replace(self, target)
        if count == number:
            raise CutOffError
        return done

    monkeypatch.setattr(Path, "replace", counted)


IMAGES = Images(orthanc="sha256:" + "1" * 64, nginx="sha256:" + "2" * 64, postgres="sha256:" + "3" * 64, standins=True)


def bring(home: Path) -> Site:
    made = Site(home, Plan(modalities=(Enrolment(aet="CT1"),)))
    made.save()
    site.place(made, made.files(IMAGES))
    made.write_bundle("CT1")
    return made


def age(home: Path) -> None:
    """Everything was made so long ago that it is due."""
    long_ago = datetime.now(UTC) - timedelta(days=AUTHORITY_DAYS - 10)
    authority = certificates.make_authority("old", "ecdsa", now=long_ago)
    for crt in (home / "keys").glob("*.crt"):
        crt.write_text(authority.certificate)
        crt.with_suffix(".key").write_text(authority.key)


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("before", [None, age])
def test_cut_off_at_any_file_the_next_run_ends_with_keys_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Callable[[Path], None] | None, renamed: bool
) -> None:
    keys = [certificates.make_key("ecdsa") for _ in range(3)]

    def quick(kind: KeyKind) -> Key:
        keys.append(keys.pop(0))
        return keys[0] if kind else keys[1]

    monkeypatch.setattr(certificates, "make_key", quick)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the machine does not fail here, only the process
    number, whole = 0, False
    while not whole:
        number += 1
        home = tmp_path / str(number)
        if before:
            bring(home)
            before(home)
        with monkeypatch.context() as patched:
            cut_off(patched, number, renamed=renamed)
            try:
                bring(home)
                whole = True
            except CutOffError:
                pass
        made = bring(home)
        assert dict(placed(made)) == dict(made.files(IMAGES))
        for crt in (home / "keys").glob("*.crt"):
            assert certificates.belong_together(Pair(certificate=crt.read_text(), key=crt.with_suffix(".key").read_text())), crt
        outside = (home / "keys" / "outside-authority.crt").read_text()
        for bundled in ("run/nginx/server.crt", "modalities/CT1/CT1.crt"):
            assert certificates.signed_by((home / bundled).read_text(), outside)
        shutil.rmtree(home)
    assert number > 40, "there are that many files"


def test_a_clean_says_whether_there_was_a_demo_whose_studies_are_gone(clone: Clone) -> None:
    assert "there is no demo here; stand-in images are gone" in clone.run("clean").out
    clone.plan()
    assert "containers, studies, keys and stand-in images are gone" in clone.run("clean").out
    assert not clone.home.exists()


def test_a_stopped_demo_says_that_its_log_went_with_it(clone: Clone) -> None:
    clone.plan()
    assert clone.run("logs").error().startswith("there is no log: it goes with the containers, and the demo is stopped.")
    clone.program("docker", ENGINE.replace("  version*)", '  *" logs "*) echo a line ;;\n  version*)'))
    assert clone.run("logs").out == "a line\n"
