"""A stack that is deployed, with its host and those who use it: what the steps of the service's life act on."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from laptop import study
from laptop.peer import Peer
from laptop.private import write_bundle
from laptop.tell import Trouble
from operations.deployed import Deployed
from operations.verify.target import Target, of_stack
from rehearsal.cloud import Cloud
from rehearsal.hosts import Host
from rehearsal.laboratory import ROOT, Laboratory, RehearsalError

STACK = "dev"
CT1: Mapping[str, Any] = {"aet": "CT1", "may": ["store", "find"]}
USERS: Sequence[Mapping[str, str]] = ({"name": "admin", "role": "admin"}, {"name": "reader", "role": "reader"})


def require(condition: object, otherwise: str) -> None:
    if not condition:
        raise RehearsalError(otherwise)


def eventually(what: str, condition: Callable[[], object], seconds: float) -> float:
    """Wait until it is so, and return how long that took."""
    begun = time.monotonic()
    why = ""
    while True:
        try:
            if condition():
                return time.monotonic() - begun
        except (OSError, ValueError, Trouble, RehearsalError) as error:
            why = f": {error}"
        if time.monotonic() - begun > seconds:
            raise RehearsalError(f"after {seconds:.0f} s it is not so that {what}{why}")
        time.sleep(0.5)


@dataclass
class Steady:
    """Somebody who opens an association, stores an image, releases and begins again, until told to stop."""

    peer: Peer
    stored: list[str] = field(default_factory=list)  # SOP Instance UIDs that were acknowledged
    refused: list[tuple[float, str]] = field(default_factory=list)  # when, and what happened instead
    longest_gap: float = 0.0  # between two acknowledged images, in seconds
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        (template, *_) = study.samples()
        template.StudyInstanceUID, template.SeriesInstanceUID = generate_uid(), generate_uid()
        last = time.monotonic()
        while not self._stop.wait(0.2):
            image = copy.deepcopy(template)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            try:
                self.peer.store([image])
            except (OSError, Trouble) as error:
                self.refused.append((time.time(), str(error)))
            else:
                self.stored.append(str(image.SOPInstanceUID))
                self.longest_gap = max(self.longest_gap, time.monotonic() - last)
                last = time.monotonic()

    def unbroken(self) -> str:
        require(self.stored, "the steady modality stored nothing at all")
        require(not self.refused, f"the steady modality failed {len(self.refused)} times: {self.refused[:3]}")
        return f"{len(self.stored)} associations of another modality meanwhile, none failed"


class Scene:
    def __init__(self, lab: Laboratory, cloud: Cloud) -> None:
        self.lab, self.cloud = lab, cloud
        self.modalities: list[Mapping[str, Any]] = [CT1]
        self.kept: list[str] = []  # every SOP Instance UID that was ever acknowledged
        self._outputs: Mapping[str, Any] | None = None
        self._moves = 0

    # -- the stack ------------------------------------------------------------------------------------------------------

    def say(self, **settings: object) -> None:
        self.lab.say(STACK, **settings)

    def move_on(self) -> None:
        """Make the next release another one, in a way that restarts nothing: a modality that nobody has."""
        self._moves += 1
        self.say(modalities=[*self.modalities, {"aet": f"NEXT{self._moves}", "may": []}])

    def up(self) -> float:
        self._outputs = None
        return self.lab.pulumi("up", "--yes", stack=STACK).seconds

    def make_up(self, *, code: int = 0) -> str:
        """What `make up STACK=dev YES=1` does, with what it printed."""
        self._outputs = None
        done = subprocess.run(
            [sys.executable, "-m", "operations", "up", STACK, "--", "--yes", "--non-interactive", "--color", "never"],
            cwd=self.lab.project,
            env={**self.lab.environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        require(done.returncode == code, f"make up ended with {done.returncode}, not {code}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout + done.stderr

    @property
    def outputs(self) -> Mapping[str, Any]:
        if self._outputs is None:
            self._outputs = self.lab.outputs(STACK)
        return self._outputs

    @property
    def proven(self) -> Mapping[str, Any]:
        """What the parameter `proven` says."""
        told: Mapping[str, Any] = json.loads(self.lab.aws("ssm").get_parameter(Name=self.outputs["proven"])["Parameter"]["Value"])
        return told

    def until_proven(self, release: str, seconds: float = 240) -> float:
        return eventually(f"{release[:12]} is proven", lambda: self._is_proven(release), seconds)

    def _is_proven(self, release: str) -> bool:
        told = self.proven
        return bool(told.get("status") == "proven" and told.get("release") == release)

    @property
    def host(self) -> Host:
        """The newest one that lives."""
        return next(host for host in reversed(self.cloud.hosts) if host.alive)

    # -- its users --------------------------------------------------------------------------------------------------------

    def peer(self, aet: str) -> Peer:
        """A modality with the bundle from the stack's outputs, at the stack's address."""
        bundle = self.outputs["modalities"][aet]
        newest = bundle[max(bundle, key=int)]
        folder = self.lab.home / "bundles" / aet
        write_bundle(folder, aet, certificate=newest["certificate"], authority=newest["authority"], key=newest["key"])
        return Peer(aet=aet, bundle=folder, host=self.address, port=11112)

    def target(self) -> Target:
        """The stack as `make verify` asks it."""
        require(self.address == self.outputs["service"]["host"], "the outputs name another host than the stack's address")
        return of_stack(STACK, Deployed.model_validate(self.outputs), self.lab.home / "bundles" / "verify")

    @property
    def address(self) -> str:
        return self.cloud.address(STACK, 11112, 443)

    def store(self, peer: Peer, images: Sequence[Dataset]) -> int:
        count = peer.store(images)
        self.kept += [str(image.SOPInstanceUID) for image in images]
        return count

    @contextmanager
    def steady(self, aet: str = "CT1") -> Iterator[Steady]:
        with Steady(self.peer(aet)) as steady:
            yield steady
        self.kept += steady.stored

    def web(self, path: str, *, user: str = "admin", method: str = "GET", body: str | None = None) -> tuple[int, Any]:
        """Ask the web page as a browser would that trusts the stack's authority."""
        context = ssl.create_default_context(cadata=self.outputs["authority"])
        connection = http.client.HTTPSConnection(self.address, 443, timeout=30, context=context)
        login = base64.b64encode(f"{user}:{self.outputs['passwords'][user]}".encode()).decode()
        try:
            connection.request(method, path, body, {"Authorization": f"Basic {login}"})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if answer.status == 200 and content[:1] in b"[{" else None
        except http.client.HTTPException as error:
            raise OSError(f"the web page broke off: {error!r}") from None
        finally:
            connection.close()

    def lost(self) -> list[str]:
        """Which acknowledged images the archive does not have. Must be none, whatever happened."""
        query = {"Level": "Instance", "Expand": True, "Query": {}}
        status, found = self.web("/tools/find", method="POST", body=json.dumps(query))
        require(status == 200, f"the archive could not be asked: {status}")
        there = {entry["MainDicomTags"]["SOPInstanceUID"] for entry in found}
        return [uid for uid in self.kept if uid not in there]

    # -- what was said ------------------------------------------------------------------------------------------------------

    def metric(self, name: str) -> list[float]:
        """Every value of a metric that hosts sent, the newest last."""
        return [value for _, value in self._sent(name)]

    def last_proof(self) -> tuple[float, float]:
        """When the newest value of the metric Proof was sent (seconds since the epoch), and the value."""
        return (self._sent("Proof") or [(0.0, 0.0)])[-1]

    def _sent(self, name: str) -> list[tuple[float, float]]:
        """When each value of a metric was sent, and the value; the newest last."""
        return [
            (call.at, float(datum["Value"]))
            for call in self.cloud.asked()
            if str(call) == "cloudwatch:PutMetricData"
            for datum in _metric_data(call.parameters)
            if datum["MetricName"] == name
        ]

    def lines(self, host: Host | None = None) -> list[Mapping[str, Any]]:
        """The agent's log lines that arrived in CloudWatch."""
        found = self.lab.aws("logs").get_log_events(
            logGroupName=f"/orthanc/{STACK}/host", logStreamName=(host or self.host).id, startFromHead=True
        )
        return [json.loads(event["message"]) for event in found["events"]]

    def containers_said(self) -> str:
        """What nginx and Orthanc logged, as it arrived in CloudWatch."""
        logs, group = self.lab.aws("logs"), f"/orthanc/{STACK}/containers"
        streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
        found = [logs.get_log_events(logGroupName=group, logStreamName=s["logStreamName"], startFromHead=True) for s in streams]
        return "\n".join(event["message"] for events in found for event in events["events"])


def _metric_data(parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    data = parameters.get("MetricData", [])
    return list(data.values()) if isinstance(data, dict) else list(data)
