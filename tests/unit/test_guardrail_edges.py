"""Where each guardrail begins to speak: on one side of the edge it fires, and on the other it says nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from infra import guardrails
from infra.guardrails import NOT_KNOWN, Resource, broken, broken_together
from infra.stack import CONFIRMED, OPEN_TAG
from tests.unit.test_guardrails import Change, changed, found, plus, policy, put
from tests.unit.test_stack import deployed

_TAGS = {"Name": "n", "orthanc:project": "orthanc", "orthanc:stack": "test", "orthanc:keep": "true"}


def _said(kind: str, **props: object) -> list[str]:
    """What is said about a resource that the stack does not have."""
    return [line.partition(":")[0] for line in broken(Resource(kind=kind, name="x", props={"tags": _TAGS, **props}))]


def _all(*changes: Change) -> Change:
    def change(props: dict[str, Any]) -> None:
        for each in changes:
            each(props)

    return change


def _fires(check: Callable[..., Any], kind: str, change: Change, name: str = "") -> bool:
    """Whether `check`, and no other, complains."""
    lines = list(broken(changed(found(kind, name), change)))
    assert all(line.startswith(f"{check.__name__}:") for line in lines), lines
    return bool(lines)


# -- encrypted ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "more"),
    [
        ("aws:ebs/volume:Volume", "kmsKeyId", {"encrypted": True}),
        ("aws:sns/topic:Topic", "kmsMasterKeyId", {}),
        ("aws:sqs/queue:Queue", "kmsMasterKeyId", {}),
        ("aws:secretsmanager/secret:Secret", "kmsKeyId", {}),
        ("aws:cloudwatch/logGroup:LogGroup", "kmsKeyId", {"retentionInDays": 1}),
    ],
)
def test_what_can_be_encrypted_is_so_under_a_key_of_our_own(kind: str, key: str, more: dict[str, object]) -> None:
    assert _said(kind, **more, **{key: "arn:aws:kms:key"}) == []
    assert _said(kind, **more, **{key: NOT_KNOWN}) == []
    for none in ("", None, "alias/aws/sns"):
        assert _said(kind, **more, **{key: none}) == ["encrypted"]


def test_a_volume_is_switched_to_encryption_too() -> None:
    for on in (True, "true", NOT_KNOWN):
        assert _said("aws:ebs/volume:Volume", kmsKeyId="k", encrypted=on) == []
    for off in (False, "false", None, 1):
        assert _said("aws:ebs/volume:Volume", kmsKeyId="k", encrypted=off) == ["encrypted"]


@pytest.mark.parametrize("devices", [None, [{}], [{"ebs": None}], [{"ebs": {"encrypted": "true"}}], [{"ebs": {"kmsKeyId": "k"}}]])
def test_a_host_whose_disk_says_nothing_of_encryption_is_refused(devices: object) -> None:
    assert _fires(guardrails.encrypted, "LaunchTemplate", put("blockDeviceMappings", devices))


# -- not public -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"])
@pytest.mark.parametrize("value", [False, None])
def test_each_way_to_make_a_bucket_public_is_blocked(block: str, value: object) -> None:
    assert _fires(guardrails.not_public, "BucketPublicAccessBlock", put(block, value))


def test_a_bucket_may_be_private_in_so_many_words() -> None:
    assert not _fires(guardrails.not_public, "Bucket", put("acl", "private"))


@pytest.mark.parametrize("kind", ["aws:s3/bucketPolicy:BucketPolicy", "aws:sns/topicPolicy:TopicPolicy"])
def test_a_policy_may_shut_everybody_out_and_must_not_let_everybody_in(kind: str) -> None:
    def said(effect: str, principal: object) -> list[str]:
        return _said(kind, policy=json.dumps({"Statement": [{"Effect": effect, "Principal": principal}]}))

    for everybody in ("*", {"AWS": "*"}):
        assert said("Allow", everybody) == ["not_public"]
        assert said("Deny", everybody) == []
    assert said("Allow", {"AWS": "arn:aws:iam::1:root"}) == []
    assert _said(kind, policy=NOT_KNOWN) == _said(kind, policy="{}") == []


@pytest.mark.parametrize(
    ("key", "cidr", "fires"),
    [
        ("cidrIpv4", "10.0.0.0/8", False),
        ("cidrIpv4", "8.0.0.0/7", True),
        ("cidrIpv4", "8.1.2.3/7", True),
        ("cidrIpv4", "0.0.0.0/0", True),
        ("cidrIpv4", NOT_KNOWN, False),
        ("cidrIpv6", "2000::/16", False),
        ("cidrIpv6", "2000::/15", True),
        ("cidrIpv6", "::/0", True),
    ],
)
def test_a_port_is_open_to_the_internet_when_an_eighth_of_its_bits_says_so(key: str, cidr: object, fires: bool) -> None:
    rule = {"fromPort": 443, "toPort": 443, "ipProtocol": "tcp", key: cidr}
    kind = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    assert _said(kind, **rule) == ["no_open_ingress"] * fires
    assert _said(kind, **rule, tags={**_TAGS, OPEN_TAG: "perhaps"}) == ["no_open_ingress"] * fires
    assert _said(kind, **rule, tags={**_TAGS, OPEN_TAG: CONFIRMED}) == []
    assert set(_said(kind, **rule, tags=None)) == {"tagged", *["no_open_ingress"] * fires}
    assert _said("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", **rule) == []


@pytest.mark.parametrize("kind", ["aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"])
def test_a_group_has_no_rules_inside(kind: str) -> None:
    assert _said(kind, ingress=[]) == _said(kind) == []
    assert _said(kind, ingress=[{"fromPort": 443}]) == ["no_open_ingress"]


@pytest.mark.parametrize(
    ("rule", "fires"),
    [
        ({"fromPort": 21, "toPort": 21}, False),
        ({"fromPort": 22, "toPort": 22}, True),
        ({"fromPort": 23, "toPort": 3388}, False),
        ({"fromPort": 3389, "toPort": 3389}, True),
        ({"fromPort": 3390, "toPort": 65535}, False),
        ({"fromPort": 20, "toPort": 25}, True),
        ({"fromPort": None, "toPort": 443}, True),
        ({"fromPort": 443, "toPort": None}, True),
        ({"fromPort": 443, "toPort": 443, "ipProtocol": "-1"}, True),
    ],
)
def test_no_rule_reaches_a_port_for_logging_in(rule: dict[str, object], fires: bool) -> None:
    rule = {"ipProtocol": "tcp", "cidrIpv4": "198.51.100.0/24", **rule}
    assert _said("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", **rule) == ["nobody_logs_in"] * fires
    assert _said("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", **rule) == []


def test_keys_for_logging_in_are_refused_as_such_and_on_a_host() -> None:
    assert _said("aws:ec2/keyPair:KeyPair") == ["nobody_logs_in"]
    assert _said("aws:ec2/securityGroupRule:SecurityGroupRule") == ["no_open_ingress"]
    assert _said("aws:ec2/natGateway:NatGateway") == ["network_does_what_it_is_for"]
    assert _said("aws:ec2/vpc:Vpc") == []


def test_a_word_is_judged_where_it_has_its_meaning() -> None:
    for props in ({"publiclyAccessible": True}, {"acl": "public-read"}, {"ingress": [{"fromPort": 443}]}, {"policy": "{}"}):
        assert _said("aws:some/new:Thing", **props) == []
    assert _said("aws:some/new:Thing", vpcEndpointType="Gateway") == []
    assert _said("tls:some/new:Thing", algorithm="RSA", rsaBits=1024) == []


# -- named, pinned, without secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", _TAGS)
def test_every_tag_is_needed_by_whatever_takes_tags(tag: str) -> None:
    fewer = {key: value for key, value in _TAGS.items() if key != tag}
    for kind in ("aws:ec2/vpc:Vpc", "aws:some/new:Thing"):
        assert _said(kind, tags=fewer) == _said(kind, tags={**_TAGS, tag: ""}) == ["tagged"]
        assert _said(kind, tags=[{"key": key, "value": value} for key, value in fewer.items()]) == ["tagged"]
        assert _said(kind, tags=[{"key": key, "value": value} for key, value in _TAGS.items()]) == []
    for kind in ("aws:ec2/route:Route", "aws:s3/bucketPolicy:BucketPolicy", "aws:kms/alias:Alias", "tls:index/certRequest:CertRequest"):
        assert _said(kind, tags={}) == []


@pytest.mark.parametrize(
    ("image", "fires"),
    [
        (f"a:1@sha256:{'0' * 64}", False),
        (f'"a@sha256:{"f" * 64}"', False),
        ("a:1", True),
        (f"a@sha256:{'0' * 63}", True),
        (f"a:{'0' * 64}", True),
    ],
)
def test_an_image_is_pinned_by_the_whole_of_its_digest(image: str, fires: bool) -> None:
    files = {"compose.yaml": f"services:\n  a:\n    image: {image}\n  b:\n    image: b@sha256:{'1' * 64}\n"}
    assert _said("orthanc:infra:ConfigRelease", files=files) == ["pinned"] * fires
    assert _said("orthanc:infra:Other", files=files) == []


def test_a_release_that_is_not_rendered_yet_is_not_called_wrong() -> None:
    for files in (None, {}, {"compose.yaml": NOT_KNOWN}):
        assert _said("orthanc:infra:ConfigRelease", files=files) == []


def test_a_key_or_password_is_found_wherever_it_lies_and_however_deep() -> None:
    key = "x\n-----BEGIN EC PRIVATE KEY-----\n"
    packed = base64.b64encode(b"\xff" + key.encode()).decode()
    for props in ({"a": key}, {"a": {"b": [1, {"c": key}]}}, {"a": ("x", key)}, {"a": packed}):
        assert _said("aws:some/new:Thing", **props) == ["no_secret_in_plain"]
    for name in ("password", "Password", "masterPassword", "secretAccessKey", "token"):
        assert _said("aws:some/new:Thing", **{name: "x"}) == _said("aws:some/new:Thing", a={name: "x"}) == ["no_secret_in_plain"]
        assert _said("aws:some/new:Thing", **{name: ""}) == _said("aws:some/new:Thing", **{name: True}) == []
    assert _said("aws:some/new:Thing", passwordLength="32", httpTokens="required", tokens="x") == []


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("aws:secretsmanager/secretVersion:SecretVersion", "secretString"),
        ("tls:index/certRequest:CertRequest", "privateKeyPem"),
        ("tls:index/selfSignedCert:SelfSignedCert", "privateKeyPem"),
    ],
)
def test_a_key_lies_in_its_vault_and_in_no_other_place_of_it(kind: str, place: str) -> None:
    key = "-----BEGIN PRIVATE KEY-----"
    assert _said(kind, **{place: key}) == []
    assert _said(kind, **{place: key, "other": key}) == ["no_secret_in_plain"]
    assert _said("aws:some/new:Thing", **{place: key}) == ["no_secret_in_plain"]


# -- what AWS demands -----------------------------------------------------------------------------------------------------


def test_a_host_that_says_nothing_of_metadata_is_refused() -> None:
    assert _fires(guardrails.host_starts, "LaunchTemplate", put("metadataOptions", None))
    assert _fires(guardrails.host_starts, "LaunchTemplate", put("imageId", None))


def test_user_data_may_fill_half_of_what_ec2_takes() -> None:
    for size, fires in ((8192, False), (8193, True)):
        data = base64.b64encode(b"x" * size).decode()
        assert _fires(guardrails.host_starts, "LaunchTemplate", put("userData", data)) is fires


@pytest.mark.parametrize(
    ("path", "value", "fires"),
    [
        ("initialLifecycleHooks", None, True),
        ("initialLifecycleHooks.0.lifecycleTransition", "autoscaling:EC2_INSTANCE_TERMINATING", True),
        ("initialLifecycleHooks.0.defaultResult", None, True),
        ("initialLifecycleHooks.0.heartbeatTimeout", 29, True),
        ("initialLifecycleHooks.0.heartbeatTimeout", 30, False),
        ("initialLifecycleHooks.0.heartbeatTimeout", 7200, False),
        ("initialLifecycleHooks.0.heartbeatTimeout", 7201, True),
        ("waitForCapacityTimeout", "29m", True),
        ("waitForCapacityTimeout", "30m", False),
        ("waitForCapacityTimeout", "30s", True),
        ("launchTemplate", None, True),
        ("launchTemplate.version", "$Default", True),
        ("launchTemplate.version", "7", False),
        ("maxInstanceLifetime", None, True),
        ("maxInstanceLifetime", 86399, True),
        ("maxInstanceLifetime", 86400, False),
        ("maxInstanceLifetime", 31536000, False),
        ("maxInstanceLifetime", 31536001, True),
        ("instanceRefresh", None, True),
        ("instanceRefresh.preferences", None, True),
        ("instanceRefresh.preferences.minHealthyPercentage", 100, True),
        ("instanceRefresh.preferences.maxHealthyPercentage", 200, True),
    ],
)
def test_a_group_replaces_its_host_as_aws_takes_it(path: str, value: object, fires: bool) -> None:
    assert _fires(guardrails.host_is_replaced, "Group", put(path, value)) is fires


def test_a_group_that_leaves_bounds_to_aws_is_judged_by_awss_own_ones() -> None:
    def without(*path: str | int) -> Change:
        def change(props: dict[str, Any]) -> None:
            place: Any = props
            for step in path[:-1]:
                place = place[step]
            del place[path[-1]]

        return change

    assert not _fires(guardrails.host_is_replaced, "Group", without("initialLifecycleHooks", 0, "heartbeatTimeout"))
    assert _fires(guardrails.host_is_replaced, "Group", without("waitForCapacityTimeout"))  # 10 minutes
    assert _fires(guardrails.host_is_replaced, "Group", without("launchTemplate", "version"))  # $Default


# -- the key --------------------------------------------------------------------------------------------------------------


def _statement(sid: str, edit: Callable[[dict[str, Any]], object]) -> Change:
    def each(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for statement in statements:
            if statement["Sid"] == sid:
                edit(statement)
        return statements

    return policy(each)


@pytest.mark.parametrize(
    ("sid", "action"),
    [
        *(("Administer", action) for action in ("kms:Put*", "kms:CreateAlias", "kms:DeleteAlias", "kms:ScheduleKeyDeletion")),
        ("UseThroughServices", "kms:Decrypt"),
        ("Volumes", "kms:Decrypt"),
        ("AttachVolumes", "kms:CreateGrant"),
        ("Alarms", "kms:Decrypt"),
        ("Alarms", "kms:GenerateDataKey*"),
        ("Logs", "kms:Decrypt"),
    ],
)
def test_the_key_lacks_no_action_that_somebody_needs(sid: str, action: str) -> None:
    assert _fires(guardrails.key_lets_in, "Key", _statement(sid, lambda s: s["Action"].remove(action)))


@pytest.mark.parametrize("action", ["kms:Put*", "kms:CreateAlias", "kms:DeleteAlias", "kms:ScheduleKeyDeletion"])
def test_the_account_itself_administers_the_key_and_not_one_person_of_it(action: str) -> None:
    without = _statement("Administer", lambda s: s["Action"].remove(action))
    person = plus(Action=[action], Principal={"AWS": "arn:aws:iam::1:user/somebody"}, Resource="*")
    assert _fires(guardrails.key_lets_in, "Key", _all(without, person))


@pytest.mark.parametrize("service", ["rds.", "s3.", "secretsmanager."])
def test_the_key_lacks_no_service_that_uses_it(service: str) -> None:
    def without(statement: dict[str, Any]) -> None:
        through = statement["Condition"]["StringEquals"]
        through["kms:ViaService"] = [name for name in through["kms:ViaService"] if not name.startswith(service)]

    assert _fires(guardrails.key_lets_in, "Key", _statement("UseThroughServices", without))


def _principal(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda statement: statement.update(Principal=value)


@pytest.mark.parametrize(
    ("sid", "edit"),
    [
        ("Administer", _principal({"AWS": "arn:aws:iam::1:user/somebody"})),
        ("UseThroughServices", _principal({"AWS": "arn:aws:iam::1:user/somebody"})),
        ("Alarms", _principal({"Service": "sns.amazonaws.com"})),
        ("Alarms", lambda s: s.pop("Condition")),
        ("Logs", _principal({"Service": "ec2.amazonaws.com"})),
        ("Logs", lambda s: s.pop("Condition")),
        ("Volumes", lambda s: s["Condition"].pop("ArnLike")),
        ("Volumes", lambda s: s["Condition"].pop("StringEquals")),
        ("AttachVolumes", lambda s: s["Condition"].pop("ArnLike")),
        ("AttachVolumes", lambda s: s["Condition"].update(ArnLike={"aws:PrincipalArn": "arn:aws:iam::1:role/other"})),
        ("AttachVolumes", lambda s: s["Condition"].pop("StringEquals")),
        ("AttachVolumes", lambda s: s["Condition"].pop("Bool")),
    ],
)
def test_the_key_lets_in_those_alone_that_are_named_for_each_use(sid: str, edit: Callable[[dict[str, Any]], object]) -> None:
    assert _fires(guardrails.key_lets_in, "Key", _statement(sid, edit))


def test_a_key_without_a_policy_of_its_own_has_awss() -> None:
    for none in (None, ""):
        assert _fires(guardrails.key_lets_in, "Key", put("policy", none))
    assert not _fires(guardrails.key_lets_in, "Key", put("policy", NOT_KNOWN))


# -- roles ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["aws:iam/rolePolicy:RolePolicy", "aws:iam/policy:Policy"])
def test_a_role_is_given_single_actions_on_single_resources(kind: str) -> None:
    def said(action: object, resource: object, **more: object) -> list[str]:
        return _said(kind, policy=json.dumps({"Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **more}]}))

    one = "arn:aws:s3:::x"
    assert said("s3:GetObject", one) == said(["s3:GetObject", "s3:PutObject"], [one]) == []
    assert said("*", one) == said(["s3:GetObject", "s3:*"], one) == ["least_privilege"]
    assert said("s3:GetObject", "*") == said("s3:GetObject", [one, "*"]) == ["least_privilege"]
    assert said("ec2:DescribeAddresses", "*") == []
    assert said(["ec2:DescribeAddresses", "s3:GetObject"], "*") == ["least_privilege"]
    assert said("cloudwatch:PutMetricData", "*") == ["least_privilege"]
    assert said("cloudwatch:PutMetricData", "*", Condition={"StringEquals": {"cloudwatch:namespace": "Orthanc"}}) == []


# -- database, watching, archives, certificates ---------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "fires"), [(252, False), (251, True), (0, True), (None, True)])
def test_a_database_can_grow_by_as_much_as_rds_demands(limit: object, fires: bool) -> None:
    assert found("Instance").props["allocatedStorage"] == 200
    assert _fires(guardrails.database_is_sound, "Instance", put("maxAllocatedStorage", limit)) is fires


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("rds.force_ssl", "0"),
        ("ssl_min_protocol_version", "TLSv1"),
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_min_error_statement", "error"),
        ("log_error_verbosity", "default"),
        ("log_parameter_max_length", "-1"),
        ("log_parameter_max_length_on_error", "-1"),
    ],
)
def test_every_parameter_that_keeps_a_secret_must_be_there_and_right(name: str, worse: str) -> None:
    parameters = found("ParameterGroup").props["parameters"]
    wrong = [{**p, "value": worse} if p["name"] == name else p for p in parameters]
    missing = [p for p in parameters if p["name"] != name]
    for changed_ in (wrong, missing):
        assert wrong != parameters
        assert _fires(guardrails.database_is_sound, "ParameterGroup", put("parameters", changed_))


def test_only_a_gateway_endpoint_needs_route_tables() -> None:
    kind = "aws:ec2/vpcEndpoint:VpcEndpoint"
    assert _said(kind, vpcEndpointType="Gateway") == ["network_does_what_it_is_for"]
    assert _said(kind, vpcEndpointType="Interface") == _said(kind, vpcEndpointType="Gateway", routeTableIds=["rtb"]) == []


@pytest.mark.parametrize(("text", "fires"), [("x" * 40, False), ("x" * 39, True), (None, True)])
def test_an_alarm_says_enough_to_act_on(text: object, fires: bool) -> None:
    assert _fires(guardrails.watched, "MetricAlarm", put("alarmDescription", text)) is fires


@pytest.mark.parametrize(
    ("path", "value", "fires"),
    [
        ("rules.0.noncurrentVersionExpiration.noncurrentDays", 89, True),
        ("rules.0.noncurrentVersionExpiration.noncurrentDays", 90, False),
        ("rules.0.noncurrentVersionExpiration", None, True),
        ("rules.0.expiration", None, False),
    ],
)
def test_a_superseded_archive_stays_for_90_days(path: str, value: object, fires: bool) -> None:
    assert _fires(guardrails.archives_stay, "BucketLifecycleConfiguration", put(path, value)) is fires


def test_a_bucket_that_says_nothing_of_versions_keeps_none() -> None:
    assert _fires(guardrails.archives_stay, "BucketVersioning", put("versioningConfiguration", None))


@pytest.mark.parametrize(
    ("uses", "hours", "fires"),
    [(["server_auth"], 9528, False), (["server_auth"], 9529, True), (["client_auth"], 99999, False)],
)
def test_a_server_certificate_lives_no_longer_than_browsers_take(uses: list[str], hours: int, fires: bool) -> None:
    said = _said("tls:index/locallySignedCert:LocallySignedCert", allowedUses=["digital_signature", *uses], validityPeriodHours=hours)
    assert said == ["certificates_are_sound"] * fires


@pytest.mark.parametrize(
    ("key", "fires"),
    [
        ({"algorithm": "RSA"}, False),
        ({"algorithm": "RSA", "rsaBits": 2048}, False),
        ({"algorithm": "RSA", "rsaBits": 2047}, True),
        ({"algorithm": "ECDSA", "rsaBits": 1024}, False),
    ],
)
def test_a_key_is_strong(key: dict[str, object], fires: bool) -> None:
    assert _said("tls:index/privateKey:PrivateKey", **key) == ["certificates_are_sound"] * fires


# -- kept -----------------------------------------------------------------------------------------------------------------


def _together(*resources: Resource) -> list[str]:
    return [resource.name for resource, _ in broken_together(resources)]


def _loose(kind: str, name: str = "loose", *, keep: str = "true", **props: object) -> Resource:
    return Resource(kind=kind, name=name, props={"tags": {**_TAGS, "orthanc:keep": keep}, **props})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("aws:kms/key:Key", "k"),
        ("aws:secretsmanager/secret:Secret", "s"),
        ("aws:ec2/eip:Eip", "e"),
        ("tls:index/selfSignedCert:SelfSignedCert", "x"),
        ("tls:index/privateKey:PrivateKey", "x-authority"),
    ],
)
def test_what_could_not_be_made_again_is_protected_where_the_stack_is_kept(kind: str, name: str) -> None:
    assert _together(_loose("aws:ec2/vpc:Vpc"), _loose(kind, name)) == [name]
    assert _together(_loose("aws:ec2/vpc:Vpc", keep="false"), _loose(kind, name, keep="false")) == []
    assert _together(_loose("aws:ec2/vpc:Vpc"), Resource(kind=kind, name=name, props={}, protected=True)) == []


def test_what_can_be_made_again_needs_no_protection_and_only_awss_tags_say_what_is_kept() -> None:
    assert _together(_loose("aws:ec2/vpc:Vpc"), _loose("tls:index/privateKey:PrivateKey", "server")) == []
    assert _together(_loose("aws:ec2/vpc:Vpc"), _loose("tls:index/certRequest:CertRequest", "x-authority")) == []
    assert _together(_loose("aws:ec2/vpc:Vpc", keep="false"), _loose("tls:index/selfSignedCert:SelfSignedCert", "x")) == []


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (put("deletionProtection", None), 1),
        (put("skipFinalSnapshot", True), 1),
        (put("finalSnapshotIdentifier", None), 1),
        (_all(put("deletionProtection", NOT_KNOWN), put("finalSnapshotIdentifier", NOT_KNOWN)), 0),
    ],
)
def test_a_kept_database_can_not_be_lost_in_the_console_or_with_its_stack(change: Change, count: int) -> None:
    everything = [made.resource for made in deployed("prod").made]
    worse = [changed(r, change) if r.name == "database-instance" else r for r in everything]
    assert _together(*worse) == ["database-instance"] * count
