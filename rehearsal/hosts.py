"""A host: an instance of the emulated EC2 as a whole machine of its own, in a container."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from laptop.docker import attempt, docker
from rehearsal.laboratory import RehearsalError
from rehearsal.metadata import Instance

# `--privileged` without the one capability that a container within a container can't be given everywhere.
_WHOLE: Final = (
    *("--cgroupns", "private", "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--volume", "/var/lib/docker", "--env", "container=docker"),  # noqa: S108
)


@dataclass(kw_only=True)
class Host:
    """One instance, from its first boot to its end."""

    instance: Instance
    container: str
    _end: Callable[[Host], None]
    _booted: float = field(default_factory=time.monotonic)
    alive: bool = True

    @property
    def id(self) -> str:
        return self.instance.id

    @property
    def address(self) -> str:
        """Where this machine reaches it; the world uses the stack's elastic address."""
        return self.instance.address

    @property
    def seconds(self) -> float:
        """Since its last boot."""
        return time.monotonic() - self._booted

    def run(self, *command: str, check: bool = True, stdin: str | None = None, seconds: int = 300) -> subprocess.CompletedProcess[str]:
        """Run a command as root, with the environment that services have. `check`: anything but exit code 0 is an error."""
        ended = attempt("exec", "--interactive", self.container, *command, stdin=stdin, seconds=seconds)
        if check and ended.returncode != 0:
            raise RehearsalError(
                f"{' '.join(command)} on {self.id} ended with {ended.returncode}:\n{ended.stdout[-4000:]}{ended.stderr[-4000:]}"
            )
        return ended

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def until(self, *command: str, seconds: float = 120) -> str:
        """Run a command again and again until it succeeds. Returns what it said then."""
        end = time.monotonic() + seconds
        while (ended := self.run(*command, check=False)).returncode != 0:
            if time.monotonic() > end:
                raise RehearsalError(
                    f"{' '.join(command)} on {self.id} did not succeed within {seconds:.0f} s:\n{ended.stdout}{ended.stderr}"
                )
            time.sleep(0.5)
        return ended.stdout

    def booted(self, seconds: int = 300) -> float:
        """Wait until cloud-init has done what the user data say. Returns how long that took since the boot."""
        self.until("test", "-S", "/run/dbus/system_bus_socket", seconds=60)
        told = self.run("timeout", str(seconds), "cloud-init", "status", "--wait", "--long", check=False, seconds=seconds + 30)
        if told.returncode != 0 or "status: done" not in told.stdout:
            raise RehearsalError(f"cloud-init on {self.id} failed:\n{told.stdout}\n{self.log()[-4000:]}")
        return self.seconds

    def log(self) -> str:
        """What the commands of the user data printed."""
        return self.run("cat", "/var/log/cloud-init-output.log", check=False).stdout

    def journal(self, unit: str | None = None) -> str:
        """The journal of all boots, of one unit or of all."""
        return self.run("journalctl", "--no-pager", "--output", "short-iso", *(["--unit", unit] if unit else [])).stdout

    def lifecycle(self, state: str) -> None:
        """What its metadata say that the group means to do with it: 'InService', or 'Terminated'."""
        self.instance.lifecycle = state

    def reboot(self, *, hard: bool = False) -> None:
        """Shut down and boot; `hard`: the power fails instead. /run is empty afterwards, disks are as they were."""
        docker(*(("kill", self.container) if hard else ("stop", "--time", "90", self.container)))
        self._booted = time.monotonic()
        docker("start", self.container)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of it stands still, as those of a machine whose hypervisor hangs."""
        docker("pause", self.container)
        try:
            yield
        finally:
            docker("unpause", self.container)

    def kill(self) -> None:
        """It dies at once and for good, with its disk. Its group does not know that before it replaces it."""
        if self.alive:
            docker("rm", "--force", "--volumes", self.container)
            self.alive = False
            self._end(self)


def boot(instance: Instance, *, image: str, options: list[str], end: Callable[[Host], None]) -> Host:
    """Boot `instance` from `image`; `options` of `docker run` place it. It is told who it is by the metadata service."""
    container = f"rehearsal-{instance.id}"
    name = instance.tree()["meta-data"]["hostname"].partition(".")[0]
    docker("run", "--detach", "--name", container, "--hostname", name, *_WHOLE, *options, image)
    return Host(instance=instance, container=container, _end=end)
