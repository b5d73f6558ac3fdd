"""The one way to processes, files, HTTP and the clock. Tests put another in its place; nothing else here touches the outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METADATA = "http://169.254.169.254/latest/"


class Failed(Exception):
    """Something could not be done; the text says what and why, in one line, and holds no secret."""


class Machine:
    """This host."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def run(self, *command: str, seconds: float = 60, env: Mapping[str, str] | None = None) -> str:
        """What the command printed. Raises Failed with the last line of its complaint."""
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=seconds,
                env=None if env is None else {**os.environ, **env},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{_name(command)} took longer than {seconds:.0f} s") from None
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"exit code {done.returncode}"]
            raise Failed(f"{_name(command)}: {said[-1].strip()}")
        return done.stdout

    def read(self, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            return None

    def write(self, path: Path, text: str, mode: int = 0o600, owner: Sequence[int] | None = None) -> None:
        """By rename, so that nobody ever meets half a file, or one that he may not read. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        if temporary.exists():
            temporary.unlink()
        try:
            with os.fdopen(os.open(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
                file.write(text)
            if owner is not None:
                os.chown(str(temporary), owner[0], owner[1])
            temporary.replace(path)
        except OSError:
            if temporary.exists():
                temporary.unlink()
            raise

    def link(self, path: Path, target: Path) -> None:
        """Make `path` a symbolic link to `target`, whatever it led to before."""
        temporary = path.with_name(path.name + ".new")
        if temporary.is_symlink():
            temporary.unlink()
        temporary.symlink_to(target)
        temporary.replace(path)

    def remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(str(path), ignore_errors=True)
        elif path.exists():
            path.unlink()

    def names(self, folder: Path) -> Sequence[str]:
        """What lies in a folder; nothing if there is none."""
        try:
            return sorted(entry.name for entry in folder.iterdir())
        except OSError:
            return ()

    def directory(self, path: Path, mode: int, owner: Sequence[int]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        os.chown(str(path), owner[0], owner[1])
        path.chmod(mode)

    def free_bytes(self, *paths: str) -> int:
        """What is free on the fullest of the disks that these paths lie on; a path that does not exist counts for nothing."""
        return min(shutil.disk_usage(path).free for path in paths if Path(path).exists())

    def download(self, url: str, seconds: float = 30) -> str:
        """The text behind an https:// address, the server's certificate verified. Raises Failed."""
        if not url.startswith("https://"):
            raise Failed(f"{url} is not https")
        try:
            with urllib.request.urlopen(url, timeout=seconds) as answer:
                return str(answer.read().decode())
        except (OSError, ValueError) as error:
            raise Failed(f"{url}: {error}") from None

    def metadata(self, path: str) -> str | None:
        """What the instance metadata service (IMDSv2) says; None when it knows no such thing. Raises Failed when it is silent."""
        try:
            ask = urllib.request.Request(f"{METADATA}api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
            with urllib.request.urlopen(ask, timeout=5) as answer:
                token = answer.read().decode()
            ask = urllib.request.Request(METADATA + path, headers={"X-aws-ec2-metadata-token": token})
            with urllib.request.urlopen(ask, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Failed(f"instance metadata: {error}") from None
        except OSError as error:
            raise Failed(f"instance metadata: {error}") from None


class Aws:
    """AWS through its CLI: short timeouts, few retries, because the next run is a minute away."""

    def __init__(self, machine: Machine, region: str) -> None:
        self._machine = machine
        self._options = ("--region", region, "--output", "json", "--cli-connect-timeout", "5", "--cli-read-timeout", "20")

    def __call__(self, *words: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer. `request` is for what the CLI's options can't say well; like them it holds no secret. Raises Failed."""
        whole = () if request is None else ("--cli-input-json", json.dumps(request))
        said = self._machine.run("aws", *words, *self._options, *whole, seconds=90, env={"AWS_MAX_ATTEMPTS": "2", "AWS_PAGER": ""})
        return dict(json.loads(said)) if said.strip() else {}


def _name(command: Sequence[str]) -> str:
    """The part of a command that tells what it is: its words before the first option."""
    words = []
    for word in command:
        if word.startswith("-"):
            break
        words.append(word)
    return " ".join(words[:4])
