"""The containers of a release, by docker compose: brought up, and made to take what changed with the least disturbance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orthanc_host.machine import Failed, Machine

# Of Orthanc's files these need no restart: libpq reads passfile and authorities at every connection, and other bytes of
# orthanc.json give compose.yaml another digest, upon which compose makes the container anew.
NEED_NO_RESTART = frozenset({"orthanc/pgpass", "orthanc/database-authority.crt", "orthanc/orthanc.json"})
_WORKERS = 'for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr "\\0" " " <$p/cmdline)"; done 2>/dev/null'
_PULLS, _PULL_PAUSE = 3, 10


class Containers:
    def __init__(self, machine: Machine, compose_file: Path, up_seconds: int) -> None:
        self._machine = machine
        self._file = str(compose_file)
        self._up_seconds = up_seconds

    def compose(self, *words: str, seconds: float = 120) -> str:
        return self._machine.run("docker", "compose", "--ansi", "never", "--file", self._file, *words, seconds=seconds)

    def started(self) -> dict[str, str]:
        """Each running service: its container and when it was started."""
        return {name: f"{c['Id']} {c['State']['StartedAt']}" for name, c in self._inspected().items() if c["State"]["Running"]}

    def health(self) -> dict[str, str]:
        """Each service: healthy, starting, unhealthy, or what else Docker calls its state (exited, restarting …)."""
        return {
            name: c["State"]["Health"]["Status"] if c["State"]["Running"] and "Health" in c["State"] else c["State"]["Status"]
            for name, c in self._inspected().items()
        }

    def _inspected(self) -> dict[str, dict[str, Any]]:
        ids = self.compose("ps", "--all", "--quiet").split()
        found = json.loads(self._machine.run("docker", "inspect", *ids)) if ids else []
        return {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in found}

    def missing_images(self) -> set[str]:
        """The images that this release names and the host lacks."""
        missing = set()
        for image in self.compose("config", "--images").split():
            try:
                self._machine.run("docker", "image", "inspect", "--format", "{{.Id}}", image)
            except Failed:
                missing.add(image)
        return missing

    def pull(self) -> None:
        """Fetch what is missing. Raises Failed after a bounded number of tries."""
        for left in reversed(range(_PULLS)):
            try:
                for image in sorted(self.missing_images()):
                    self._machine.run("docker", "pull", "--quiet", image, seconds=900)
            except Failed:
                if not left:
                    raise
                self._machine.sleep(_PULL_PAUSE)
            else:
                return

    def follow(self, fresh: set[str], *, again: bool = False) -> None:
        """Make the running containers take the files in `fresh`; `again`: bring up what is not running, changed or not.

        nginx is reloaded before anybody changes Orthanc's modalities: a struck one is refused at the door first.
        """
        before = self.started()
        if again or "compose.yaml" in fresh or set(before) != {"orthanc", "nginx"}:
            self.compose("up", "--detach", "--wait", "--remove-orphans", "--pull", "never", seconds=self._up_seconds)
        after = self.started()
        # A container that was just made has read its files.
        if any(name.startswith("orthanc/") for name in fresh - NEED_NO_RESTART) and self._same("orthanc", before, after):
            self.compose("restart", "orthanc", seconds=300)
            self.compose("up", "--detach", "--wait", "--pull", "never", seconds=self._up_seconds)
        if any(name.startswith("nginx/") for name in fresh) and self._same("nginx", before, after):
            self.reload_nginx()

    @staticmethod
    def _same(service: str, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
        return service in before and before[service] == after.get(service)

    def restart(self) -> None:
        """Everything anew, whatever state it is in (a process that hangs does not end when asked)."""
        self.compose("kill", seconds=60)
        self.compose("up", "--detach", "--wait", "--force-recreate", "--pull", "never", seconds=self._up_seconds)

    def hold_modalities(self) -> str:
        """Make Orthanc's modalities equal to the release's; returns what changed, a line each."""
        return self.compose("exec", "-T", "orthanc", "python3", "/etc/probe/probe.py", "modalities", seconds=60)

    def reload_nginx(self) -> None:
        """Let nginx take its files without dropping an association; return when none but new workers accept.

        Raises Failed when nginx refuses the files; it then goes on with the old ones.
        """
        nginx = ("exec", "-T", "nginx", "nginx", "-c", "/etc/gateway/nginx.conf")
        self.compose(*nginx, "-q", "-t")
        old = self._workers("nginx: worker process")
        self.compose(*nginx, "-s", "reload")
        end = self._machine.now() + 30
        while old & (now := self._workers("nginx: worker process")) or not now:
            if self._machine.now() > end:
                raise Failed("nginx has not taken its new configuration within 30 s")
            self._machine.sleep(0.2)

    def end_old_associations(self) -> int:
        """End what began before the last reload, at once. Returns how many of nginx's old workers held something."""
        old = self._workers("nginx: worker process is shutting down")
        if old:
            self.compose("exec", "-T", "nginx", "sh", "-c", f"kill -9 {' '.join(sorted(old))}")
        return len(old)

    def _workers(self, title: str) -> set[str]:
        """Process ids inside nginx's container, by the title that nginx gives its workers."""
        listed = self.compose("exec", "-T", "nginx", "sh", "-c", _WORKERS)
        return {line.split()[0] for line in listed.splitlines() if line.strip().endswith(title)}
