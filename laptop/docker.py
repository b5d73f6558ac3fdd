"""The docker command line: one place that runs it, and says what to do when it can't be run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from laptop.tell import Trouble, failed


def docker(*arguments: str, seconds: int = 600, stdin: str | None = None, folder: Path | None = None) -> str:
    """Run `docker` and return what it printed. Raises Trouble with its own words when it fails."""
    done = attempt(*arguments, seconds=seconds, stdin=stdin, folder=folder)
    if done.returncode != 0:
        raise failed(f"'docker {' '.join(arguments[:6])}' failed", done.stderr or done.stdout)
    return done.stdout


def attempt(*arguments: str, seconds: int = 600, stdin: str | None = None, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `docker` (in `folder`: compose takes to a compose.yaml that lies there); the caller looks at the exit code."""
    command = ["docker", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, input=stdin, cwd=folder)
    except FileNotFoundError:
        raise Trouble(
            "docker is not installed. 'laptop/prerequisites docker' installs it on Debian and Ubuntu; elsewhere see docs.docker.com."
        ) from None
    except subprocess.TimeoutExpired:
        raise Trouble(
            f"'docker {' '.join(arguments[:6])}' did not end within {seconds} s. Is the engine well? Try 'docker info'."
        ) from None


def check_engine() -> None:
    """Raise Trouble unless the engine answers and compose is there."""
    asked = attempt("version", "--format", "{{.Server.Version}}", seconds=30)
    if asked.returncode != 0:
        if "permission denied" in asked.stderr:
            raise failed("you may not use Docker", asked.stderr, "Join its group, 'sudo usermod -aG docker $USER', and log in again.")
        if host := os.environ.get("DOCKER_HOST"):
            raise failed("Docker Engine does not answer", asked.stderr, f"Start it, or unset DOCKER_HOST, which says {host}.")
        raise failed("Docker Engine does not answer", asked.stderr, "Start it: Docker Desktop, or 'sudo systemctl start docker'.")
    compose = attempt("compose", "version", "--short", seconds=30)
    if compose.returncode != 0:
        raise Trouble("docker has no compose plugin (version 2 or newer). 'laptop/prerequisites docker' installs it on Debian and Ubuntu.")


def compose(folder: Path, *arguments: str, seconds: int = 600, stdin: str | None = None) -> str:
    """`docker compose` on the compose.yaml of `folder`."""
    return docker("compose", "--ansi", "never", "--file", str(folder / "compose.yaml"), *arguments, seconds=seconds, stdin=stdin)


def exchange(folder: Path, *arguments: str, what: str, source: BinaryIO | None = None, sink: BinaryIO | None = None) -> None:
    """`docker compose` for data of any size and kind: `source` is what the program `what` in a container reads, `sink` what it writes.

    An error of the sink, a full disk above all, is raised as such.
    """
    command = ["docker", "compose", "--ansi", "never", "--file", str(folder / "compose.yaml"), *arguments]
    with TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=source or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            try:
                if sink is None:
                    process.stdout.read()
                else:
                    shutil.copyfileobj(process.stdout, sink, 2**20)
                    sink.flush()
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            errors.seek(0)
            raise failed(f"{what} failed", errors.read().decode(errors="replace"))


def container_id(folder: Path, service: str) -> str:
    """The id of the service's container, '' when there is none."""
    return compose(folder, "ps", "--all", "--quiet", service).strip()


def killed_for_memory(folder: Path, service: str) -> int:
    """How many processes of the service's container, which runs, the kernel has killed for their memory (cgroup v1 or v2)."""
    read = "cat /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events 2>/dev/null; true"
    (count,) = re.findall(r"(?m)^oom_kill (\d+)$", compose(folder, "exec", "-T", service, "sh", "-c", read))
    return int(count)


def running(project: str, service: str) -> str:
    """The id of the service's container while it runs, else ''. Asked by labels: no compose.yaml has to be there, or whole."""
    labels = ("project", project), ("service", service)
    filters = [f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels]
    return docker("ps", "--quiet", "--no-trunc", "--filter=status=running", *filters).strip()


def image_id(reference: str) -> str | None:
    """The id of a local image, or None."""
    found = attempt("image", "inspect", "--format", "{{.Id}}", reference, seconds=30)
    return found.stdout.strip() if found.returncode == 0 else None


def remove_images(references: Sequence[str]) -> None:
    for reference in references:
        attempt("image", "rm", "--force", reference, seconds=60)
