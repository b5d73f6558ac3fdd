"""The puller as it is delivered, run by Python with a pretended `aws` on PATH: which release's agent runs, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from infra.release import pack

ROOT = Path(__file__).parents[2]
_AWS = """#!{python}
import json, pathlib, shutil, sys
cloud = pathlib.Path({cloud!r})
words = sys.argv[1:]
if "get-parameter" in words:
    file = cloud / words[words.index("--name") + 1].replace("/", "_")
else:
    file = cloud / words[words.index("--version-id") + 1]
if not file.exists():
    sys.exit("An error occurred: there is none")
if "get-parameter" in words:
    print(json.dumps({{"Parameter": {{"Value": file.read_text()}}}}))
else:
    shutil.copy(file, words[-1])
    print("{{}}")
"""
# An agent that writes down that it ran, and ends as its release says.
_AGENT = """
import json, os, pathlib, sys
home = pathlib.Path(__file__).parent.parent
code = int((home / "code").read_text())
with open({ran!r}, "a") as file:
    file.write(json.dumps([(home / "name").read_text(), os.environ["ORTHANC_NOT_TAKEN"]]) + "\\n")
if code == 65:
    path = pathlib.Path({run!r}, "state.json")
    state = json.loads(path.read_text()) if path.exists() else {{}}
    state["refused"] = {{**state.get("refused", {{}}), json.loads(os.environ["ORTHANC_RELEASE"])["sha256"]: "its proof failed"}}
    path.write_text(json.dumps(state))
