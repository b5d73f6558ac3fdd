"""A machine that exists in memory: files in a dictionary, programs that are answered by a small pretended Docker and AWS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthanc_host.agent import Agent
from orthanc_host.configuration import merged, validated
from orthanc_host.decisions import Pointer
from orthanc_host.machine import Failed, Machine
from orthanc_host.proof import Findings, Prober

RELEASES = Path("/opt/orthanc/releases")
AUTHORITIES = "-----BEGIN CERTIFICATE-----\n"
GOOD = Findings((), "", 10**9, 10**10, 300, "server")

HOST: Mapping[str, Any] = {
    "stack": "dev",
    "region": "us-east-1",
    "group": "orthanc-dev",
    "hook": "proven",
    "metrics": "Orthanc",
    "proven": "/orthanc/dev/proven",
    "log_group": "/orthanc/dev/host",
    "aet": "ORTHANC",
    "dicom_port": 11112,
    "web_port": 443,
    "server_name": "192.0.2.7",
    "address": {"ip": "192.0.2.7", "allocation": "eipalloc-1"},
    "database": {
        "host": "db.example",
        "port": 5432,
        "name": "orthanc",
        "user": "orthanc",
        "secret": "arn:db",
        "authority_url": "https://authorities.example/bundle.pem",
    },
    "files": {
        "orthanc/users.json": {"secret": "arn:users", "version": "1", "field": "orthanc/users.json"},
        "nginx/server.key": {"secret": "arn:keys", "version": "1", "field": "nginx/server.key"},
    },
    "directories": {"orthanc": [999, 999], "probe": [999, 999], "nginx": [101, 101], "agent": [0, 0]},
    "scratch_dir": "/var/lib/orthanc/scratch",
    "expires": {"server": "2027-01-01T00:00:00+00:00"},
}
SHIPPED: Mapping[str, str] = {
    "compose.yaml": "services of A",
    "orthanc/orthanc.json": "{}",
    "probe/probe.py": "probe",
    "nginx/nginx.conf": 'map {\n        0123456789012345678901234567890123456789 "CT1";\n}\n',
    "nginx/server.crt": "certificate 1",
}


class Away(Failed):
    pass


@dataclass
class Pretended(Machine):
    files: dict[str, str] = field(default_factory=lambda: {"/proc/sys/kernel/osrelease": "6.1\n"})
    owners: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    away: set[str] = field(default_factory=set)  # AWS services, "registry", "authorities", "metadata"
    running: dict[str, int] = field(default_factory=dict)  # service -> how often it was started
    images: set[str] = field(default_factory=set)
    workers: int = 1
    time: float = 1_000_000.0
    database_version: str = "d1"
    free: int = 10**10
    lifecycle: str = "InService"
    holder: str = "i-0"
    proven: str = "{}"
    causes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    refuses: str = ""  # what `compose up` complains about

    # -- files --------------------------------------------------------------------------------------------------------

    def read(self, path: Path) -> str | None:
        return self.files.get(str(path))

    def write(self, path: Path, text: str, mode: int = 0o600, owner: Sequence[int] | None = None) -> None:
        if self.free == 0 and not str(path).startswith("/run/"):
            raise OSError(28, "No space left on device", str(path))
        self.files[str(path)] = text
        self.owners[str(path)] = None if owner is None else tuple(owner)
        self.modes[str(path)] = mode

    def remove(self, path: Path) -> None:
        self.files = {name: text for name, text in self.files.items() if name != str(path) and not name.startswith(f"{path}/")}

    def names(self, folder: Path) -> Sequence[str]:
        below = [name[len(str(folder)) + 1 :] for name in self.files if name.startswith(f"{folder}/")]
        return sorted({name.partition("/")[0] for name in below})

    def directory(self, path: Path, mode: int, owner: Sequence[int]) -> None:
        self.owners[str(path)], self.modes[str(path)] = tuple(owner), mode

    def free_bytes(self, *paths: str) -> int:  # noqa: ARG002 - there is one disk
        return self.free

    # -- time, network --------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def download(self, url: str, seconds: float = 30) -> str:  # noqa: ARG002 - nothing takes time
        if "authorities" in self.away:
            raise Away(f"{url}: timed out")
        self.ran.append(f"download {url}")
        return AUTHORITIES

    def metadata(self, path: str) -> str | None:
        if "metadata" in self.away:
            raise Away("instance metadata: timed out")
        return {
            "meta-data/instance-id": "i-1",
            "meta-data/autoscaling/target-lifecycle-state": self.lifecycle,
            "meta-data/public-ipv4": "192.0.2.7" if self.holder == "i-1" else "198.51.100.9",
            "meta-data/ami-id": "ami-1",
        }.get(path)

    # -- programs -------------------------------------------------------------------------------------------------------

    def run(
        self,
        *command: str,
        seconds: float = 60,  # noqa: ARG002 - nothing takes time
        env: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> str:
        self.ran.append(" ".join(command))
        if command[0] == "aws":
            given = json.loads(command[-1]) if "--cli-input-json" in command else {}
            return json.dumps(self._aws(command[1:], given))
        if command[:2] == ("docker", "compose"):
            return self._compose(command[command.index("--file") + 2 :] if "--file" in command else command[2:])
        if command[:3] == ("docker", "image", "inspect"):
            if command[-1] not in self.images:
                raise Failed("no such image")
            return ""
        if command[:2] == ("docker", "pull"):
            if "registry" in self.away:
                raise Away("docker pull: connection refused")
            self.images.add(command[-1])
            return ""
        if command[:2] == ("docker", "inspect"):
            return json.dumps([self._inspected(name) for name in command[2:]])
        return {"docker": "25\n"}.get(command[0], "")

    def _inspected(self, name: str) -> dict[str, Any]:
        state = {"Running": True, "Status": "running", "StartedAt": str(self.running[name]), "Health": {"Status": "healthy"}}
        return {"Id": name, "State": state, "Config": {"Labels": {"com.docker.compose.service": name}}}

    def _start(self, *services: str) -> None:
        for service in services:
            self.running[service] = self.running.get(service, 0) + 1

    def _compose(self, words: Sequence[str]) -> str:
        text = " ".join(words)
        if text.startswith("ps"):
            return "\n".join(self.running)
        if text.startswith("config"):
            return "orthanc@sha256:1\nnginx@sha256:1"
        if text.startswith("up"):
            if self.refuses:
                raise Failed(self.refuses)
            forced = "--force-recreate" in words
            self._start(*(s for s in ("orthanc", "nginx") if forced or s not in self.running))
        if text.startswith("restart"):
            self._start(words[1])
        if text.endswith("-s reload"):
            self.workers += 1
        if "cmdline" in text:
            return f"{self.workers} nginx: worker process"
        return ""

    def _aws(self, words: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
        service, action = words[0], words[1]
        if service in self.away:
            raise Away(f"aws {service} {action}: Could not connect")
        option = {words[i]: words[i + 1] for i in range(2, len(words) - 1) if words[i].startswith("--")}
        if action == "get-secret-value":
            values = {
                "arn:users": {"orthanc/users.json": '{"RegisteredUsers": {}}'},
                "arn:keys": {"nginx/server.key": "key"},
                "arn:db": {"username": "orthanc", "password": f"a:b\\{self.database_version}"},
            }
            return {"SecretString": json.dumps(values[option["--secret-id"]])}
        if action == "describe-secret":
            return {"VersionIdsToStages": {self.database_version: ["AWSCURRENT"], "old": ["AWSPREVIOUS"]}}
        if action == "describe-addresses":
            return {"Addresses": [{"InstanceId": self.holder}]}
        if action == "associate-address":
            self.holder = option["--instance-id"]
        if action == "put-parameter":
            self.proven = option["--value"]
        if action == "put-metric-data":
            self.metrics = {m["MetricName"]: m["Value"] for m in given["MetricData"]}
        if action == "put-log-events":
            self.lines += [json.loads(e["message"]) for e in given["logEvents"]]
        if action == "describe-scaling-activities":
            return {"Activities": [{"Cause": cause, "StartTime": "1970-01-12T13:00:00Z"} for cause in self.causes]}
        return {}

    # -- what a test does -----------------------------------------------------------------------------------------------

    def lay(self, release: Pointer, **changes: str) -> None:
        """Put a release's files where the puller does."""
        host = {**HOST, "files": {**HOST["files"]}}
        for name, text in {**SHIPPED, "host.json": json.dumps(host), **changes}.items():
            self.files[str(RELEASES / release.sha256 / name)] = text

    def placed(self, name: str) -> str | None:
        return self.files.get(f"/run/orthanc/{name}")

    def since(self, count: int) -> list[str]:
        """What was done that disturbs somebody, since `count` programs ago."""
        told = ("compose up", "restart", "-s reload", "--force-recreate", "pull")
        return [line for line in self.ran[count:] if any(word in line for word in told) and "put-" not in line]

    def reboot(self) -> None:
        self.files = {name: text for name, text in self.files.items() if not name.startswith("/run/")}
        self.running = {}


class Pretext(Prober):
    """Finds what it is told to find."""

    def __init__(self, *found: Findings) -> None:
        self._found = list(found) or [GOOD]

    def findings(self) -> Findings:
        return self._found.pop(0) if len(self._found) > 1 else self._found[0]


def agent(machine: Pretended, release: Pointer, *found: Findings, wanted: Pointer | None = None, not_taken: str = "") -> Agent:
    folder = RELEASES / release.sha256
    configuration = validated(merged(json.loads(machine.files[str(folder / "host.json")])))
    return Agent(machine, configuration, folder, release=release, wanted=wanted or release, not_taken=not_taken, prober=Pretext(*found))
