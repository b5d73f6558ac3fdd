"""Least privilege, judged by what hosts did: every call must be allowed by the role's policy, every allowed action be needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from rehearsal.calls import Call
from rehearsal.laboratory import REGION

# Actions that the role allows and that the agent itself never calls: who does, or when.
NOT_CALLED: Final[Mapping[str, str]] = {
    "kms:Decrypt": "S3 and Secrets Manager decrypt on the host's behalf",
    "ssm:UpdateInstanceInformation": "the SSM agent of Amazon Linux, for Session Manager",
    "ssmmessages:CreateControlChannel": "the SSM agent",
    "ssmmessages:CreateDataChannel": "the SSM agent",
    "ssmmessages:OpenControlChannel": "the SSM agent",
    "ssmmessages:OpenDataChannel": "the SSM agent",
}
# What only somebody else's identity could tell apart: AWS knows no resource for these actions (infra/access.py names the pages).


def arns(  # noqa: PLR0911 - a case for each service
    call: Call, account: str, group: str
) -> Sequence[str]:
    """What a call acts upon; more than one when AWS asks for each to be allowed."""
    said = call.parameters

    def arn(service: str, rest: str) -> str:
        return f"arn:aws:{service}:{REGION}:{account}:{rest}"

    if call.service == "ssm" and "Name" in said:
        return [arn("ssm", f"parameter{said['Name']}")]
    if call.service == "secretsmanager":
        return [said["SecretId"]]
    if call.service == "s3":
        return [f"arn:aws:s3:::{said['Bucket']}/{said['Key']}"]
    if str(call) == "ec2:AssociateAddress":
        return [arn("ec2", f"elastic-ip/{said['AllocationId']}"), arn("ec2", f"instance/{said['InstanceId']}")]
    if call.service == "autoscaling" and not call.action.startswith("Describe"):
        return [arn("autoscaling", f"autoScalingGroup:00000000:autoScalingGroupName/{said.get('AutoScalingGroupName', group)}")]
    if call.service == "logs":
        return [arn("logs", f"log-group:{said['logGroupName']}:log-stream:{said.get('logStreamName', '')}")]
    return ["*"]


def context(call: Call, stack: str) -> Mapping[str, str]:
    """The condition keys that AWS would know of a call."""
    return {"cloudwatch:namespace": str(call.parameters.get("Namespace", "")), "ec2:ResourceTag/orthanc:stack": stack}


def statements(policy: str | Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    document = json.loads(policy) if isinstance(policy, str) else policy
    found: Sequence[Mapping[str, Any]] = document["Statement"]
    return found


def allowed(call: Call, policy: Sequence[Mapping[str, Any]], *, account: str, group: str, stack: str) -> bool:
    """Every resource of the call is allowed by some statement. (The role has no Deny.)"""
    known = context(call, stack)
    return all(any(_matches(statement, str(call), arn, known) for statement in policy) for arn in arns(call, account, group))


def _matches(statement: Mapping[str, Any], action: str, arn: str, known: Mapping[str, str]) -> bool:
    return (
        action in _listed(statement["Action"])
        and any(fnmatchcase(arn, pattern) for pattern in _listed(statement["Resource"]))
        and all(known.get(key) in _listed(value) for key, value in statement.get("Condition", {}).get("StringEquals", {}).items())
    )


def never_called(policy: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> list[str]:
    """Allowed actions that no call needed, and that have no reason either."""
    needed = {str(call) for call in calls} | set(NOT_CALLED)
    return sorted(action for statement in policy for action in _listed(statement["Action"]) if action not in needed)


def everywhere(policy: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The actions that are allowed upon '*'."""
    for statement in policy:
        if "*" in _listed(statement["Resource"]):
            yield from _listed(statement["Action"])


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
