"""The docker command line: one place that runs it, and says what to do when it can't be run."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from laptop.tell import Trouble


def docker(*arguments: str, seconds: int = 600, stdin: str | None = None) -> str:
    """Run `docker` and return what it printed. Raises Trouble with its own words when it fails."""
    done = attempt(*arguments, seconds=seconds, stdin=stdin)
    if done.returncode != 0:
        raise Trouble(f"'docker {' '.join(arguments[:6])}' failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def attempt(*arguments: str, seconds: int = 600, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `docker`; the caller looks at the exit code."""
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False, input=stdin)
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
    info = attempt("info", "--format", "{{.ServerVersion}}", seconds=30)
    if info.returncode != 0:
        reason = info.stderr.strip().splitlines()[-1] if info.stderr.strip() else "no answer"
        if "permission denied" in reason:
            raise Trouble(f"you may not use Docker ({reason}). Join its group, 'sudo usermod -aG docker $USER', and log in again.")
        raise Trouble(f"Docker Engine does not answer ({reason}). Start it: Docker Desktop, or 'sudo systemctl start docker'.")
    compose = attempt("compose", "version", "--short", seconds=30)
    if compose.returncode != 0:
        raise Trouble("docker has no compose plugin (version 2 or newer). 'laptop/prerequisites docker' installs it on Debian and Ubuntu.")


def compose(folder: Path, *arguments: str, seconds: int = 600, stdin: str | None = None) -> str:
    """`docker compose` on the compose.yaml of `folder`."""
    return docker("compose", "--ansi", "never", "--file", str(folder / "compose.yaml"), *arguments, seconds=seconds, stdin=stdin)


def container_id(folder: Path, service: str) -> str:
    """The id of the service's container, '' when there is none."""
    return compose(folder, "ps", "--all", "--quiet", service).strip()


def image_id(reference: str) -> str | None:
    """The id of a local image, or None."""
    found = attempt("image", "inspect", "--format", "{{.Id}}", reference, seconds=30)
    return found.stdout.strip() if found.returncode == 0 else None


def remove_images(references: Sequence[str]) -> None:
    for reference in references:
        attempt("image", "rm", "--force", reference, seconds=60)
