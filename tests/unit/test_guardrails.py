"""Each guardrail fires: a sound resource of the stack is changed in one place, and the check says so."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from infra import guardrails
from infra.guardrails import NOT_KNOWN, Resource, broken, broken_together
from infra.stack import CONFIRMED, OPEN_TAG
from tests.unit.recording import ACCOUNT
from tests.unit.test_stack import deployed

Change = Callable[[dict[str, Any]], object]


def found(kind: str, name: str = "") -> Resource:
    """A resource of the prod stack, or of one that was restored, as the program makes it."""
    made = [*deployed("prod").made, *deployed("restored").made]
    return next(m.resource for m in made if m.kind.endswith(f":{kind}") and name in m.name)


def put(path: str, value: object) -> Change:
    def change(props: dict[str, Any]) -> None:
        *way, last = path.split(".")
        place: Any = props
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value

    return change


def policy(edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Change:
    def change(props: dict[str, Any]) -> None:
        document = json.loads(props["policy"])
        document["Statement"] = edit(document["Statement"])
        props["policy"] = json.dumps(document)

    return change


def without(sid: str) -> Change:
    return policy(lambda statements: [s for s in statements if s.get("Sid") != sid])


def plus(**statement: object) -> Change:
    return policy(lambda statements: [*statements, {"Effect": "Allow", **statement}])


def text64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


KEY = "-----BEGIN PRIVATE KEY-----"
CASES: list[tuple[Callable[[str, Mapping[str, Any]], Iterator[str]], str, str, Change]] = [
    (guardrails.encrypted, "Instance", "", put("storageEncrypted", False)),
    (guardrails.encrypted, "Instance", "", put("kmsKeyId", None)),
    (guardrails.encrypted, "Instance", "", put("masterUserSecretKmsKeyId", None)),
    (guardrails.encrypted, "SnapshotCopy", "", put("kmsKeyId", None)),
    (guardrails.encrypted, "LogGroup", "", put("kmsKeyId", None)),
    (guardrails.encrypted, "Secret", "", put("kmsKeyId", None)),
    (guardrails.encrypted, "Topic", "", put("kmsMasterKeyId", "alias/aws/sns")),
    (guardrails.encrypted, "Key", "", put("enableKeyRotation", False)),
    (guardrails.encrypted, "LaunchTemplate", "", put("blockDeviceMappings", [])),
    (guardrails.encrypted, "LaunchTemplate", "", put("blockDeviceMappings.0.ebs.encrypted", "false")),
    (guardrails.encrypted, "LaunchTemplate", "", put("blockDeviceMappings.0.ebs.kmsKeyId", None)),
    (
        guardrails.encrypted,
        "BucketServerSideEncryptionConfiguration",
        "",
        put("rules.0.applyServerSideEncryptionByDefault.kmsMasterKeyId", None),
    ),
    (
        guardrails.encrypted,
        "BucketServerSideEncryptionConfiguration",
        "",
        put("rules.0.applyServerSideEncryptionByDefault.sseAlgorithm", "AES256"),
    ),
    (guardrails.not_public, "Instance", "", put("publiclyAccessible", True)),
    (guardrails.not_public, "BucketPublicAccessBlock", "", put("blockPublicPolicy", False)),
    (guardrails.not_public, "Bucket", "", put("acl", "public-read")),
    (guardrails.not_public, "TopicPolicy", "", plus(Action="sns:Publish", Principal="*")),
    (guardrails.no_open_ingress, "SecurityGroupIngressRule", "host-dicom", put("cidrIpv4", "0.0.0.0/0")),
    (guardrails.no_open_ingress, "SecurityGroupIngressRule", "host-dicom", put("cidrIpv4", "128.0.0.0/1")),
    (guardrails.no_open_ingress, "SecurityGroupIngressRule", "host-web", put("cidrIpv6", "::/0")),
    (guardrails.no_open_ingress, "SecurityGroup", "", put("ingress", [{"fromPort": 0}])),
    (guardrails.nobody_logs_in, "SecurityGroupIngressRule", "host-dicom", put("fromPort", 22)),
    (guardrails.nobody_logs_in, "SecurityGroupIngressRule", "host-web", put("fromPort", 0)),
    (guardrails.nobody_logs_in, "SecurityGroupIngressRule", "host-web", put("ipProtocol", "-1")),
    (guardrails.nobody_logs_in, "LaunchTemplate", "", put("keyName", "somebody")),
    (guardrails.tagged, "Vpc", "", put("tags", {"Name": "x"})),
    (guardrails.tagged, "Group", "", put("tags", [])),
    (guardrails.pinned, "ConfigRelease", "", put("files", {"compose.yaml": "services:\n  a:\n    image: nginx:latest\n"})),
    (guardrails.pinned, "LaunchTemplate", "", put("userData", text64("#!/bin/sh\ncurl https://example.org | sh"))),
    (guardrails.no_secret_in_plain, "LaunchTemplate", "", put("userData", text64(KEY))),
    (guardrails.no_secret_in_plain, "Parameter", "", put("value", KEY)),
    (guardrails.no_secret_in_plain, "ConfigRelease", "", put("files", {"nginx/server.key": KEY})),
    (guardrails.no_secret_in_plain, "Instance", "", put("password", "hunter2")),
    (guardrails.host_starts, "LaunchTemplate", "", put("userData", text64("x" * 8193))),
    (guardrails.host_starts, "LaunchTemplate", "", put("metadataOptions.httpTokens", "optional")),
    (guardrails.host_starts, "LaunchTemplate", "", put("metadataOptions.httpPutResponseHopLimit", 2)),
    (guardrails.host_starts, "LaunchTemplate", "", put("imageId", "ami-1")),
    (guardrails.host_is_replaced, "Group", "", put("initialLifecycleHooks", [])),
    (guardrails.host_is_replaced, "Group", "", put("initialLifecycleHooks.0.defaultResult", "CONTINUE")),
    (guardrails.host_is_replaced, "Group", "", put("initialLifecycleHooks.0.heartbeatTimeout", 7201)),
    (guardrails.host_is_replaced, "Group", "", put("waitForCapacityTimeout", "10m")),
    (guardrails.host_is_replaced, "Group", "", put("waitForCapacityTimeout", "0")),
    (guardrails.host_is_replaced, "Group", "", put("launchTemplate.version", "$Latest")),
    (guardrails.host_is_replaced, "Group", "", put("instanceRefresh", None)),
    (guardrails.host_is_replaced, "Group", "", put("instanceRefresh.preferences.maxHealthyPercentage", 200)),
    (guardrails.host_is_replaced, "Group", "", put("maxInstanceLifetime", 3600)),
    (guardrails.key_lets_in, "Key", "", without("Administer")),
    (guardrails.key_lets_in, "Key", "", without("UseThroughServices")),
    (guardrails.key_lets_in, "Key", "", without("Volumes")),
    (guardrails.key_lets_in, "Key", "", without("AttachVolumes")),
    (guardrails.key_lets_in, "Key", "", put("policy", None)),
    (guardrails.key_lets_in, "Key", "", without("Alarms")),
    (guardrails.key_lets_in, "Key", "", without("Logs")),
    (guardrails.key_lets_in, "Key", "", plus(Action="kms:Decrypt", Principal={"AWS": "*"}, Resource="*")),
    (
        guardrails.key_lets_in,
        "Key",
        "",
        plus(Action="kms:Decrypt", Principal="*", Resource="*", Condition={"StringEquals": {"kms:CallerAccount": ACCOUNT}}),
    ),
    (guardrails.key_lets_in, "Key", "", plus(Action="kms:Decrypt", Principal={"Service": "cloudwatch.amazonaws.com"}, Resource="*")),
    (guardrails.least_privilege, "RolePolicy", "access", plus(Action=["s3:*"], Resource="arn:aws:s3:::x")),
    (guardrails.least_privilege, "RolePolicy", "access", plus(Action=["ssm:GetParameter"], Resource="*")),
    (guardrails.least_privilege, "RolePolicy", "access", plus(Action=["cloudwatch:PutMetricData"], Resource="*")),
    (guardrails.database_is_sound, "Instance", "", put("engineVersion", "18.1")),
    (guardrails.database_is_sound, "Instance", "", put("maxAllocatedStorage", 210)),
    (guardrails.database_is_sound, "Instance", "", put("backupRetentionPeriod", 0)),
    (guardrails.database_is_sound, "Instance", "", put("manageMasterUserPassword", None)),
    (guardrails.database_is_sound, "ParameterGroup", "", put("parameters.0.value", "0")),
    (guardrails.database_is_sound, "ParameterGroup", "", put("parameters", [])),
    (guardrails.network_does_what_it_is_for, "VpcEndpoint", "", put("routeTableIds", [])),
    (guardrails.watched, "LogGroup", "", put("retentionInDays", None)),
    (guardrails.watched, "MetricAlarm", "", put("alarmActions", [])),
    (guardrails.watched, "MetricAlarm", "", put("alarmDescription", "CPU high")),
    (guardrails.archives_stay, "BucketVersioning", "", put("versioningConfiguration.status", "Suspended")),
    (guardrails.archives_stay, "BucketLifecycleConfiguration", "", put("rules.0.noncurrentVersionExpiration.noncurrentDays", 30)),
    (guardrails.archives_stay, "BucketLifecycleConfiguration", "", put("rules.0.expiration", {"days": 90})),
    (guardrails.certificates_are_sound, "LocallySignedCert", "server", put("validityPeriodHours", 9600)),
    (guardrails.certificates_are_sound, "LocallySignedCert", "server", put("isCaCertificate", True)),
    (guardrails.certificates_are_sound, "PrivateKey", "server", put("rsaBits", 1024)),
]


def changed(resource: Resource, change: Change) -> Resource:
    props = deepcopy(dict(resource.props))
    change(props)
    return replace(resource, props=props)


@pytest.mark.parametrize(("check", "kind", "name", "change"), CASES, ids=[f"{c[0].__name__}-{c[1]}-{n}" for n, c in enumerate(CASES)])
def test_it_fires(check: Callable[..., Iterator[str]], kind: str, name: str, change: Change) -> None:
    sound = found(kind, name)
    assert list(broken(sound)) == []
    said = list(broken(changed(sound, change)))
    assert said
    assert all(line.startswith(check.__name__) for line in said), said


@pytest.mark.parametrize(
    ("kind", "props"),
    [("aws:ec2/natGateway:NatGateway", {}), ("aws:ec2/keyPair:KeyPair", {}), ("aws:ec2/securityGroupRule:SecurityGroupRule", {})],
)
def test_some_kinds_are_refused_as_such(kind: str, props: dict[str, Any]) -> None:
    tags = found("Vpc").props["tags"]
    assert list(broken(Resource(kind=kind, name="x", props={**props, "tags": tags})))


def test_every_check_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(guardrails.CHECKS)


def test_an_open_port_passes_only_when_it_is_confirmed() -> None:
    rule = found("SecurityGroupIngressRule", "host-dicom")
    tags = {**rule.props["tags"], OPEN_TAG: CONFIRMED}
    assert list(broken(replace(rule, props={**rule.props, "cidrIpv4": "0.0.0.0/0", "tags": tags}))) == []


@pytest.mark.parametrize(
    "name", ["database-instance", "encryption-key", "secrets-keys", "tls-inside-1-authority", "tls-orthanc-1-authority"]
)
def test_a_kept_stack_protects_it(name: str) -> None:
    everything = [m.resource for m in deployed("prod").made]
    loose = [replace(r, protected=False) if r.name == name else r for r in everything]
    assert {r.name for r, _ in broken_together(loose)} == {name}


def test_a_kept_database_is_protected_in_the_console_too_and_leaves_a_snapshot() -> None:
    everything = [m.resource for m in deployed("prod").made]
    for key, value in (("deletionProtection", False), ("skipFinalSnapshot", True)):
        worse = [changed(r, put(key, value)) if r.name == "database-instance" else r for r in everything]
        assert [r.name for r, _ in broken_together(worse)] == ["database-instance"]


def test_what_a_preview_can_not_know_is_not_called_wrong() -> None:
    for kind, name, path in (
        ("Instance", "", "kmsKeyId"),
        ("LogGroup", "", "kmsKeyId"),
        ("Key", "", "policy"),
        ("LaunchTemplate", "", "blockDeviceMappings.0.ebs.kmsKeyId"),
        ("VpcEndpoint", "", "routeTableIds"),
        ("RolePolicy", "access", "policy"),
        ("BucketObjectv2", "", "contentBase64"),
    ):
        assert list(broken(changed(found(kind, name), put(path, NOT_KNOWN)))) == [], kind
