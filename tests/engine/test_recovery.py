"""docs/recovery.md, Into a new stack: a kept stack's database begins with the last snapshot of one that is gone, under its own key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rehearsal.laboratory import Laboratory, missing

pytestmark = pytest.mark.engine

LAST = "orthanc-old-final"
COPY = "orthanc-again-restored"


def database(lab: Laboratory) -> Mapping[str, Any]:
    (found,) = lab.aws("rds").describe_db_instances()["DBInstances"]
    return {key: value for key, value in found.items() if key != "LatestRestorableTime"}  # now, whenever it is asked


def snapshots(lab: Laboratory) -> Mapping[str, Mapping[str, Any]]:
    return {found["DBSnapshotIdentifier"]: found for found in lab.aws("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]}


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    """The new stack, beside what a kept one has left: a snapshot, and a key that will be gone."""
    if lacking := missing():
        pytest.skip(f"not on PATH: {', '.join(lacking)} (docs/aws.md, Rehearsal)")
    with Laboratory() as lab:
        rds, kms = lab.aws("rds"), lab.aws("kms")
        old = kms.create_key(Description="of the old stack")["KeyMetadata"]
        rds.create_db_instance(
            DBInstanceIdentifier="orthanc-old",
            DBInstanceClass="db.m7g.large",
            Engine="postgres",
            EngineVersion="18",
            AllocatedStorage=200,
            StorageType="gp3",
            DBName="orthanc",
            MasterUsername="orthanc",
            ManageMasterUserPassword=True,
            StorageEncrypted=True,
            KmsKeyId=old["Arn"],
            CACertificateIdentifier="rds-ca-rsa2048-g1",
        )
        rds.delete_db_instance(DBInstanceIdentifier="orthanc-old", FinalDBSnapshotIdentifier=LAST)
        lab.pulumi("stack", "init", "again")
        shutil.copy(lab.project / "Pulumi.prod.yaml", lab.project / "Pulumi.again.yaml")
        lab.pulumi("config", "set", "orthanc:restoreFrom", LAST, stack="again")
        told = lab.pulumi("preview", stack="again", code=None)
        if told.code != 0 and "snapshotCopy:SnapshotCopy has no counterpart" in told.said:
            pytest.skip("the plugin that stands in for AWS's on PATH knows no copies of snapshots")
        lab.pulumi("up", "--yes", stack="again")
        kms.schedule_key_deletion(KeyId=old["KeyId"], PendingWindowInDays=7)
        yield lab


def test_the_database_begins_with_a_copy_under_the_new_key(lab: Laboratory) -> None:
    key = lab.aws("kms").describe_key(KeyId="alias/orthanc-again")["KeyMetadata"]["Arn"]
    left, copied, now = snapshots(lab)[LAST], snapshots(lab)[COPY], database(lab)
    assert left["KmsKeyId"] != key
    assert copied["OriginalSnapshotCreateTime"] == left["SnapshotCreateTime"], "a copy of another snapshot"
    assert copied["KmsKeyId"] == now["KmsKeyId"] == now["MasterUserSecret"]["KmsKeyId"] == key
    assert (now["DBInstanceIdentifier"], now["StorageEncrypted"], now["DeletionProtection"]) == ("orthanc-again", True, True)


def test_another_up_makes_no_other_copy(lab: Laboratory) -> None:
    lab.pulumi("preview", "--expect-no-changes", stack="again")


def test_another_snapshot_does_not_touch_the_database(lab: Laboratory) -> None:
    lab.pulumi("config", "set", "orthanc:restoreFrom", "no-such-snapshot", stack="again")
    assert lab.plan("again") == {}


def test_once_it_serves_the_copy_is_dropped_and_the_database_stays(lab: Laboratory) -> None:
    before = database(lab)
    lab.pulumi("config", "rm", "orthanc:restoreFrom", stack="again")
    assert lab.plan("again") == {"database-restored": "delete"}
    lab.pulumi("up", "--yes", stack="again")
    assert set(snapshots(lab)) == {LAST}
    assert database(lab) == before
