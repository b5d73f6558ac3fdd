"""A place where stacks live for some minutes: the real engine, an emulated AWS, a copy of the project, nothing of it lasting."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3  # type: ignore[import-untyped]  # Amazon gives it no types
import yaml

ROOT = Path(__file__).resolve().parent.parent
REGION = "us-east-1"  # as in Pulumi.dev.yaml and Pulumi.prod.yaml
STACKS = ("Pulumi.dev.yaml", "Pulumi.prod.yaml")
PROGRAM = ("Pulumi.yaml", "__main__.py", "infra", "config_templates", "bootstrap", "policy")


def missing() -> list[str]:
    """The programs that a rehearsal needs and this machine does not have on PATH."""
    return [] if shutil.which("pulumi") else ["pulumi"]


class RehearsalError(Exception):
    """Something did not go as it should: what, and what the program said."""


@dataclass(frozen=True)
class Run:
    """How one call of pulumi ended."""

    code: int
    said: str
    seconds: float


class Laboratory:
    def __init__(self, program: Path = ROOT) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="rehearsal-"))
        self.project = self.home / "project"
        self.project.mkdir()
        for stack in STACKS:
            shutil.copy(program / stack, self.project)
        self.take(program)
        self.port = _free_port()
        self.environment = {
            "HOME": os.environ.get("HOME", "/root"),
            "PATH": os.environ["PATH"],
            "PULUMI_HOME": str(self.home / "pulumi"),
            "PULUMI_BACKEND_URL": f"file://{self.home / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "rehearsal",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_ERROR_OUTPUT_STRING": "1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if shutil.which("pulumi-resource-aws"):  # then those on PATH are meant; elsewhere Pulumi fetches its own
            self.environment["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
        (self.home / "state").mkdir()
        self.said: list[str] = []  # everything that pulumi printed, for the search for secrets

    def __enter__(self) -> Self:
        with (self.home / "emulator.log").open("w") as log:
            command = [sys.executable, "-m", "rehearsal.emulator", "-p", str(self.port)]
            self.emulator = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return self
        raise RehearsalError(f"the emulated AWS did not start: {(self.home / 'emulator.log').read_text()[-500:]}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.emulator.terminate()
        self.emulator.wait(30)
        shutil.rmtree(self.home, ignore_errors=True)

    def take(self, program: Path) -> None:
        """Have this checkout's program in the project, and leave what the stacks say."""
        for part in PROGRAM:
            source, target = program / part, self.project / part
            if target.is_dir():
                shutil.rmtree(target)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():  # an older program has fewer parts
                shutil.copy(source, target)
        packages = self.project / ".venv"
        packages.unlink(missing_ok=True)
        packages.symlink_to(self._packages(program / "requirements.txt"))

    def _packages(self, requirements: Path) -> Path:
        """Where a program's packages are: those that run this, unless it asks for others."""
        if _pins(requirements) == _pins(ROOT / "requirements.txt"):
            return Path(sys.prefix)
        made = self.home / f"packages-{sha256(requirements.read_bytes()).hexdigest()[:12]}"
        if not made.exists():
            subprocess.run([sys.executable, "-m", "venv", made], check=True)
            subprocess.run([made / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], check=True)
        return made

    def pulumi(self, *words: str, stack: str | None = None, code: int | None = 0, quiet: bool = False) -> Run:
        """Run pulumi; anything but exit code `code` (None: any) is an error. `quiet`: it may print secrets."""
        start = time.monotonic()
        chosen = [] if stack is None else ["--stack", stack]
        ended = subprocess.run(
            ["pulumi", *words, *chosen, "--non-interactive", "--color", "never"],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if "--json" not in words else subprocess.PIPE,
            text=True,
            check=False,
        )
        if not quiet:
            self.said.append(ended.stdout)
        if code is not None and ended.returncode != code:
            raise RehearsalError(
                f"pulumi {' '.join(words)} ended with {ended.returncode}, not {code}:\n{ended.stdout[-4000:]}{(ended.stderr or '')[-2000:]}"
            )
        return Run(ended.returncode, ended.stdout, time.monotonic() - start)

    def say(self, stack: str, **settings: object) -> None:
        """Change settings in the stack's file, as a person would."""
        path = self.project / f"Pulumi.{stack}.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["config"].update({f"orthanc:{key}": value for key, value in settings.items()})
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def steps(self, stack: str) -> Sequence[tuple[str, str]]:
        """What a preview would do: operations, each with the URN that it is done to."""
        told = json.loads(self.pulumi("preview", "--json", stack=stack).said)
        return [(step["op"], step["urn"]) for step in told["steps"]]

    def plan(self, stack: str) -> Mapping[str, str]:
        """What a preview would change: {resource name: operation}. A step of a replacement stands once."""
        return {urn.split("::")[-1]: op for op, urn in self.steps(stack) if op not in ("same", "read")}

    def up(self, stack: str) -> Sequence[tuple[str, str]]:
        """What an `up` does, as `steps` tells it."""
        said = self.pulumi("up", "--yes", "--skip-preview", "--json", stack=stack).said
        done = [event["resOutputsEvent"]["metadata"] for event in map(json.loads, said.splitlines()) if "resOutputsEvent" in event]
        return [(step["op"], step["urn"]) for step in done]

    def outputs(self, stack: str) -> Mapping[str, Any]:
        told = json.loads(self.pulumi("stack", "output", "--json", "--show-secrets", stack=stack, quiet=True).said)
        return dict(told)

    def state(self, stack: str, *, secrets: bool = False) -> str:
        words = ["stack", "export", *(["--show-secrets"] if secrets else [])]
        return self.pulumi(*words, stack=stack, quiet=True).said

    def aws(self, service: str) -> Any:
        """An independent client of the emulated AWS: Amazon's own, not the provider that made things."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="testing",
            aws_secret_access_key="testing",  # noqa: S106 - the emulator takes anything
        )


def _pins(requirements: Path) -> frozenset[str]:
    return frozenset(line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