sys.exit(code)
"""


@dataclass
class Place:
    """A host and its cloud, in a folder."""

    home: Path

    @property
    def cloud(self) -> Path:
        return self.home / "cloud"

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    def release(self, name: str, code: int = 0, *, spoil: bytes | None = None, besides: str = "besides") -> dict[str, str]:
        """Put a release into the cloud; its agent ends with `code`. `spoil`: these bytes are there instead."""
        agent = _AGENT.format(ran=str(self.home / "ran"), run=str(self.run_dir))
        data = pack({"orthanc_host/__main__.py": agent, "name": name, "code": str(code), besides: ""})
        self.cloud.mkdir(exist_ok=True)
        (self.cloud / name).write_bytes(data if spoil is None else spoil)
        return {"bucket": "b", "key": "k", "version": name, "sha256": sha256(data).hexdigest()}

    def say(self, parameter: str, value: Any) -> None:
        self.cloud.mkdir(exist_ok=True)
        (self.cloud / f"_orthanc_dev_{parameter}").write_text(json.dumps(value))

    def remember(self, **state: Any) -> None:
        self.run_dir.mkdir(exist_ok=True)
        (self.run_dir / "state.json").write_text(json.dumps({"refused": {}, **state}))

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.run_dir / "state.json").read_text()))

    def pull(self) -> tuple[int, list[tuple[str, str]]]:
        """Run it. Returns its exit code, and which agents ran, with what each was told was not taken."""
        (self.home / "bin").mkdir(exist_ok=True)
        aws = self.home / "bin/aws"
        aws.write_text(_AWS.format(python=sys.executable, cloud=str(self.cloud)))
        aws.chmod(0o755)
        source = (ROOT / "bootstrap/puller.py").read_text(encoding="utf-8")
        for real, here in {
            "/etc/orthanc/stack.json": self.home / "stack.json",
            "/opt/orthanc/releases": self.home / "releases",
            "/var/lib/orthanc/state.json": self.home / "disk-state.json",
            "/run/orthanc-host/": f"{self.run_dir}/",
            "range(12)": "range(1)",
            "time.sleep(5)": "pass",
        }.items():
            assert real in source
            source = source.replace(real, str(here))
        stack = {"region": "us-east-1", "pointer": "/orthanc/dev/release", "proven": "/orthanc/dev/proven"}
        (self.home / "stack.json").write_text(json.dumps(stack))
        ran = self.home / "ran"
        ran.unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run([sys.executable, "-c", source], env=environment, check=False, timeout=60)
        return done.returncode, [tuple(json.loads(line)) for line in ran.read_text().splitlines()] if ran.exists() else []

    def folders(self) -> list[str]:
        return sorted(p.name for p in (self.home / "releases").iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_without_a_pointer_it_waits_quietly(place: Place) -> None:
    place.cloud.mkdir()
    assert place.pull() == (0, [])


def test_it_runs_the_agent_of_the_release_that_is_pointed_to(place: Place) -> None:
    pointer = place.release("new")
    place.say("release", pointer)
    assert place.pull() == (0, [("new", "")])
    assert place.folders() == [pointer["sha256"]]


def test_the_second_time_nothing_is_fetched(place: Place) -> None:
    place.say("release", place.release("new"))
    place.pull()
    (place.cloud / "new").unlink()
    assert place.pull() == (0, [("new", "")])


@pytest.mark.parametrize("spoil", [b"", b"\x1f\x8b half of it", b"something else"])
def test_a_broken_archive_is_not_unpacked_and_the_old_release_is_told(place: Place, spoil: bytes) -> None:
    old = place.release("old")
    place.remember(proven=old)
    place.say("release", place.release("new", spoil=spoil))
    code, ((name, not_taken),) = place.pull()
    assert (code, name) == (0, "old")
    assert "checksum is wrong" in not_taken
    assert place.folders() == [old["sha256"]], "nothing half unpacked stays"
    assert place.state()["refused"] == {}, "the download is tried again"


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped"])
def test_an_archive_that_reaches_outside_its_folder_is_refused(place: Place, name: str) -> None:
    place.say("release", place.release("new", besides=name))
    code, ran = place.pull()
    assert (code, ran) == (1, [])
    assert place.folders() == []


def test_a_refused_release_gives_way_to_the_proven_one_and_is_not_tried_again(place: Place) -> None:
    place.remember(proven=place.release("old"))
    place.say("release", place.release("new", code=65))
    assert place.pull() == (0, [("new", ""), ("old", "")])
    assert place.pull() == (0, [("old", "")])


def test_an_agent_that_breaks_off_is_refused_too(place: Place) -> None:
    place.remember(proven=place.release("old"))
    bad = place.release("new", code=3)
    place.say("release", bad)
    assert place.pull() == (0, [("new", ""), ("old", "")])
    assert "broke off" in place.state()["refused"][bad["sha256"]]
    assert place.pull() == (0, [("old", "")])


def test_the_proven_release_is_never_refused(place: Place) -> None:
    old = place.release("old", code=3)
    place.remember(proven=old)
    place.say("release", old)
    assert place.pull() == (3, [("old", "")])
    assert place.state()["refused"] == {}


@pytest.mark.parametrize("code", [0, 69, 75])
def test_what_the_agent_has_told_itself_ends_the_run(place: Place, code: int) -> None:
    place.remember(proven=place.release("old"))
    place.say("release", place.release("new", code=code))
    assert place.pull() == (code, [("new", "")])


def test_the_next_good_release_is_taken_after_a_refused_one(place: Place) -> None:
    place.remember(proven=place.release("old"))
    place.say("release", place.release("bad", code=65))
    place.pull()
    place.say("release", place.release("good"))
    assert place.pull() == (0, [("good", "")])


def test_a_fresh_host_learns_from_the_one_before_it(place: Place) -> None:
    old, bad = place.release("old"), place.release("bad")
    place.say("release", bad)
    place.say("proven", {"last": old, "refused": {bad["sha256"]: "it crashed"}})
    assert place.pull() == (0, [("old", "")])


def test_a_fresh_host_goes_back_from_a_bad_release_by_itself(place: Place) -> None:
    place.say("release", place.release("bad", code=65))
    place.say("proven", {"last": place.release("old"), "refused": {}})
    assert place.pull() == (0, [("bad", ""), ("old", "")])


def test_the_first_host_of_a_stack_finds_nothing_to_learn(place: Place) -> None:
    place.say("release", place.release("new"))
    place.say("proven", {})
    assert place.pull() == (0, [("new", "")])


def test_while_parameter_store_is_silent_the_last_pointer_counts(place: Place) -> None:
    place.say("release", place.release("new"))
    place.pull()
    (place.cloud / "_orthanc_dev_release").unlink()
    assert place.pull() == (0, [("new", "")])


def test_a_hold_counts_until_the_pointer_moves(place: Place) -> None:
    old, new = place.release("old"), place.release("new")
    place.remember(proven=new, hold={"against": new["sha256"], "run": old, "reason": "vendor"})
    place.say("release", new)
    assert place.pull() == (0, [("old", "")])
    place.say("release", place.release("newer"))
    assert place.pull() == (0, [("newer", "")])
