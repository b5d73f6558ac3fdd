"""docs/alarms.md: who is woken finds the alarm's section, and in it commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from botocore import xform_name  # type: ignore[import-untyped]  # Amazon gives it no types
from botocore.session import Session  # type: ignore[import-untyped]

from infra.database import NAME, PORT, USER
from infra.monitoring import alarms
from infra.settings import FIELDS
from infra.stack import Stack
from tests.unit.recording import REGION, ROOT
from tests.unit.test_settings import load
from tests.unit.test_stack import SCENARIOS, deployed

TEXT = (ROOT / "docs/alarms.md").read_text(encoding="utf-8")
MADE = alarms(load(**SCENARIOS["gateway"]), Stack(name="test", region=REGION, keep=False))
ALARMS = {alarm.section or alarm.name: alarm for alarm in MADE}
SECTIONS: dict[str, str] = dict(re.findall(r"(?ms)^## `([\w-]+)`\n(.*?)(?=^## |\Z)", TEXT))
COMMANDS = "\n".join(re.findall(r"(?ms)^```sh\n(.*?)^```", TEXT))


def test_every_alarm_has_its_section_and_nothing_else_has() -> None:
    assert list(SECTIONS) == list(ALARMS)


def test_the_page_says_which_sections_need_more_than_aws_and_pulumi() -> None:
    needs = {
        what: set(re.findall(r"`([a-z0-9-]+)`", sections))
        for sections, what in re.findall(r"(?m)^- (`.*`), (for a shell|to get \[into the database\])", TEXT)
    }
    assert needs == {
        "for a shell": {name for name, text in SECTIONS.items() if "orthanc-host " in text},
        "to get [into the database]": {name for name, text in SECTIONS.items() if "psql " in text},
    }


# Commands of the CLI that are no operation of the service.
CLI_ONLY = {("logs", "tail")}


@pytest.mark.parametrize("name", ALARMS)
def test_a_section_says_what_it_means_by_which_metric_and_what_to_run(name: str) -> None:
    section = SECTIONS[name]
    assert section.strip().startswith("**Means** ")
    assert "\n**Do** " in section
    metric = ALARMS[name].metric.replace("orthanc-test", "orthanc-STACK").replace("GW1", "AET")
    assert f"`{metric}`" in section or f"(`{metric} " in section or f"`{metric}` " in section
    assert re.search(r"(?m)^```sh\n.+", section)


@pytest.mark.parametrize("name", ALARMS)
def test_the_alarm_itself_names_its_section(name: str) -> None:
    made = deployed("gateway").of("cloudwatch/metricAlarm")[f"monitoring-{ALARMS[name].name}"]
    assert made["alarmDescription"].endswith(f" (docs/alarms.md, {name})")
    assert len(made["alarmDescription"]) <= 1024  # what CloudWatch takes


def test_the_commands_are_ones_that_a_shell_understands() -> None:
    shell = shutil.which("bash")
    assert shell is not None
    done = subprocess.run([shell, "-n"], input=COMMANDS, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", ["alarms.md", "aws.md", "host.md", "recovery.md", "rotation.md", "upgrades.md"])
def test_aws_knows_every_command_and_option_of_its_cli_that_a_page_uses(page: str) -> None:
    text = re.sub(r"\\\n\s*", "", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    used = re.findall(r"\baws ([a-z0-9]+) ([a-z-]+)((?: +(?!\"\$\()(?:--)?[^\s`|)&]+)*)", text)
    assert used
    for service, command, rest in used:
        if (service, command) in CLI_ONLY:
            continue
        model = Session().get_service_model({"s3api": "s3"}.get(service, service))
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        if command == "wait":
            waiters = Session().get_waiter_model(service)
            asks = {xform_name(name, "-"): xform_name(waiters.get_waiter(name).operation, "-") for name in waiters.waiter_names}
            command = asks[rest.split()[0]]  # noqa: PLW2901 - the operation that it repeats
        assert command in operations, f"aws {service} {command}"
        shape = model.operation_model(operations[command]).input_shape
        known = {xform_name(name, "-") for name in shape.members} | {"query", "output", "region", "max-items"}
        options = {option.removeprefix("no-") for option in re.findall(r"--([a-z-]+)", rest)}
        assert options <= known, f"aws {service} {command}: {options - known}"


def test_targets_settings_and_names_in_commands_exist() -> None:
    targets = set(re.findall(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"\bmake ([a-z-]+) [A-Z]", TEXT)) <= targets
    assert set(re.findall(r"\borthanc:(\w+)", TEXT)) <= set(FIELDS)
    assert set(re.findall(r"\bsudo orthanc-host (\w+)", TEXT)) <= {"status", "logs"}
    stack = deployed("dev")
    assert stack.one("rds/instance")["identifier"] == stack.one("autoscaling/group")["name"] == "orthanc-test"
    assert set(re.findall(r"\borthanc-STACK\S*", COMMANDS)) <= {"orthanc-STACK", "orthanc-STACK)"}
    assert f"dbname={NAME} user={USER} " in TEXT
    assert f"portNumber={PORT}," in TEXT


def test_numbers_in_the_text_are_those_that_are_watched() -> None:
    minutes = {name: alarm.periods * 5 for name, alarm in ALARMS.items()}
    assert f"for {minutes['proof']} minutes" in SECTIONS["proof"]
    assert f"for {minutes['connections']} minutes" in SECTIONS["connections"]
    assert minutes["cpu"] == 30
    assert f"above {ALARMS['cpu'].threshold} %" in SECTIONS["cpu"]
    assert ALARMS["transaction-ids"].threshold == 10**9
    assert stack_window() in SECTIONS["cpu"]


def stack_window() -> str:
    """When a kept database changes, as the page has it."""
    day, hour, minute = re.fullmatch(r"(\w{3}):(\d\d):(\d\d)-.*", deployed("prod").one("rds/instance")["maintenanceWindow"]).groups()  # type: ignore[union-attr]
    return f"on {({'sun': 'Sunday'})[day]} at {hour}:{minute} UTC"
