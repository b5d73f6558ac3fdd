"""docs/recovery.md and docs/rotation.md: their commands for snapshots, word for word, against the emulated AWS. It has no studies."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import boto3  # type: ignore[import-untyped]  # Amazon gives it no types
import pytest

from rehearsal import aws
from rehearsal.laboratory import ROOT, Laboratory

pytestmark = pytest.mark.engine

THERE = "eu-central-1"


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    """A stack's database as it lies in its account, in a subnet group of its own."""
    with Laboratory() as lab:
        aws.put_on_path(lab.home)
        lab.environment["PATH"] = f"{lab.home}:{lab.environment['PATH']}"
        vpc = lab.aws("ec2").create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            lab.aws("ec2").create_subnet(VpcId=vpc, CidrBlock=f"10.60.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"]["SubnetId"]
            for n, zone in enumerate("ab")
        ]
        rds = lab.aws("rds")
        rds.create_db_subnet_group(DBSubnetGroupName="database-subnets", DBSubnetGroupDescription="private", SubnetIds=subnets)
        rds.create_db_instance(
            DBInstanceIdentifier="orthanc-prod",
            DBInstanceClass="db.m7g.large",
            DBSubnetGroupName="database-subnets",
            Engine="postgres",
            EngineVersion="18",
            AllocatedStorage=200,
            DBName="orthanc",
            MasterUsername="orthanc",
            ManageMasterUserPassword=True,
            StorageEncrypted=True,
        )
        yield lab


def block(page: str, title: str) -> str:
    """The first block of a section."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"(?ms)^## {title}\n(.*?)(?=^## |\Z)", text)
    return (
        textwrap.dedent(re.findall(r"(?ms)^```(?:sh)?\n(.*?)^```", section)[0]).replace("STACK", "prod").replace("ACCOUNT", "123456789012")
    )


def shell(lab: Laboratory, commands: str) -> None:
    done = subprocess.run(
        ["bash", "-ec", commands], env=lab.environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr


def instances(lab: Laboratory) -> set[str]:
    return {found["DBInstanceIdentifier"] for found in lab.aws("rds").describe_db_instances()["DBInstances"]}


def snapshots(client: Any) -> Mapping[str, Mapping[str, Any]]:
    return {found["DBSnapshotIdentifier"]: found for found in client.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]}


def test_a_point_in_time_becomes_a_snapshot_and_the_database_beside_it_is_gone(lab: Laboratory) -> None:
    commands = block("recovery.md", "A point in time")
    shell(lab, commands.split("aws rds create-db-snapshot")[0])
    assert instances(lab) == {"orthanc-prod", "orthanc-then"}
    (then,) = lab.aws("rds").describe_db_instances(DBInstanceIdentifier="orthanc-then")["DBInstances"]
    assert then["DBSubnetGroup"]["DBSubnetGroupName"] == "database-subnets", "private, as the database that it comes from"
    shell(lab, "aws rds create-db-snapshot" + commands.partition("aws rds create-db-snapshot")[2])
    assert instances(lab) == {"orthanc-prod"}
    assert snapshots(lab.aws("rds"))["orthanc-then"]["DBInstanceIdentifier"] == "orthanc-then"


def test_a_snapshot_is_copied_under_a_key_that_stays(lab: Laboratory) -> None:
    (command,) = re.findall(r"`(aws rds copy-db-snapshot [^`]*)`", (ROOT / "docs/recovery.md").read_text(encoding="utf-8"))
    key = lab.aws("kms").create_key()["KeyMetadata"]["Arn"]
    lab.aws("rds").create_db_snapshot(DBInstanceIdentifier="orthanc-prod", DBSnapshotIdentifier="before")
    shell(lab, command.replace("NAME", "before").replace("KEY-THAT-STAYS", key))
    assert snapshots(lab.aws("rds"))["before-kept"]["KmsKeyId"] == key


def test_a_snapshot_goes_to_another_region(lab: Laboratory) -> None:
    shell(lab, block("rotation.md", "To another region"))
    there = boto3.client(
        "rds",
        region_name=THERE,
        endpoint_url=lab.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    moved = snapshots(there)["moving"]
    assert moved["DBInstanceIdentifier"] == "orthanc-prod"
    assert f":{THERE}:" in moved["KmsKeyId"]


def test_a_command_that_amazon_does_not_know_is_noticed(lab: Laboratory) -> None:
    """Or the tests above prove nothing."""
    for wrong in ("aws rds create-db-snapshot --snapshot-name x", "aws rds make-snapshot", "aws rds wait db-snapshot-perfect"):
        with pytest.raises(AssertionError):
            shell(lab, wrong)
