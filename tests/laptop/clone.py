"""A clone of the laptop's part in a folder of its own, whose `docker` is what a test says it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from laptop.site import Enrolment, Site
from tests.service.stack import eventually, free_port

ROOT = Path(__file__).resolve().parents[2]

# An engine that has the images, and runs our containers once compose has been told `up`. While a file `pause` lies beside it, the
# first call that holds the words in it never ends.
ENGINE = r"""
folder=$(dirname "$0")
echo "$*" >>"$folder/calls"
if [ -e "$folder/pause" ]; then
  case "$*" in *"$(cat "$folder/pause")"*) mv "$folder/pause" "$folder/paused"; sleep 60 ;; esac
fi
case "$*" in
  version*) echo 28.0 ;;
  "compose version"*) echo 2.30 ;;
  "image inspect"*) echo sha256:0000000000000000000000000000000000000000000000000000000000000000 ;;
  "volume inspect"*) [ -e "$folder/volume" ] || exit 1 ;;
  "import"*) cat >/dev/null ;;
  "ps "*publish=*) ;;
  "ps "*|*" ps "*) cat "$folder/serving" 2>/dev/null ;;
  *" down "*) rm -f "$folder/serving" ;;
  *" up "*) echo c0ffee >"$folder/serving"; touch "$folder/volume" ;;
  *"-s reload"*) echo again >>"$folder/reloads" ;;
  *"exec -T nginx sh"*) echo "$(wc -l <"$folder/reloads" 2>/dev/null || echo 0) nginx: worker process" ;;
esac
exit 0
"""


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def error(self) -> str:
        """The one line that says what is wrong; nothing of Python's may be seen besides."""
        assert self.code == 1, (self.out, self.err)
        assert "Traceback" not in self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.err.endswith(f"{line}\n"), "it comes last"
        return line.removeprefix("error: ")


class Clone:
    """`python -m laptop` as after `git clone`, with ports and a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        for part in ("laptop", "config_templates"):
            shutil.copytree(ROOT / part, self.folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.home = self.folder / ".demo"

    @property
    def site(self) -> Site:
        return Site.load(self.home)

    def plan(self, *modalities: str, **changes: object) -> None:
        """Write site.json."""
        site = self.site.with_plan(**{"dicom_port": free_port(), "web_port": free_port(), **changes})
        for aet in modalities:
            site = site.enrolled(Enrolment(aet=aet))
        site.save()

    def program(self, name: str, script: str) -> None:
        """Put a program of that name before the machine's own."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def calls(self) -> list[str]:
        """What `docker` has been asked, by the ENGINE."""
        path = self.programs / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def pause_at(self, words: str) -> None:
        (self.programs / "pause").write_text(words)

    def wait_until_paused(self) -> None:
        eventually("docker is asked what it pauses at", (self.programs / "paused").exists, 60)

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "laptop", *arguments, *self._own_ports(arguments)],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a signal reaches all of it, as Ctrl-C does
        )

    def _own_ports(self, arguments: Sequence[str]) -> Sequence[str]:
        """A first `demo` takes free ports, where it is not told which: the usual ones may serve somebody on this machine."""
        if arguments[0] != "demo" or (self.home / "site.json").exists():
            return ()
        return [word for name in ("--dicom-port", "--web-port") if name not in arguments for word in (name, str(free_port()))]

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Said:
        return ended(self.start(*arguments, environment=environment))

    def with_mounts_of_its_own(self, script: str, argument: str) -> subprocess.CompletedProcess[str]:
        """Run it by sh, `$1` the argument and `$2` this Python, where it may mount file systems. Where none can be, the test is skipped."""
        alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        done = subprocess.run(
            [*alone, "sh", "-c", script, "sh", argument, sys.executable],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 77 or "unshare" in done.stderr:
            pytest.skip(f"no file system can be mounted here: {done.stderr}")
        return done


def ended(process: subprocess.Popen[str], seconds: float = 120) -> Said:
    out, err = process.communicate(timeout=seconds)
    return Said(process.returncode, out, err)


def strike_down(process: subprocess.Popen[str], how: signal.Signals) -> None:
    os.killpg(process.pid, how)


def files_below(folder: Path) -> Sequence[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []
