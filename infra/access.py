"""What the host may do: documents from pure functions, one statement for each thing that it does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi_aws import iam

from infra.stack import Stack, document, statement

METRICS: Final = "Orthanc"
LAUNCH_HOOK: Final = "proven"

# Actions that AWS knows no resource for; each with the page that says so.
WITHOUT_RESOURCE: Final = {
    # docs.aws.amazon.com/systems-manager, Session Manager's minimal instance profile: ssmmessages takes no resource. An instance
    # reports itself; the agent's credentials carry which one.
    "ssm:UpdateInstanceInformation": "service-authorization/latest/reference/list_awssystemsmanager.html",
    "ssmmessages:CreateControlChannel": "service-authorization/latest/reference/list_amazonsessionmanagermessagegatewayservice.html",
    "ssmmessages:CreateDataChannel": "service-authorization/latest/reference/list_amazonsessionmanagermessagegatewayservice.html",
    "ssmmessages:OpenControlChannel": "service-authorization/latest/reference/list_amazonsessionmanagermessagegatewayservice.html",
    "ssmmessages:OpenDataChannel": "service-authorization/latest/reference/list_amazonsessionmanagermessagegatewayservice.html",
    # Narrowed to our namespace by a condition.
    "cloudwatch:PutMetricData": "service-authorization/latest/reference/list_amazoncloudwatch.html",
    # Read only: which hosts of the group were given up lately.
    "autoscaling:DescribeScalingActivities": "service-authorization/latest/reference/list_amazonec2autoscaling.html",
    # Read only: which instance has the address now.
    "ec2:DescribeAddresses": "service-authorization/latest/reference/list_amazonec2.html",
}


def assume_role_policy() -> dict[str, object]:
    return document({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"})


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The ARNs of this stack's own things."""

    account: str
    bucket: str
    release_key: str
    secrets: Sequence[str]
    kms_key: str
    address: str  # the allocation's id


def host_policy(stack: Stack, reach: Reach) -> dict[str, object]:
    """Its own release, parameters, secrets, key, address, hook, metrics and logs. Nothing else."""
    region, account = stack.region, reach.account

    def arn(service: str, rest: str) -> str:
        return f"arn:aws:{service}:{region}:{account}:{rest}"

    mine = {"StringEquals": {"ec2:ResourceTag/orthanc:stack": stack.name}}
    return document(
        statement(["s3:GetObjectVersion"], f"{reach.bucket}/{reach.release_key}"),
        statement(["ssm:GetParameter"], [arn("ssm", f"parameter{stack.path(p)}") for p in ("release", "proven")]),
        statement(["ssm:PutParameter"], arn("ssm", f"parameter{stack.path('proven')}")),
        statement(["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], list(reach.secrets)),
        statement(
            ["kms:Decrypt"],
            reach.kms_key,
            Condition={"StringEquals": {"kms:ViaService": [f"{s}.{region}.amazonaws.com" for s in ("s3", "secretsmanager")]}},
        ),
        # Its own address, onto an instance of its own stack.
        statement(["ec2:AssociateAddress"], arn("ec2", f"elastic-ip/{reach.address}")),
        statement(["ec2:AssociateAddress"], [arn("ec2", "instance/*"), arn("ec2", "network-interface/*")], Condition=mine),
        statement(
            ["autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth"],
            arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{stack.label}"),
        ),
        statement(
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            [arn("logs", f"log-group:{stack.path(g)}:*") for g in ("containers", "host")],
        ),
        statement(["cloudwatch:PutMetricData"], "*", Condition={"StringEquals": {"cloudwatch:namespace": METRICS}}),
        statement([a for a in WITHOUT_RESOURCE if a != "cloudwatch:PutMetricData"], "*"),
    )


@dataclass(frozen=True, kw_only=True)
class HostAccessArgs:
    stack: Stack
    role: pulumi.Input[str]
    account: pulumi.Input[str]
    bucket_arn: pulumi.Input[str]
    release_key: str
    secret_arns: Sequence[pulumi.Input[str]]
    kms_key_arn: pulumi.Input[str]
    address_id: pulumi.Input[str]


class HostAccess(pulumi.ComponentResource):
    """The policy of the host's role.

    Apart from the host, because it names the database's secret: the host starts beside the database and waits for this.
    """

    def __init__(self, name: str, args: HostAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:HostAccess", name, {}, opts)
        reach = pulumi.Output.all(
            account=args.account,
            bucket=args.bucket_arn,
            release_key=args.release_key,
            secrets=list(args.secret_arns),
            kms_key=args.kms_key_arn,
            address=args.address_id,
        )
        iam.RolePolicy(
            f"{name}-policy",
            role=args.role,
            policy=reach.apply(lambda r: json.dumps(host_policy(args.stack, Reach(**r)))),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
