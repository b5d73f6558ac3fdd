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
        # The name becomes part of RDS identifiers, which take lower case, digits and single hyphens (63 at most).
        if not re.fullmatch(r"[a-z](-?[a-z0-9]){0,29}", self.name):
            raise SettingsError(
                f"stack {self.name}: AWS would refuse names made from it; take up to 30 of a-z, 0-9 and single '-'\n"
                f"    remedy: pulumi stack rename NEW-NAME"
            )

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


def configured() -> tuple[Settings, Stack]:
    """What this stack's configuration says, and which stack it is. What is wrong ends the program, without a traceback."""
    said = {**get_config_env(), **CONFIG.get()}
    try:
        settings = Settings.load(said, {key for key in said if is_config_secret(key)})
        return settings, Stack(name=pulumi.get_stack(), region=pulumi.Config("aws").require("region"), keep=settings.keep)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None


def statement(actions: list[str], resources: list[str] | str, **more: Mapping[str, object]) -> dict[str, object]:
    """One Allow of an IAM document."""
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **more}


def document(*statements: Mapping[str, object]) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
