"""EncryptedRds: the PostgreSQL server that holds index and pixels. All state of the service lies here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi_aws import cloudwatch, ec2, rds, vpc

from infra.settings import DATABASE_CLASSES, Settings
from infra.stack import Stack

# The newest major that RDS offers and the plugin (libpq, any server from 9.5) works with. A major upgrade copies the catalogue of
# every large object, so a new archive starts on the newest. RDS chooses the minor, and raises it in the maintenance window.
MAJOR: Final = "18"
PORT: Final = 5432
NAME: Final = "orthanc"
USER: Final = "orthanc"

# Beside config_templates/postgres/postgresql.conf.j2, which says the same on a laptop.
PARAMETERS: Final[dict[str, str]] = {
    # Nobody reads along: default since 15, but a default may be changed by hand, a parameter shows as drift.
    "rds.force_ssl": "1",
    "ssl_min_protocol_version": "TLSv1.2",
    # Statements, their values and the details of errors name patients.
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    # PostgreSQL tries to compress each 2 kB of an image; by lz4 that costs far less than by the default, pglz: docs/performance.md.
    "default_toast_compression": "lz4",
    # A transaction that its client forgot holds back vacuum; Orthanc's own take milliseconds. In ms.
    "idle_in_transaction_session_timeout": "600000",
}


def host_facts(settings: Settings) -> Mapping[str, object]:
    """What a host must know to reach the database, besides its address. Part of host.json in each release."""
    return {"port": PORT, "name": NAME, "user": USER, "authority_url": settings.database_authority_url}


def max_connections(instance_class: str) -> int:
    """A careful figure for RDS's default, LEAST({DBInstanceClassMemory/9531392}, 5000).

    DBInstanceClassMemory is what RDS itself leaves over: on small classes some 30 % less than the class's memory.
    """
    return min(5000, int(DATABASE_CLASSES[instance_class] * 2**30 / 9531392 * 0.7))


@dataclass(frozen=True, kw_only=True)
class EncryptedRdsArgs:
    stack: Stack
    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    client_security_group_id: pulumi.Input[str]
    kms_key_arn: pulumi.Input[str]
    instance_class: str
    storage_gb: int
    limit_gb: int
    multi_az: bool
    backup_days: int
    log_days: int
    restore_from: str  # a snapshot's name or ARN, or empty


class EncryptedRds(pulumi.ComponentResource):
    """One PostgreSQL instance that only the host's security group reaches.

    RDS makes the master password, keeps it in Secrets Manager under our key and rotates it: no state file holds it.
    """

    address: pulumi.Output[str]
    secret_arn: pulumi.Output[str]

    def __init__(self, name: str, args: EncryptedRdsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:EncryptedRds", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        stack = args.stack
        group = ec2.SecurityGroup(
            f"{name}-access",
            vpc_id=args.vpc_id,
            description="PostgreSQL, from the host alone, and no way out",
            tags=stack.tags("database"),
            opts=child,
        )
        vpc.SecurityGroupIngressRule(
            f"{name}-from-host",
            security_group_id=group.id,
            referenced_security_group_id=args.client_security_group_id,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            tags=stack.tags("database-from-host"),
            opts=child,
        )
        subnets = rds.SubnetGroup(f"{name}-subnets", subnet_ids=args.subnet_ids, tags=stack.tags("database"), opts=child)
        parameters = rds.ParameterGroup(
            f"{name}-parameters",
            family=f"postgres{MAJOR}",
            parameters=[{"name": key, "value": value, "apply_method": "immediate"} for key, value in PARAMETERS.items()],
            tags=stack.tags("database"),
            opts=child,
        )
        # Made before RDS would make them, without encryption and end.
        logs = [
            cloudwatch.LogGroup(
                f"{name}-{kind}",
                name=f"/aws/rds/instance/{stack.label}/{kind}",
                retention_in_days=args.log_days,
                kms_key_id=args.kms_key_arn,
                tags=stack.tags(f"database-{kind}"),
                opts=child,
            )
            for kind in ("postgresql", "upgrade")
        ]
        # RDS restores under a snapshot's own key, whose stack may be gone one day: a copy under ours begins the new database.
        copy = (
            rds.SnapshotCopy(
                f"{name}-restored",
                source_db_snapshot_identifier=args.restore_from,
                target_db_snapshot_identifier=f"{stack.label}-restored",
                kms_key_id=args.kms_key_arn,
                tags=stack.tags("restored"),
                # AWS tells the source's ARN, or nothing: a name would look changed, and each `up` try to make the copy anew.
                opts=pulumi.ResourceOptions(parent=self, ignore_changes=["source_db_snapshot_identifier"]),
            )
            if args.restore_from
            else None
        )
        instance = rds.Instance(
            f"{name}-instance",
            snapshot_identifier=copy.target_db_snapshot_identifier if copy else None,
            identifier=stack.label,  # its log groups must carry it before it exists
            engine="postgres",
            engine_version=MAJOR,
            auto_minor_version_upgrade=True,
            allow_major_version_upgrade=False,
            instance_class=args.instance_class,
            storage_type="gp3",
            allocated_storage=args.storage_gb,
            max_allocated_storage=args.limit_gb,
            storage_encrypted=True,  # can't be switched on later
            kms_key_id=args.kms_key_arn,
            db_name=NAME,
            port=PORT,
            username=USER,
            manage_master_user_password=True,
            master_user_secret_kms_key_id=args.kms_key_arn,
            multi_az=args.multi_az,
            publicly_accessible=False,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group.id],
            parameter_group_name=parameters.name,
            ca_cert_identifier="rds-ca-rsa2048-g1",  # in the bundle that the host verifies with
            backup_retention_period=args.backup_days,
            backup_window="02:00-03:00",  # UTC
            maintenance_window="sun:03:30-sun:04:30",  # UTC, after the backup
            apply_immediately=not stack.keep,  # a kept database changes in its window, not at somebody's lunch
            copy_tags_to_snapshot=True,
            delete_automated_backups=not stack.keep,
            deletion_protection=stack.keep,
            skip_final_snapshot=not stack.keep,
            final_snapshot_identifier=f"{stack.label}-final" if stack.keep else None,
            enabled_cloudwatch_logs_exports=["postgresql", "upgrade"],
            tags=stack.tags(),
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=stack.keep,
                depends_on=logs,
                ignore_changes=["snapshot_identifier"],  # it says how a database began; another one would replace it with its studies
            ),
        )
        self.address = instance.address
        self.secret_arn = instance.master_user_secrets.apply(lambda secrets: secrets[0].secret_arn or "")
        self.register_outputs({"address": self.address, "secret_arn": self.secret_arn})
