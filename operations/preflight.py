"""What would stop `pulumi up` halfway, asked before anything is made: credentials, region and zones, quotas, names that are taken.

Each problem is one line: what, why, what to do. What these credentials may not ask is left to `pulumi up`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # type: ignore[import-untyped]

from infra.settings import PROJECT, Settings

Client = Callable[[str], Any]  # boto3's client of a service, for the stack's region
# docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html: both are 5 at first.
_QUOTAS: Mapping[str, tuple[str, str, str]] = {
    "Elastic IP address": ("ec2", "L-0263D0A3", "aws:ec2/eip:Eip"),
    "VPC": ("vpc", "L-F678F1CE", "aws:ec2/vpc:Vpc"),
}
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess")


@dataclass(frozen=True)
class Plan:
    """What a stack is about to be, and what its state has already."""

    stack: str
    region: str
    zones: Sequence[str]
    have: frozenset[str]  # types of resources in the state

    @classmethod
    def read(cls, stack: str, config: str, state: str) -> Plan:
        """From what `pulumi config --json` and `pulumi stack export` print."""
        told = {key: entry.get("objectValue", entry.get("value")) for key, entry in json.loads(config).items()}
        zones = told.get(f"{PROJECT}:zones", Settings.model_fields["zones"].default)
        resources = (json.loads(state).get("deployment") or {}).get("resources") or []
        return cls(stack, str(told.get("aws:region") or ""), list(zones), frozenset(r["type"] for r in resources))

    @property
    def label(self) -> str:
        return f"{PROJECT}-{self.stack}"


def problems(plan: Plan, client: Client) -> Iterator[str]:
    """Why `pulumi up` would fail; nothing when nobody knows a reason."""
    try:
        client("sts").get_caller_identity()
    except NoCredentialsError:
        yield "AWS: no credentials are here: 'aws configure sso' and 'aws sso login', or set AWS_PROFILE, and try again"
        return
    except ClientError as error:
        yield f"AWS refuses these credentials ({_code(error)}): log in again ('aws sso login'), or choose others by AWS_PROFILE"
        return
    except BotoCoreError as error:
        yield f"AWS does not answer in region '{plan.region}': {error}. Mend the network, or: pulumi config set aws:region us-east-1"
        return
    for ask in (_zones, _quotas, _names):
        try:
            yield from ask(plan, client)
        except ClientError as error:
            if _code(error) not in _DENIED:
                yield f"AWS: {error}"
        except BotoCoreError as error:
            yield f"AWS does not answer: {error}"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _zones(plan: Plan, client: Client) -> Iterator[str]:
    listed = client("ec2").describe_availability_zones()["AvailabilityZones"]
    there = {zone["ZoneName"] for zone in listed if zone.get("ZoneType", "availability-zone") == "availability-zone"}
    lacking = [letter for letter in plan.zones if f"{plan.region}{letter}" not in there]
    if lacking:
        letters = ", ".join(sorted(name.removeprefix(plan.region) for name in there))
        yield (
            f"{PROJECT}:zones: {plan.region} has no zone {', '.join(lacking)} for this account; it has {letters}. "
            f"Mend {PROJECT}:zones in Pulumi.{plan.stack}.yaml"
        )


def _quotas(plan: Plan, client: Client) -> Iterator[str]:
    ec2 = client("ec2")
    used = {"Elastic IP address": len(ec2.describe_addresses()["Addresses"]), "VPC": len(ec2.describe_vpcs()["Vpcs"])}
    for what, (service, code, kind) in _QUOTAS.items():
        if kind in plan.have:
            continue
        quota = _quota(client, service, code)
        if quota is not None and used[what] >= quota:
            yield (
                f"quota: this account has {used[what]} of {quota} {what}s in {plan.region}, and the stack needs one more. "
                f"Release one, or ask for more: aws service-quotas request-service-quota-increase "
                f"--service-code {service} --quota-code {code} --desired-value {quota + 1} --region {plan.region}"
            )


def _quota(client: Client, service: str, code: str) -> int | None:
    """What is granted; None when nobody says."""
    try:
        told = client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
    except (ClientError, BotoCoreError):
        return None
    return int(told["Quota"]["Value"])


def _names(plan: Plan, client: Client) -> Iterator[str]:
    """Names that AWS has once, made by somebody else: by another program, or by a stack whose state is lost."""
    asked: Mapping[str, tuple[str, Callable[[], Sequence[Any]]]] = {
        "aws:rds/instance:Instance": (
            f"database {plan.label}",
            lambda: _found(lambda: client("rds").describe_db_instances(DBInstanceIdentifier=plan.label)["DBInstances"]),
        ),
        "aws:autoscaling/group:Group": (
            f"Auto Scaling group {plan.label}",
            lambda: client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[plan.label])["AutoScalingGroups"],
        ),
        "aws:ssm/parameter:Parameter": (
            f"parameter /{PROJECT}/{plan.stack}/release",
            lambda: client("ssm").get_parameters(Names=[f"/{PROJECT}/{plan.stack}/release"])["Parameters"],
        ),
        "aws:kms/alias:Alias": (
            f"key alias/{plan.label}",
            lambda: [a for page in _aliases(client) for a in page if a["AliasName"] == f"alias/{plan.label}"],
        ),
    }
    taken = [name for kind, (name, found) in asked.items() if kind not in plan.have and found()]
    if taken:
        yield (
            f"name taken: {', '.join(taken)} exists in {plan.region}, and this stack's state does not know it. "
            f"If that is this stack with its state lost: docs/aws.md, Where state lives. Otherwise name the stack anew: pulumi stack rename"
        )


def _found(ask: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """RDS answers a name that it does not know with an error."""
    try:
        return ask()
    except ClientError as error:
        if "NotFound" in _code(error):
            return ()
        raise


def _aliases(client: Client) -> Iterator[Sequence[Any]]:
    for page in client("kms").get_paginator("list_aliases").paginate():
        yield page["Aliases"]
