"""One run: do what `decisions.step` says until it says that the run is over."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

from orthanc_host import files, store
from orthanc_host.configuration import Configuration
from orthanc_host.containers import Containers
from orthanc_host.decisions import (
    REPLACEMENT_HOURS,
    Action,
    Pointer,
    Proof,
    Seen,
    State,
    forget_what_moved_on,
    step,
)
from orthanc_host.machine import Aws, Failed, Machine
from orthanc_host.proof import Findings, Prober

DONE, REFUSED, UNPROVEN = 0, 65, 69
_KEEP_RELEASES = 4
_TIMED = ("apply", "prove")


class Agent:
    """Converges this host to one release and proves it."""

    def __init__(
        self,
        machine: Machine,
        configuration: Configuration,
        folder: Path,
        *,
        release: Pointer,
        wanted: Pointer,
        not_taken: str = "",
        prober: Prober | None = None,
    ) -> None:
        self.machine = machine
        self.configuration = configuration
        self.aws = Aws(machine, configuration.region)
        self.folder = folder
        self.containers = Containers(machine, folder / "compose.yaml", configuration.up_seconds)
        self.prober = prober or Prober(machine, configuration)
        self.release, self.wanted, self.not_taken = release, wanted, not_taken
        self.begun = machine.now()
        self.trouble = ""  # why the last `apply` did not succeed
        self.outside = ""  # … and whether that lies outside this host
        self.findings: Findings | None = None
        self.changed: set[str] = set()
        self.durations: dict[str, float] = {}  # of what takes its time, in seconds; tries of one run added up
        self.instance = ""

    def run(self) -> int:
        """Returns the exit code: DONE (also while something outside is waited for), REFUSED, UNPROVEN."""
        state = forget_what_moved_on(store.load(self.machine), self.wanted)
        self.instance = self._metadata("instance-id")
        seen = Seen(
            now=self.machine.now(),
            instance=self.instance,
            release=self.release,
            wanted=self.wanted,
            not_taken=self.not_taken,
            # A host that is on its way out, or can't know, must not take the address from one that serves.
            wanted_by_group=self._metadata("autoscaling/target-lifecycle-state") == "InService",
            has_address=self._metadata("public-ipv4") == self.configuration.address,
        )
        while True:
            state, actions = step(state, seen)
            store.save(self.machine, state)
            for action in actions:
                if action.kind == "end":
                    return self._end(action.detail)
                begun = self.machine.now()
                state, seen = self._do(action, state, replace(seen, now=begun))
                if action.kind in _TIMED:
                    self.durations[action.kind] = self.durations.get(action.kind, 0) + self.machine.now() - begun
                store.save(self.machine, state)

    def _end(self, outcome: str) -> int:
        if outcome == "proven":
            self._tidy()
        return {"refused": REFUSED, "failed": UNPROVEN}.get(outcome, DONE)

    def _do(self, action: Action, state: State, seen: Seen) -> tuple[State, Seen]:
        """Do one thing, and say what it changed. What fails is told, and tried again in the next run; it stops none of the others."""
        doing: dict[str, Callable[[], bool]] = {
            "apply": lambda: self._apply(state),
            "wait": lambda: self._wait(float(action.detail)),
            "emit": lambda: self._emit(state, seen, action.detail),
            "take-address": lambda: self._attempt("the address was not taken", self._take_address),
            "write-proven": lambda: self._attempt("`proven` was not written", lambda: self._write_proven(action.detail)),
            "complete-hook": lambda: self._attempt("the launch hook was not completed", self._complete_hook),
            "restart-stack": lambda: self._attempt("the stack was not restarted", self._restart),
            "give-up": lambda: self._attempt("the host was not marked unhealthy", self._give_up),
        }
        if action.kind == "prove":
            return state, replace(seen, proof=self._prove())
        if action.kind == "ask-history":
            return state, replace(seen, replacements=self._replacements())
        done = doing[action.kind]()
        if done and action.kind == "write-proven":
            state = replace(state, told=action.detail, told_at=seen.now)
        if done and action.kind == "complete-hook":
            state = replace(state, hook_completed=self.instance)
        return state, seen

    def _wait(self, seconds: float) -> bool:
        self.machine.sleep(seconds)
        return True

    # -- making it so -------------------------------------------------------------------------------------------------

    def _apply(self, state: State) -> bool:
        """Bring files and containers to what the release says. What went wrong goes into the proof."""
        self.trouble = self.outside = ""
        self._make_room()
        try:
            wanted = self._files(state)
        except Failed as error:
            # What lies in the directories serves on; only a host that just booted has nothing.
            self.outside = str(error)
            if not self._complete():
                return False
            wanted = None
        try:
            if wanted is not None:
                self._follow(wanted)
            else:
                self._keep_running()
        except Failed as error:
            self.trouble = str(error)
        return not self.trouble

    def _files(self, state: State) -> dict[str, str]:
        machine, configuration = self.machine, self.configuration
        placed = files.placed(machine, configuration)
        shipped = files.shipped(machine, self.folder, configuration)
        return {
            **files.without_revoked(shipped, state.revoked),
            **files.secrets(machine, self.aws, configuration, placed),
            **files.passfile(self.aws, configuration, placed),
            "orthanc/database-authority.crt": files.database_authorities(machine, configuration),
        }

    def _complete(self) -> bool:
        """Every file of this release lies there from an earlier run."""
        placed = files.placed(self.machine, self.configuration)
        shipped = files.shipped(self.machine, self.folder, self.configuration)
        return placed.keys() >= {*self.configuration.files, *shipped, "orthanc/pgpass"}

    def _follow(self, wanted: Mapping[str, str]) -> None:
        fresh = files.place(self.machine, self.configuration, wanted)
        digests = files.digests({**wanted, "compose.yaml": self.machine.read(self.folder / "compose.yaml") or ""})
        taken = store.taken(self.machine)
        fresh |= {name for name in digests.keys() | taken.keys() if digests.get(name) != taken.get(name)}
        self.changed |= {name for name in fresh if not name.startswith(files.OWN)}
        self._pull()
        self._keep_running(fresh)
        store.take(self.machine, digests)

    def _pull(self) -> None:
        try:
            self.containers.pull()
        except Failed as error:
            # Images that ran here or on the host before are no mistake of this release.
            if self._was_proven():
                self.outside = f"an image can't be had: {error}"
            raise

    def _was_proven(self) -> bool:
        proven = store.load(self.machine).proven
        return proven is not None and proven.sha256 == self.release.sha256

    def _keep_running(self, fresh: set[str] | None = None) -> None:
        ill = {name for name, health in self.containers.health().items() if health not in ("healthy", "starting", "unhealthy")}
        self.containers.follow(fresh or set(), again=bool(ill))
        for line in self.containers.hold_modalities().splitlines():
            self._say(line)

    # -- proving it ---------------------------------------------------------------------------------------------------

    def _prove(self) -> Proof:
        try:
            self.findings = found = self.prober.findings()
        except OSError as error:  # a file that is not there yet
            return Proof((self.trouble or str(error),), self.outside)
        failed = tuple(reason for reason in (self.trouble, *found.failed) if reason)
        if not failed:
            if self.outside:
                self._say(f"{self.outside}; the service goes on with what it has")
            return Proof()
        return Proof(failed, f"the database is not there: {found.database}" if found.database else self.outside)

    # -- telling it ---------------------------------------------------------------------------------------------------

    def _take_address(self) -> None:
        place = self.aws("ec2", "describe-addresses", "--allocation-ids", self.configuration.allocation)["Addresses"][0]
        if place.get("InstanceId") == self.instance:
            return
        allocation = ("--allocation-id", self.configuration.allocation)
        self.aws("ec2", "associate-address", *allocation, "--instance-id", self.instance, "--allow-reassociation")
        self._say(f"took the address {self.configuration.address}")

    def _write_proven(self, body: str) -> None:
        self.aws("ssm", "put-parameter", "--name", self.configuration.proven, "--overwrite", "--value", body)

    def _complete_hook(self) -> None:
        names = ("--lifecycle-hook-name", self.configuration.hook, "--auto-scaling-group-name", self.configuration.group)
        command = ("autoscaling", "complete-lifecycle-action", *names)
        try:
            self.aws(*command, "--instance-id", self.instance, "--lifecycle-action-result", "CONTINUE")
        except Failed as error:
            # Nobody waits for it: the host was rebooted, or is no new one.
            if "No active Lifecycle Action" not in str(error):
                raise

    def _replacements(self) -> int:
        """How many hosts of this group were given up lately, by the group's own history."""
        since = datetime.fromtimestamp(self.machine.now(), timezone.utc) - timedelta(hours=REPLACEMENT_HOURS)
        try:
            told = self.aws("autoscaling", "describe-scaling-activities", "--auto-scaling-group-name", self.configuration.group)
        except Failed as error:
            self._say(f"the group's history can't be read: {error}")
            return sys.maxsize  # without it, nothing is replaced
        causes = [a.get("Cause", "") for a in told.get("Activities", ()) if _time(a.get("StartTime", "")) > since]
        # "At … an instance was taken out of service in response to a user health-check."
        return sum("taken out of service" in cause and "health" in cause for cause in causes)

    def _restart(self) -> None:
        self._say("restarting all containers, because the proof has failed for minutes")
        self.containers.restart()

    def _give_up(self) -> None:
        self._say("asking the group for another host")
        self.aws(*("autoscaling", "set-instance-health", "--instance-id", self.instance, "--health-status", "Unhealthy"))

    def _emit(self, state: State, seen: Seen, status: str) -> bool:
        """The outcome as metrics, and as one line for the journal and CloudWatch."""
        line = self.line(state, seen, status)
        print(json.dumps(line, sort_keys=True), flush=True)
        self._attempt("no metrics were sent", lambda: self._metrics(state, status))
        return self._attempt("no log line was sent", lambda: self._log(line))

    def line(self, state: State, seen: Seen, status: str) -> dict[str, Any]:
        """The structured log line of one run."""
        found = self.findings
        proof = seen.proof
        line: dict[str, Any] = {
            "what": "proof",
            "status": status,
            "release": self.release.sha256[:12],
            "wanted": self.wanted.sha256[:12],
            "host": self.instance,
            "ami": self._metadata("ami-id"),
            "versions": self._versions(),
            "seconds": round(self.machine.now() - self.begun, 1),
            "durations": {what: round(seconds, 1) for what, seconds in sorted(self.durations.items())},
            "changed": sorted(self.changed),
        }
        if proof is not None and not proof.good:
            line["reason"] = proof.why
        if self.outside:
            line["outside"] = self.outside
        if self.not_taken:
            line["not_taken"] = self.not_taken
        if state.hold:
            line["hold"] = state.hold.reason
        if found is not None:
            line.update(free_mb=found.free_bytes >> 20, certificate_days=found.days_left, certificate=found.ends_first)
            if found.stored_bytes is not None:
                line["stored_bytes"] = found.stored_bytes
        return line

    def _versions(self) -> dict[str, str]:
        """Of what this host runs beside the images, which the release pins."""
        told = {
            "system": _named(self.machine.read(Path("/etc/os-release")) or "", "PRETTY_NAME"),
            "kernel": (self.machine.read(Path("/proc/sys/kernel/osrelease")) or "").strip(),
        }
        asked = {
            "docker": ("docker", "version", "--format", "{{.Server.Version}}"),
            "compose": ("docker", "compose", "version", "--short"),
        }
        for what, command in asked.items():
            with suppress(Failed):
                told[what] = self.machine.run(*command).strip()
        return told

    def _metrics(self, state: State, status: str) -> None:
        refused = self.wanted.sha256 in state.refused or bool(self.not_taken)
        values: dict[str, tuple[float, str]] = {
            "Proof": (float(status == "proven"), "None"),
            "ReleaseFailed": (float(refused), "None"),
            "Held": (float(state.hold is not None), "None"),
            "Seconds": (self.machine.now() - self.begun, "Seconds"),
        }
        found = self.findings
        if found is not None:
            values["CertificateDaysLeft"] = (float(found.days_left), "None")
            values["FreeDisk"] = (float(found.free_bytes), "Bytes")
            if found.stored_bytes is not None:
                values["StoredBytes"] = (float(found.stored_bytes), "Bytes")
        dimensions = [{"Name": "Stack", "Value": self.configuration.stack}]
        data = [{"MetricName": n, "Value": v, "Unit": unit, "Dimensions": dimensions} for n, (v, unit) in sorted(values.items())]
        self.aws("cloudwatch", "put-metric-data", request={"Namespace": self.configuration.metrics, "MetricData": data})

    def _log(self, line: Mapping[str, Any]) -> None:
        names = {"logGroupName": self.configuration.log_group, "logStreamName": self.instance}
        event = {"timestamp": int(self.machine.now() * 1000), "message": json.dumps(line, sort_keys=True)}
        try:
            self.aws("logs", "put-log-events", request={**names, "logEvents": [event]})
        except Failed as error:
            if "ResourceNotFoundException" not in str(error):
                raise
            self.aws("logs", "create-log-stream", request=names)
            self.aws("logs", "put-log-events", request={**names, "logEvents": [event]})

    # -- housekeeping -------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """On a disk that is nearly full: images that no container uses, and the journal's past."""
        if self.machine.free_bytes(*self.configuration.disks) >= self.configuration.minimum_free_mb << 20:
            return
        self._say("the disk is nearly full: dropping unused images and old journals")
        self._attempt("no images were dropped", lambda: self.machine.run("docker", "image", "prune", "--all", "--force", seconds=300))
        self._attempt("the journal was not cut", lambda: self.machine.run("journalctl", "--vacuum-size=50M"))

    def _tidy(self) -> None:
        """Drop the releases that nobody will go back to."""
        state = store.load(self.machine)
        kept = {p.sha256 for p in (self.release, self.wanted, state.proven, *state.earlier[: _KEEP_RELEASES - 1]) if p is not None}
        for name in self.machine.names(self.folder.parent):
            if name not in kept and not name.startswith("."):
                self.machine.remove(self.folder.parent / name)

    def _attempt(self, otherwise: str, work: Callable[[], object]) -> bool:
        try:
            work()
        except (Failed, OSError, KeyError, IndexError) as error:
            self._say(f"{otherwise}: {error}")
            return False
        return True

    def _metadata(self, path: str) -> str:
        try:
            return self.machine.metadata(f"meta-data/{path}") or ""
        except Failed as error:
            self._say(str(error))
            return ""

    @staticmethod
    def _say(text: str) -> None:
        print(text, flush=True)


def _named(text: str, name: str) -> str:
    """The value of one line NAME="VALUE" of os-release(5)."""
    found = [line.partition("=")[2].strip('"') for line in text.splitlines() if line.startswith(f"{name}=")]
    return found[0] if found else ""


def _time(text: str) -> datetime:
    """AWS's time stamps; Python 3.9 knows no Z."""
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)
