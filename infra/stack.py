"""Stack: which of several stacks in one account this is, and the names that follow from it. Said once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from infra.settings import PROJECT, Settings, SettingsError

# What `openToTheWorld: true` leaves on a rule for 0.0.0.0/0, so that the guardrails let it through.
OPEN_TAG: Final = "orthanc:open"
CONFIRMED: Final = "confirmed"


@dataclass(frozen=True, kw_only=True)
class Stack:
    name: str
    region: str
    keep: bool

    def __post_init__(self) -> None:
        if problem := problem_with_stack(self.name, self.region):
            raise SettingsError(problem)

    @property
    def label(self) -> str:
        """The name of what there is one of: the group, the database."""
        return f"{PROJECT}-{self.name}"

    def path(self, what: str) -> str:
        """The name of a parameter or log group."""
        return f"/{PROJECT}/{self.name}/{what}"

    @property
    def log_groups(self) -> str:
        """Every log group of this stack, as a pattern for ARNs."""
        return self.path("*")

    def tags(self, role: str = "") -> dict[str, str]:
        """A fresh dictionary, because each resource wants its own. `orthanc:keep` lets the guardrails know what must be protected."""
        return {
            "Name": f"{self.label}-{role}" if role else self.label,
            "orthanc:project": PROJECT,
            "orthanc:stack": self.name,
            "orthanc:keep": "true" if self.keep else "false",
        }


def problem_with_stack(name: str, region: str) -> str:
    """What is wrong with a stack's name and region, each with its remedy; empty when nothing is."""
    problems = []
    # The name becomes part of RDS identifiers, which take lower case, digits and single hyphens (63 at most).
    if not re.fullmatch(r"[a-z](-?[a-z0-9]){0,29}", name):
        problems.append(
            f"stack {name}: AWS would refuse names made from it; take up to 30 of a-z, 0-9 and single '-'\n"
            f"    remedy: pulumi stack rename NEW-NAME"
        )
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region):
        said = f" = {region}: is no region" if region else ": is required, so that nothing is made in a region that nobody chose"
        problems.append(f"aws:region{said}\n    remedy: pulumi config set aws:region us-east-1")
    elif region.startswith(("cn-", "us-gov-")):
        problems.append(
            f"aws:region = {region}: lies in a partition with other names (arn:aws-...), which nobody has tried\n    remedy: another region"
        )
    return "\n\n".join(problems)


def configured() -> tuple[Settings, Stack]:
    """What this stack's configuration says, and which stack it is. What is wrong ends the program, all at once, without a traceback."""
    said = {**get_config_env(), **CONFIG.get()}
    name, region = pulumi.get_stack(), pulumi.Config("aws").get("region") or ""
    problems = [problem_with_stack(name, region)]
    try:
        settings = Settings.load(said, {key for key in said if is_config_secret(key)})
    except SettingsError as error:
        problems.append(str(error))
    if any(problems):
        raise pulumi.RunError("\n\n".join(filter(None, problems)))
    return settings, Stack(name=name, region=region, keep=settings.keep)


def statement(actions: list[str], resources: list[str] | str, **more: Mapping[str, object]) -> dict[str, object]:
    """One Allow of an IAM document."""
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **more}


def document(*statements: Mapping[str, object]) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
