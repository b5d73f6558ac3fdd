"""What a stack that is deployed says of itself: its outputs, read with Pulumi's CLI into memory and no further."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from config_templates.model import Right
from laptop.tell import Trouble, complaints

_HOW_TO_INSTALL: Final = "Install Pulumi's CLI (pulumi.com/docs/install), or add its folder to PATH, and try again."


class _Output(BaseModel):
    # What a later program adds is none of our business; what stands in an error may be a key.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, alias_generator=to_camel, populate_by_name=True)


class Bundle(_Output):
    """One certificate of a modality. `key` is None when the modality made its key itself."""

    certificate: str
    authority: str
    key: SecretStr | None = None


class Rights(_Output):
    """What a modality may do, and where images may be sent to it."""

    may: tuple[Right, ...]
    address: str | None = None
    port: int | None = None


class Service(_Output):
    host: str
    certificate_name: str | None = None  # the DNS name in its certificate; programs before 0.2 did not say it
    aet: str
    dicom_port: int
    web_port: int
    admins: tuple[str, ...]
    modalities: Mapping[str, Rights]


class Deployed(_Output):
    """`modalities`: for each AE title its certificates in force, by number."""

    service: Service
    authority: str
    passwords: Mapping[str, SecretStr]
    modalities: Mapping[str, Mapping[int, Bundle]]


def deployed(stack: str) -> Deployed:
    """The outputs of `stack`. Raises Trouble when they can't be had."""
    said = ask(stack, "stack", "output", "--json", "--show-secrets")
    if said.strip() in ("", "{}"):
        raise Trouble(f"the stack {stack} has no outputs: nothing of it is deployed. Deploy it: make up STACK={stack}")
    try:
        return Deployed.model_validate_json(said)
    except ValidationError as error:
        raise Trouble(
            f"the outputs of the stack {stack} are not those of this program ({complaints(error)}). "
            f"It was deployed by another version: make up STACK={stack} brings it to this one."
        ) from None


def ask(stack: str, *words: str) -> str:
    """What pulumi prints about the stack; it asks nobody anything meanwhile. Raises Trouble when it can't say."""
    try:
        done = subprocess.run(["pulumi", *words, "--non-interactive", "--stack", stack], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Trouble(f"pulumi is not on PATH, and it alone can read the stack {stack}. {_HOW_TO_INSTALL}") from None
    if done.returncode != 0:
        raise Trouble(_why(stack, done.stderr))
    return done.stdout


def _why(stack: str, said: str) -> str:
    if "no stack named" in said or "no stack selected" in said:
        return (
            f"there is no stack {stack} where pulumi is logged in. 'pulumi stack ls' lists those that are, 'pulumi whoami -v' says where. "
            f"docs/aws.md, Up, makes a new one: pulumi stack init {stack}, with its secrets provider."
        )
    if "PULUMI_ACCESS_TOKEN" in said:  # it means its makers' own service, where this project keeps nothing
        return (
            "pulumi is not logged in where the state lies. Log in: pulumi login 's3://YOUR-STATE-BUCKET?region=REGION' (docs/aws.md, Up)."
        )
    lines = [line.removeprefix("error: ") for line in said.splitlines() if line.strip()]
    return f"pulumi can't read the stack {stack}: {'; '.join(lines) or 'it does not say why'}. Mend that, and try again."
