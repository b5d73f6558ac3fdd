"""A private imaging server on AWS. What a stack says (Settings) becomes what exists (infra/), in one screen."""

from __future__ import annotations

import pulumi
from pulumi_aws import get_caller_identity_output

from infra import outputs
from infra.access import HostAccess, HostAccessArgs
from infra.database import EncryptedRds, EncryptedRdsArgs
from infra.database import host_facts as database_facts
from infra.encryption import EncryptionKey, EncryptionKeyArgs
from infra.host import OrthancHost, OrthancHostArgs, host_facts
from infra.monitoring import Monitoring, MonitoringArgs
from infra.network import Network, NetworkArgs
from infra.release import KEY, ConfigRelease, ConfigReleaseArgs, rendered
from infra.secrets import HostSecrets, HostSecretsArgs
from infra.stack import configured
from infra.tls import Pair, TlsMaterial, TlsMaterialArgs

s, stack = configured()
rendered(s, stack, {})  # an error in a template shows before the first resource, with placeholders for what AWS will say
account = get_caller_identity_output().account_id

key = EncryptionKey("encryption", EncryptionKeyArgs(stack=stack, account=account))
network = Network(
    "network",
    NetworkArgs(stack=stack, vpc_cidr=s.vpc_cidr, zones=s.zones, flow_logs=s.flow_logs, log_days=s.log_days, kms_key_arn=key.arn),
)
host = OrthancHost(  # starts beside the database, and waits for the release
    "host",
    OrthancHostArgs(
        settings=s,
        stack=stack,
        vpc_id=network.vpc_id,
        subnet_ids=network.public_subnet_ids,
        database_cidrs=network.private_cidrs,
        kms_key_arn=key.arn,
    ),
)
database = EncryptedRds(
    "database",
    EncryptedRdsArgs(
        stack=stack,
        vpc_id=network.vpc_id,
        subnet_ids=network.private_subnet_ids,
        client_security_group_id=host.security_group_id,
        kms_key_arn=key.arn,
        instance_class=s.database_class,
        storage_gb=s.database_storage_gb,
        limit_gb=s.database_limit_gb,
        multi_az=s.multi_az,
        backup_days=s.backup_days,
        log_days=s.log_days,
        restore_from=s.restore_from,
    ),
)
tls = TlsMaterial(
    "tls",
    TlsMaterialArgs(
        stack=stack,
        address=host.address,
        domain_name=s.domain_name,
        modalities=s.modalities,
        modality_days=s.modality_days,
        outside_authority=s.outside_authority,
        inside_authority=s.inside_authority,
        server_certificate=s.server_certificate,
        inside_certificates=s.inside_certificates,
        outgoing_certificate=s.outgoing_certificate,
    ),
)
web = Pair.given(s.web_certificate, s.web_certificate_key.get_secret_value()) if s.web_certificate else tls.server
secrets = HostSecrets("secrets", HostSecretsArgs(stack=stack, kms_key_arn=key.arn, tls=tls, web=web, users=s.users))
release = ConfigRelease(
    "release",
    ConfigReleaseArgs(
        settings=s,
        stack=stack,
        kms_key_arn=key.arn,
        known={"database": database.address, "modalities": tls.enrolled()},
        certificates=tls.files(web),
        host={
            **host_facts(s, stack),
            "server_name": s.domain_name or host.address,
            "address": {"ip": host.address, "allocation": host.address_id},
            "database": {**database_facts(s), "host": database.address, "secret": database.secret_arn},
            "files": secrets.files,
        },
    ),
)
HostAccess(
    "access",
    HostAccessArgs(
        stack=stack,
        role=host.role,
        account=account,
        bucket_arn=release.bucket_arn,
        release_key=KEY,
        secret_arns=[*secrets.arns, database.secret_arn],
        kms_key_arn=key.arn,
        address_id=host.address_id,
    ),
)
Monitoring("monitoring", MonitoringArgs(settings=s, stack=stack, account=account, kms_key_arn=key.arn))

for name, value in outputs.of(s, stack, host, tls, secrets, release).items():
    pulumi.export(name, value)
