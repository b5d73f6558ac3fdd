"""What is asked before `pulumi up`, of an emulated AWS: each thing that would stop it halfway is one line that says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError  # type: ignore[import-untyped]
from moto import mock_aws

from operations.preflight import Client, Plan, problems

REGION = "us-east-1"
NEW = Plan(stack="dev", region=REGION, zones=["a", "b"], have=frozenset())


@pytest.fixture
def client() -> Iterator[Client]:
    with mock_aws():
        yield lambda service: boto3.client(service, region_name=REGION)


def only(plan: Plan, client: Client) -> str:
    (said,) = problems(plan, client)
    return said


def test_an_empty_account_has_no_problem(client: Client) -> None:
    assert list(problems(NEW, client)) == []


def test_a_zone_that_the_region_lacks_is_named_with_those_that_it_has(client: Client) -> None:
    said = only(Plan(stack="dev", region=REGION, zones=["a", "x"], have=frozenset()), client)
    assert "orthanc:zones: us-east-1 has no zone x" in said
    assert "it has a, b, c" in said


@pytest.mark.parametrize("kind", ["database", "group", "parameter", "alias"])
def test_a_name_that_somebody_else_has_is_taken(client: Client, kind: str) -> None:
    _take(client, kind)
    said = only(NEW, client)
    assert "name taken: " in said
    assert "orthanc-dev" in said or "/orthanc/dev/release" in said
    assert "pulumi stack rename" in said


def _take(client: Client, kind: str) -> None:
    if kind == "database":
        client("rds").create_db_instance(
            DBInstanceIdentifier="orthanc-dev", DBInstanceClass="db.t4g.micro", Engine="postgres", AllocatedStorage=20, MasterUsername="x"
        )
    elif kind == "group":
        ec2 = client("ec2")
        ec2.create_launch_template(LaunchTemplateName="other", LaunchTemplateData={"ImageId": "ami-1", "InstanceType": "t3.small"})
        client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName="orthanc-dev",
            MinSize=0,
            MaxSize=0,
            LaunchTemplate={"LaunchTemplateName": "other"},
            AvailabilityZones=[f"{REGION}a"],
        )
    elif kind == "parameter":
        client("ssm").put_parameter(Name="/orthanc/dev/release", Value="x", Type="String")
    else:
        key = client("kms").create_key()["KeyMetadata"]["KeyId"]
        client("kms").create_alias(AliasName="alias/orthanc-dev", TargetKeyId=key)


def test_what_the_state_knows_is_not_taken(client: Client) -> None:
    _take(client, "database")
    _take(client, "alias")
    known = frozenset({"aws:rds/instance:Instance", "aws:kms/alias:Alias"})
    assert list(problems(Plan(stack="dev", region=REGION, zones=["a", "b"], have=known), client)) == []


def test_a_full_quota_says_how_to_ask_for_more(client: Client) -> None:
    for number in range(4):  # beside the account's default one
        client("ec2").create_vpc(CidrBlock=f"10.{number}.0.0/16")
    said = only(NEW, client)
    assert "quota: this account has 5 of 5 VPCs" in said
    assert "--quota-code L-F678F1CE --desired-value 6" in said
    assert list(problems(Plan(stack="dev", region=REGION, zones=["a"], have=frozenset({"aws:ec2/vpc:Vpc"})), client)) == []


class _Failing:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(**_: object) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError(), "no credentials are here: 'aws configure sso'"),
        (ClientError({"Error": {"Code": "ExpiredToken"}}, "GetCallerIdentity"), "refuses these credentials (ExpiredToken): log in again"),
        (EndpointConnectionError(endpoint_url="https://sts.us-esat-1"), "does not answer in region 'us-east-1'"),
    ],
)
def test_without_an_answer_nothing_else_is_asked(error: Exception, said: str) -> None:
    assert said in only(NEW, lambda _: _Failing(error))


def test_what_these_credentials_may_not_ask_is_left_to_pulumi(client: Client) -> None:
    denied = _Failing(ClientError({"Error": {"Code": "UnauthorizedOperation"}}, "DescribeVpcs"))
    assert list(problems(NEW, lambda service: client(service) if service == "sts" else denied)) == []


@pytest.mark.parametrize(
    ("said", "zones"), [({}, ["a", "b"]), ({"orthanc:zones": {"value": '["c","d"]', "objectValue": ["c", "d"]}}, ["c", "d"])]
)
def test_a_plan_is_read_from_what_pulumi_prints(said: dict[str, object], zones: Sequence[str]) -> None:
    config = json.dumps({"aws:region": {"value": REGION, "secret": False}, **said})
    state = json.dumps({"deployment": {"resources": [{"type": "aws:ec2/vpc:Vpc"}]}})
    assert Plan.read("dev", config, state) == Plan("dev", REGION, zones, frozenset({"aws:ec2/vpc:Vpc"}))
    assert Plan.read("dev", config, json.dumps({"deployment": {}})).have == frozenset()
