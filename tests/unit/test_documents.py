"""Who may do what: every policy of the stack against the whole of what it shall allow, so that neither more nor less goes unsaid."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from infra.access import assume_role_policy
from tests.unit.recording import ACCOUNT, REGION, Recorder
from tests.unit.test_stack import deployed

Allowed = Mapping[tuple[str, str], tuple[frozenset[str], str]]
_KMS_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def allowed(document: Mapping[str, Any]) -> set[tuple[str, str, str, str]]:
    """Every (who, action, resource, condition) of a document; '' where a statement says nothing."""
    assert document["Version"] == "2012-10-17"
    found = set()
    for said in document["Statement"]:
        assert said.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert said["Effect"] == "Allow"
        principal = said.get("Principal", {"": ""})
        ((kind, who),) = principal.items()
        condition = json.dumps(said["Condition"], sort_keys=True) if "Condition" in said else ""
        found |= {
            (f"{kind}:{who}" if kind else "", action, resource, condition)
            for action in _listed(said["Action"])
            for resource in _listed(said.get("Resource", ""))
        }
    return found


def _each(
    actions: Iterable[str], resource: str, condition: Mapping[str, object] | None = None, who: str = ""
) -> set[tuple[str, str, str, str]]:
    return {(who, action, resource, json.dumps(condition, sort_keys=True) if condition else "") for action in actions}


def _policy(stack: Recorder, name: str) -> set[tuple[str, str, str, str]]:
    return allowed(json.loads(stack.of("iam/rolePolicy")[name]["policy"]))


def _arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


def _made(name: str) -> str:
    return f"arn:aws:test:{REGION}:{ACCOUNT}:{name}"


def test_the_host_may_do_what_its_agent_does_with_what_is_its_own_and_nothing_else() -> None:
    own_instance = {"StringEquals": {"ec2:ResourceTag/orthanc:stack": "test"}}
    through = {"StringEquals": {"kms:ViaService": [f"s3.{REGION}.amazonaws.com", f"secretsmanager.{REGION}.amazonaws.com"]}}
    secrets = (_made("secrets-keys"), _made("secrets-users"), f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!database-instance")
    groups = [_arn("logs", f"log-group:/orthanc/test/{name}:*") for name in ("containers", "host")]
    group = _arn("autoscaling", "autoScalingGroup:*:autoScalingGroupName/orthanc-test")
    assert _policy(deployed("dev"), "access-policy") == set().union(
        _each(["s3:GetObjectVersion"], f"{_made('release-bucket')}/release.tar.gz"),
        _each(["ssm:GetParameter"], _arn("ssm", "parameter/orthanc/test/release")),
        _each(["ssm:GetParameter", "ssm:PutParameter"], _arn("ssm", "parameter/orthanc/test/proven")),
        *(_each(["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], secret) for secret in secrets),
        _each(["kms:Decrypt"], _made("encryption-key"), through),
        _each(["ec2:AssociateAddress"], _arn("ec2", "elastic-ip/eipalloc-1")),
        _each(["ec2:AssociateAddress"], _arn("ec2", "instance/*"), own_instance),
        _each(["ec2:AssociateAddress"], _arn("ec2", "network-interface/*"), own_instance),
        _each(["autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth"], group),
        *(_each(["logs:CreateLogStream", "logs:PutLogEvents"], logs) for logs in groups),
        _each(["cloudwatch:PutMetricData"], "*", {"StringEquals": {"cloudwatch:namespace": "Orthanc"}}),
        # What AWS knows no resource for: Session Manager, and looking.
        _each(["ssm:UpdateInstanceInformation", "ec2:DescribeAddresses", "autoscaling:DescribeScalingActivities"], "*"),
        _each([f"ssmmessages:{verb}{kind}Channel" for verb in ("Create", "Open") for kind in ("Control", "Data")], "*"),
    )  # fmt: skip


def test_the_key_is_used_through_the_services_that_need_it_and_by_nobody_directly() -> None:
    here = {"kms:CallerAccount": ACCOUNT}
    root = f"AWS:arn:aws:iam::{ACCOUNT}:root"
    services = [f"{service}.{REGION}.amazonaws.com" for service in ("rds", "s3", "secretsmanager")]
    linked = "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling*"
    group = {"StringEquals": here, "ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{linked}"}}
    groups = [_arn("logs", "log-group:/orthanc/test/*"), _arn("logs", "log-group:/aws/rds/instance/orthanc-test/*")]
    administering = [f"kms:{verb}*" for verb in ("Describe", "Get", "List", "Put", "Update", "Enable", "Disable", "Revoke")]
    naming = [f"kms:{name}" for name in ("CreateAlias", "DeleteAlias", "TagResource", "UntagResource")]
    ending = ["kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"]
    assert allowed(json.loads(deployed("dev").one("kms/key")["policy"])) == set().union(
        _each([*administering, *naming, *ending], "*", who=root),
        _each([*_KMS_USE, "kms:CreateGrant"], "*", {"StringEquals": {**here, "kms:ViaService": services}}, root),
        _each(_KMS_USE, "*", group, "AWS:*"),
        _each(["kms:CreateGrant"], "*", {**group, "Bool": {"kms:GrantIsForAWSResource": "true"}}, "AWS:*"),
        _each(
            ["kms:Decrypt", "kms:GenerateDataKey*"],
            "*",
            {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
            "Service:cloudwatch.amazonaws.com",
        ),
        _each(_KMS_USE, "*", {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}}, f"Service:logs.{REGION}.amazonaws.com"),
    )


def test_a_role_is_taken_on_by_its_own_service_alone() -> None:
    for name, service in (("host-role", "ec2"), ("network-flows", "vpc-flow-logs")):
        trusted = allowed(json.loads(deployed("prod").of("iam/role")[name]["assumeRolePolicy"]))
        assert trusted == _each(["sts:AssumeRole"], "", who=f"Service:{service}.amazonaws.com")
    assert allowed(assume_role_policy())


def test_flow_logs_are_written_to_their_own_group_and_nowhere_else() -> None:
    actions = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"]
    group = _made("network-flows")
    assert _policy(deployed("prod"), "network-flows") == _each(actions, group) | _each(actions, f"{group}:*")
    log = deployed("prod").one("ec2/flowLog")
    assert (log["trafficType"], log["logDestination"], log["logDestinationType"]) == ("REJECT", group, "cloud-watch-logs")
    assert (log["vpcId"], log["iamRoleArn"]) == ("network-vpc-id", _made("network-flows"))


def test_only_this_accounts_alarms_may_write_to_the_topic() -> None:
    policy = deployed("dev").one("sns/topicPolicy")
    assert policy["arn"] == _made("monitoring-topic")
    condition = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert allowed(json.loads(policy["policy"])) == _each(
        ["sns:Publish"], _made("monitoring-topic"), condition, "Service:cloudwatch.amazonaws.com"
    )


def test_policies_hang_on_the_roles_that_they_are_written_for() -> None:
    roles = {name: policy["role"] for name, policy in deployed("prod").of("iam/rolePolicy").items()}
    assert roles == {"access-policy": "host-role", "network-flows": "network-flows"}
