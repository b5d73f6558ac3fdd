"""The stack's own key, and a policy that lets in exactly who needs it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
from pulumi_aws import kms

from infra.settings import PROJECT
from infra.stack import Stack, document

_USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]


def key_policy(stack: Stack, account: str) -> dict[str, object]:
    """Who may do what with the key. A key policy's Resource is always this key, hence '*' (docs.aws.amazon.com/kms, key policies).

    The account's root as principal means: whoever IAM allows it besides. Nobody decrypts except through the services named here.
    """
    region = stack.region

    def allow(sid: str, principal: object, actions: list[str], **conditions: object) -> dict[str, object]:
        condition = {"Condition": conditions} if conditions else {}
        return {"Sid": sid, "Effect": "Allow", "Principal": principal, "Action": actions, "Resource": "*", **condition}

    root = {"AWS": f"arn:aws:iam::{account}:root"}
    here = {"kms:CallerAccount": account}
    linked = "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    group_role = {"aws:PrincipalArn": f"arn:aws:iam::{account}:role/{linked}*"}
    return document(
        # Everything except using it. A key without this can't be administered by anybody, AWS included.
        allow(
            "Administer",
            root,
            [
                *("kms:Describe*", "kms:Get*", "kms:List*", "kms:Put*", "kms:Update*", "kms:Enable*", "kms:Disable*", "kms:Revoke*"),
                *("kms:CreateAlias", "kms:DeleteAlias", "kms:TagResource", "kms:UntagResource"),
                *("kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"),
            ],
        ),
        # Pulumi makes the database, secrets and archives; the host reads secrets and archives; RDS rotates its password.
        allow(
            "UseThroughServices",
            root,
            [*_USE, "kms:CreateGrant"],
            StringEquals={**here, "kms:ViaService": [f"{s}.{region}.amazonaws.com" for s in ("rds", "s3", "secretsmanager")]},
        ),
        # The group's service-linked role encrypts the host's volume. IAM gives it no right to any key, and without one no host
        # starts: Client.InternalError (docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html).
        # Named by a condition, because a policy whose principal does not exist yet is refused: AWS makes the role with the
        # account's first group.
        allow("Volumes", {"AWS": "*"}, _USE, StringEquals=here, ArnLike=group_role),
        allow(
            "AttachVolumes",
            {"AWS": "*"},
            ["kms:CreateGrant"],
            StringEquals=here,
            ArnLike=group_role,
            Bool={"kms:GrantIsForAWSResource": "true"},
        ),
        # Alarms reach an encrypted topic only so (docs.aws.amazon.com/sns, key management); those of this account.
        allow(
            "Alarms",
            {"Service": "cloudwatch.amazonaws.com"},
            ["kms:Decrypt", "kms:GenerateDataKey*"],
            StringEquals={"aws:SourceAccount": account},
        ),
        allow(
            "Logs",
            {"Service": f"logs.{region}.amazonaws.com"},
            _USE,
            ArnLike={
                "kms:EncryptionContext:aws:logs:arn": [
                    f"arn:aws:logs:{region}:{account}:log-group:{stack.log_groups}",
                    f"arn:aws:logs:{region}:{account}:log-group:/aws/rds/instance/{stack.label}/*",
                ]
            },
        ),
    )


@dataclass(frozen=True, kw_only=True)
class EncryptionKeyArgs:
    stack: Stack
    account: pulumi.Input[str]


class EncryptionKey(pulumi.ComponentResource):
    """One customer-managed key, rotated every year, for everything that the stack stores.

    AWS keeps a deleted key for some days, in which the deletion can be taken back: 7 (the least) or, when kept, 30 (the most).
    """

    arn: pulumi.Output[str]

    def __init__(self, name: str, args: EncryptionKeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:EncryptionKey", name, {}, opts)
        stack = args.stack
        key = kms.Key(
            f"{name}-key",
            description=f"{PROJECT} {stack.name}: database, volumes, secrets, archives, logs, alarms",
            enable_key_rotation=True,
            deletion_window_in_days=30 if stack.keep else 7,
            policy=pulumi.Output.from_input(args.account).apply(lambda account: json.dumps(key_policy(stack, account))),
            tags=stack.tags(),
            opts=pulumi.ResourceOptions(parent=self, protect=stack.keep),
        )
        kms.Alias(
            f"{name}-alias",
            name=f"alias/{stack.label}",
            target_key_id=key.key_id,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.arn = key.arn
        self.register_outputs({"arn": self.arn})
