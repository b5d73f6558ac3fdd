"""What hangs on what, and the values that keep a resource closed: each said as a whole, so that nothing of it can go unsaid."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from jinja2 import UndefinedError
from pulumi.runtime.mocks import MockResourceArgs

from config_templates import places
from config_templates.model import fingerprint
from infra import host
from infra.certificates import end_of_life
from infra.guardrails import _walk
from infra.tls import Pair
from tests.unit.recording import ACCOUNT, LEAST, REGION, ROOT, Recorder, certificate, deploy, is_secret
from tests.unit.test_settings import modality
from tests.unit.test_stack import deployed, released

_KEY = {"kmsKeyId": "encryption-key"}
_IN_VPC = {"vpcId": "network-vpc"}
_BUCKET = {"bucket": "release-bucket"}
_OF_HOST = {"securityGroupId": "host-access"}
CONNECTIONS: Mapping[str, Mapping[str, str]] = {
    "iam/rolePolicy access-policy": {"role": "host-role"},
    "ec2/securityGroup database-access": _IN_VPC,
    "vpc/securityGroupIngressRule database-from-host": {
        "referencedSecurityGroupId": "host-access",
        "securityGroupId": "database-access",
    },
    "rds/instance database-instance": {
        **_KEY,
        "masterUserSecretKmsKeyId": "encryption-key",
        "vpcSecurityGroupIds[0]": "database-access",
        "parameterGroupName": "database-parameters",
        "dbSubnetGroupName": "database-subnets",
    },
    "cloudwatch/logGroup database-postgresql": _KEY,
    "cloudwatch/logGroup database-upgrade": _KEY,
    "rds/subnetGroup database-subnets": {"subnetIds[0]": "network-private-a", "subnetIds[1]": "network-private-b"},
    "ec2/securityGroup host-access": _IN_VPC,
    "vpc/securityGroupEgressRule host-database-10.60.8.0-24": _OF_HOST,
    "vpc/securityGroupEgressRule host-database-10.60.9.0-24": _OF_HOST,
    "vpc/securityGroupEgressRule host-https-out": _OF_HOST,
    "vpc/securityGroupIngressRule host-dicom-from-198.51.100.0-24": _OF_HOST,
    "vpc/securityGroupIngressRule host-web-from-198.51.100.0-24": _OF_HOST,
    "vpc/securityGroupIngressRule host-web-from-203.0.113.0-24": _OF_HOST,
    "autoscaling/group host-group": {
        "vpcZoneIdentifiers[0]": "network-public-a",
        "vpcZoneIdentifiers[1]": "network-public-b",
        "launchTemplate.id": "host-template",
    },
    "iam/instanceProfile host-profile": {"role": "host-role"},
    "ec2/launchTemplate host-template": {
        "iamInstanceProfile.arn": "host-profile",
        "vpcSecurityGroupIds[0]": "host-access",
        "blockDeviceMappings[0].ebs.kmsKeyId": "encryption-key",
    },
    "cloudwatch/logGroup monitoring-containers": _KEY,
    "cloudwatch/logGroup monitoring-host": _KEY,
    "sns/topic monitoring-topic": {"kmsMasterKeyId": "encryption-key"},
    "sns/topicPolicy monitoring-topic": {"arn": "monitoring-topic"},
    "ec2/defaultSecurityGroup network-closed": _IN_VPC,
    "cloudwatch/logGroup network-flows": _KEY,
    "iam/rolePolicy network-flows": {"role": "network-flows"},
    "ec2/flowLog network-flows": {**_IN_VPC, "iamRoleArn": "network-flows", "logDestination": "network-flows"},
    "ec2/internetGateway network-internet": _IN_VPC,
    "ec2/routeTable network-private": _IN_VPC,
    "ec2/routeTable network-public": _IN_VPC,
    **{f"ec2/subnet network-{role}-{zone}": _IN_VPC for role in ("public", "private") for zone in "ab"},
    **{
        f"ec2/routeTableAssociation network-{role}-{zone}-routes": {
            "subnetId": f"network-{role}-{zone}",
            "routeTableId": f"network-{role}",
        }
        for role in ("public", "private")
        for zone in "ab"
    },
    "ec2/vpcEndpoint network-s3": {**_IN_VPC, "routeTableIds[0]": "network-public", "routeTableIds[1]": "network-private"},
    "ec2/route network-way-out": {"gatewayId": "network-internet", "routeTableId": "network-public"},
    "s3/bucketObjectv2 release-archive": _BUCKET,
    "s3/bucketPublicAccessBlock release-closed": _BUCKET,
    "s3/bucketLifecycleConfiguration release-lifetimes": _BUCKET,
    "s3/bucketVersioning release-versions": _BUCKET,
    "s3/bucketServerSideEncryptionConfiguration release-encryption": {
        **_BUCKET,
        "rules[0].applyServerSideEncryptionByDefault.kmsMasterKeyId": "encryption-key",
    },
    "secretsmanager/secret secrets-keys": _KEY,
    "secretsmanager/secret secrets-users": _KEY,
    "secretsmanager/secretVersion secrets-keys": {"secretId": "secrets-keys"},
    "secretsmanager/secretVersion secrets-users": {"secretId": "secrets-users"},
}
# Alarms are many, and hang on the topic alone (guardrails.watched).
_APART = ("cloudwatch/metricAlarm",)


def connections(stack: Recorder) -> dict[str, dict[str, str]]:
    """{resource: {property: the resource that it names}}, by the mocks' ids, ARNs and names."""
    names = {made.name for made in stack.made}
    found: dict[str, dict[str, str]] = {}
    for made in stack.made:
        kind = made.kind.partition(":")[2].partition(":")[0]
        for path, value in _walk(made.props) if made.kind.startswith("aws:") and kind not in _APART else ():
            named = re.fullmatch(r"arn:aws:test:[\w-]+:\d+:(.+)|(.+)-id", value) if isinstance(value, str) else None
            target = next((part for part in named.groups() if part), "") if named else str(value)
            by_name = path == "role" or (path.endswith("Name") and made.kind.startswith("aws:rds/"))
            if target in names and (named or by_name):
                found.setdefault(f"{kind} {made.name}", {})[path] = target
    return found


def test_everything_hangs_on_what_it_belongs_to_and_is_encrypted_by_the_stacks_own_key() -> None:
    assert connections(deployed("prod")) == CONNECTIONS


def _own(stack: Recorder, kind: str, name: str) -> dict[str, Any]:
    """What a resource says besides its tags, its texts and what it hangs on."""
    linked = {path.partition("[")[0].partition(".")[0] for path in CONNECTIONS.get(f"{kind} {name}", {})}
    return {key: value for key, value in stack.of(kind)[name].items() if key not in {"tags", "description", *linked}}


# -- network --------------------------------------------------------------------------------------------------------------


def test_only_public_subnets_have_a_way_out_and_hand_out_addresses() -> None:
    stack = deployed("prod")
    assert _own(stack, "ec2/vpc", "network-vpc") == {"cidrBlock": "10.60.0.0/20", "enableDnsSupport": True, "enableDnsHostnames": True}
    for name, subnet in stack.of("ec2/subnet").items():
        assert subnet["mapPublicIpOnLaunch"] is ("public" in name)
        assert subnet["availabilityZone"] == f"{REGION}{name[-1]}"
    assert _own(stack, "ec2/route", "network-way-out") == {"destinationCidrBlock": "0.0.0.0/0"}
    endpoint = _own(stack, "ec2/vpcEndpoint", "network-s3")
    assert endpoint == {"serviceName": f"com.amazonaws.{REGION}.s3", "vpcEndpointType": "Gateway"}


def test_what_names_no_security_group_reaches_nobody_and_nobody_reaches_it() -> None:
    assert _own(deployed("prod"), "ec2/defaultSecurityGroup", "network-closed") == {"ingress": [], "egress": []}


def test_every_rule_is_for_one_tcp_port_and_names_one_side() -> None:
    stack = deployed("many modalities")
    for kind in ("vpc/securityGroupIngressRule", "vpc/securityGroupEgressRule"):
        for name, rule in stack.of(kind).items():
            assert rule["ipProtocol"] == "tcp", name
            assert rule["fromPort"] == rule["toPort"], name
            assert len(rule.keys() & {"cidrIpv4", "referencedSecurityGroupId"}) == 1, name
    everywhere = {
        name: rule["fromPort"] for name, rule in stack.of("vpc/securityGroupEgressRule").items() if rule.get("cidrIpv4") == "0.0.0.0/0"
    }
    assert everywhere == {"host-https-out": 443}


def test_two_modalities_behind_one_address_share_a_rule_and_one_without_address_has_none() -> None:

    peers = [modality(aet=f"CT{n}", address="198.51.100.7", port=104) for n in (1, 2)]
    rules = deploy({**LEAST, "modalities": [*peers, modality(aet="MR")]}).of("vpc/securityGroupEgressRule")
    assert [name for name in rules if name.startswith("host-to-")] == ["host-to-198.51.100.7-104"]


def test_only_a_rule_for_comers_is_marked_as_open_on_purpose() -> None:
    stack = deployed("open")
    marked = {
        name
        for kind in ("Ingress", "Egress")
        for name, r in stack.of(f"vpc/securityGroup{kind}Rule").items()
        if "orthanc:open" in r["tags"]
    }
    assert marked == {"host-dicom-from-0.0.0.0-0"}


# -- database -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scenario", "keep"), [("prod", True), ("dev", False)])
def test_the_database_is_private_encrypted_and_keeps_what_the_stack_keeps(scenario: str, keep: bool) -> None:
    stack = deployed(scenario)
    sizes = {"instanceClass", "allocatedStorage", "maxAllocatedStorage", "multiAz", "backupRetentionPeriod"}
    database = {key: value for key, value in _own(stack, "rds/instance", "database-instance").items() if key not in sizes}
    assert database == {
        "identifier": "orthanc-test",
        "engine": "postgres",
        "engineVersion": "18",
        "autoMinorVersionUpgrade": True,
        "allowMajorVersionUpgrade": False,
        "storageType": "gp3",
        "storageEncrypted": True,
        "dbName": "orthanc",
        "port": 5432,
        "username": "orthanc",
        "manageMasterUserPassword": True,
        "publiclyAccessible": False,
        "caCertIdentifier": "rds-ca-rsa2048-g1",
        "backupWindow": "02:00-03:00",
        "maintenanceWindow": "sun:03:30-sun:04:30",
        "applyImmediately": not keep,
        "copyTagsToSnapshot": True,
        "deleteAutomatedBackups": not keep,
        "deletionProtection": keep,
        "skipFinalSnapshot": not keep,
        **({"finalSnapshotIdentifier": "orthanc-test-final"} if keep else {}),
        "enabledCloudwatchLogsExports": ["postgresql", "upgrade"],
    }
    waits_for = {resource._name for resource in next(m for m in stack.made if m.name == "database-instance").options.depends_on}  # type: ignore[union-attr]
    assert waits_for == {"database-postgresql", "database-upgrade"}  # or RDS would make them, without key and end


def test_the_databases_parameters_apply_to_its_version_at_once() -> None:
    group = deployed("prod").one("rds/parameterGroup")
    assert group["family"] == "postgres18"
    assert {parameter["applyMethod"] for parameter in group["parameters"]} == {"immediate"}
    values = {parameter["name"]: parameter["value"] for parameter in group["parameters"]}
    assert values["idle_in_transaction_session_timeout"] == "600000"


def test_prod_says_how_big_its_database_is_and_how_far_back_it_goes() -> None:
    database = deployed("prod").one("rds/instance")
    sizes = ("instanceClass", "allocatedStorage", "maxAllocatedStorage", "multiAz", "backupRetentionPeriod")
    assert [database[key] for key in sizes] == ["db.m7g.large", 200, 4000, True, 35]


# -- host -----------------------------------------------------------------------------------------------------------------


def test_the_host_asks_for_tokens_has_an_encrypted_disk_and_takes_it_along() -> None:
    template = deployed("prod").of("ec2/launchTemplate")["host-template"]
    assert template["metadataOptions"] == {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}
    (disk,) = template["blockDeviceMappings"]
    assert disk["deviceName"] == "/dev/xvda"
    assert {key: value for key, value in disk["ebs"].items() if key != "kmsKeyId"} == {
        "volumeType": "gp3",
        "volumeSize": 20,
        "encrypted": "true",
        "deleteOnTermination": "true",
    }
    assert template["imageId"] == "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
    assert template["instanceType"] == "m7g.large"
    tagged = {part["resourceType"]: part["tags"] for part in template["tagSpecifications"]}
    assert set(tagged) == {"instance", "volume", "network-interface"}
    assert {tags["orthanc:stack"] for tags in tagged.values()} == {"test"}  # by which the role knows its own instance


@pytest.mark.parametrize(("scenario", "keep"), [("prod", True), ("dev", False)])
def test_there_is_one_host_that_counts_when_it_has_proven_the_service_and_ends_in_time(scenario: str, keep: bool) -> None:
    stack = deployed(scenario)
    group = _own(stack, "autoscaling/group", "host-group")
    assert stack.of("autoscaling/group")["host-group"]["launchTemplate"]["version"] == "3"
    assert group == {
        "name": "orthanc-test",
        "minSize": 1,
        "maxSize": 1,
        "initialLifecycleHooks": [
            {
                "name": "proven",
                "lifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
                "heartbeatTimeout": 3600,
                "defaultResult": "ABANDON",
            }
        ],
        "waitForCapacityTimeout": "60m",
        "instanceRefresh": {"strategy": "Rolling", "preferences": {"minHealthyPercentage": 0, "maxHealthyPercentage": 100}},
        "maxInstanceLifetime": 30 * 86400,
        "healthCheckType": "EC2",
        "enabledMetrics": ["GroupInServiceInstances", "GroupPendingInstances"],
        "forceDelete": not keep,
    }
    assert {tag["propagateAtLaunch"] for tag in stack.of("autoscaling/group")["host-group"]["tags"]} == {False}
    options = {made.name: made.options for made in stack.made}
    assert {resource._name for resource in options["host-group"].depends_on} == {"host-address", "host-proven"}  # type: ignore[union-attr]
    assert options["host-proven"].ignore_changes == ["value"]  # the host writes it


def test_a_fresh_host_gets_every_program_where_it_is_called_and_changed_by_root_alone() -> None:
    text = base64.b64decode(deployed("prod").one("ec2/launchTemplate")["userData"]).decode()
    told = yaml.safe_load(text)
    files = {entry["path"]: (entry.get("permissions"), entry["content"]) for entry in told["write_files"]}
    sources = {
        "/usr/local/sbin/orthanc-install": ("0755", "install.sh"),
        "/usr/local/sbin/orthanc-pull": ("0755", "puller.py"),
        "/usr/local/sbin/orthanc-host": ("0755", "orthanc-host.sh"),
        "/etc/systemd/system/orthanc-converge.service": ("0644", "orthanc-converge.service"),
        "/etc/systemd/system/orthanc-converge.timer": ("0644", "orthanc-converge.timer"),
    }
    assert files.keys() == {"/etc/orthanc/stack.json", *sources}
    for path, (mode, name) in sources.items():
        assert files[path] == (mode, (ROOT / "bootstrap" / name).read_text(encoding="utf-8")), path
    ((program, url, checksum),) = told["runcmd"]
    assert program == "/usr/local/sbin/orthanc-install"
    assert url.startswith("https://github.com/docker/compose/releases/download/")
    assert url.endswith("-aarch64")
    assert re.fullmatch(r"[0-9a-f]{64}", checksum)


def test_a_host_of_another_architecture_gets_its_own_plugin_and_image() -> None:

    told = {name: deploy({**LEAST, "instanceType": name}).one("ec2/launchTemplate") for name in ("t3.small", "t4g.small")}
    commands = {name: yaml.safe_load(base64.b64decode(t["userData"]))["runcmd"][0] for name, t in told.items()}
    assert [told[name]["imageId"].rpartition("-")[2] for name in told] == ["x86_64", "arm64"]
    assert [commands[name][1].rpartition("-")[2] for name in told] == ["x86_64", "aarch64"]
    assert commands["t3.small"][2] == "837fd1d35bf6a494f41b5b5988269a7be79de337cf1a1a6ff0e45ab51bb4e9be"
    assert commands["t4g.small"][2] == "fc5d1371f1ec7987e703da94ede49af3fbfb240b83f22991a98511de7bc4b93b"


# -- key, secrets, archive ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scenario", "days"), [("prod", 30), ("dev", 7)])
def test_the_key_is_rotated_named_and_can_be_brought_back_and_so_can_secrets_that_are_kept(scenario: str, days: int) -> None:
    stack = deployed(scenario)
    assert stack.one("kms/key")["enableKeyRotation"] is True
    assert stack.one("kms/key")["deletionWindowInDays"] == days
    assert {secret["recoveryWindowInDays"] for secret in stack.of("secretsmanager/secret").values()} == {30 if days == 30 else 0}
    assert stack.one("kms/alias") == {"name": "alias/orthanc-test", "targetKeyId": "key-1"}


def test_passwords_are_long_random_and_of_letters_and_digits_and_everybody_has_an_own_one() -> None:
    stack = deployed("prod")
    passwords = stack.of("index/randomPassword")
    assert passwords.keys() == {"secrets-password-admin", "secrets-password-probe", "secrets-password-host"}
    assert all(password == {"length": 32, "special": False} for password in passwords.values())
    users = json.loads(stack.of("secretsmanager/secretVersion")["secrets-users"]["secretString"])
    assert json.loads(users["orthanc/users.json"]) == {
        "RegisteredUsers": {name: f"generated-secrets-password-{name}" for name in ("admin", "probe", "host")}
    }
    assert users["probe/password"] == "generated-secrets-password-probe"


def test_every_key_file_holds_the_key_of_the_certificate_beside_it() -> None:
    stack = deployed("renewing, own certificates")
    keys = json.loads(stack.of("secretsmanager/secretVersion")["secrets-keys"]["secretString"])
    files = released(stack)
    pairs = {
        "orthanc/orthanc": "tls-orthanc-1-orthanc-1",
        "probe/probe": "tls-inside-1-probe-1",
        "nginx/gateway": "tls-inside-1-gateway-1",
        "nginx/server": "tls-outside-1-server-1",
        "nginx/outgoing": "tls-outside-1-outgoing-1",
        "agent/probe": "tls-outside-1-host-1",
    }
    for file, name in pairs.items():
        assert keys[f"{file}.key"] == certificate(name).key, file
        assert files[f"{file}.crt"] == certificate(name).certificate, file
    orthanc = certificate("tls-orthanc-1-orthanc-1")
    assert keys["orthanc/orthanc.pem"] == orthanc.certificate + orthanc.key
    assert keys.keys() == {*(f"{file}.key" for file in pairs), "nginx/web.key", "orthanc/orthanc.pem"}
    authorities = {
        "orthanc/inside-authority.crt": "tls-inside-1-authority",
        "probe/orthanc-authority.crt": "tls-orthanc-1-authority",
        "nginx/outside-authority.crt": "tls-outside-1-authority",
        "nginx/orthanc-authority.crt": "tls-orthanc-1-authority",
        "agent/outside-authority.crt": "tls-outside-1-authority",
    }
    for file, name in authorities.items():
        assert files[file] == certificate(name).certificate, file


def test_every_key_certificate_and_password_has_its_place_in_a_directory_that_a_container_or_the_agent_reads() -> None:
    secret = json.loads(released(deployed("dev"))["host.json"])["files"]
    public = [name for name in released(deployed("dev")) if name.endswith(".crt")]
    places_ = {f"{folder}/{file}" for folder, names in {**places.SECRETS, **places.AGENT_SECRETS}.items() for file in names}
    assert {*secret, *public} <= places_


def test_a_release_names_for_each_secret_file_its_secret_version_and_field() -> None:
    files = json.loads(released(deployed("dev"))["host.json"])["files"]
    for name in ("nginx/server.key", "orthanc/users.json"):
        role = "users" if name.endswith("json") else "keys"
        (arn,) = {place["secret"] for file, place in files.items() if file == name}
        assert files[name] == {"secret": arn, "version": f"secrets-{role}-version", "field": name}
        assert arn.endswith(f":secrets-{role}")


def test_what_is_said_to_people_once_is_secret_in_the_state() -> None:
    stack = deployed("renewing, own certificates")
    for name in ("secrets-keys", "secrets-users"):
        (made,) = [m for m in stack.made if m.name == name and "secretVersion" in m.kind]
        assert is_secret(made.raw["secretString"])
    (archive,) = [m for m in stack.made if m.name == "release-archive"]
    assert is_secret(archive.raw["contentBase64"])


@pytest.mark.parametrize(("scenario", "keep"), [("prod", True), ("dev", False)])
def test_the_archive_is_closed_encrypted_versioned_and_outlives_its_successor(scenario: str, keep: bool) -> None:
    stack = deployed(scenario)
    assert stack.one("s3/bucket")["forceDestroy"] is not keep
    blocks = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    assert _own(stack, "s3/bucketPublicAccessBlock", "release-closed") == dict.fromkeys(blocks, True)
    assert stack.one("s3/bucketVersioning")["versioningConfiguration"] == {"status": "Enabled"}
    (rule,) = stack.one("s3/bucketServerSideEncryptionConfiguration")["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "aws:kms"
    assert rule["bucketKeyEnabled"] is True
    assert stack.one("s3/bucketLifecycleConfiguration")["rules"] == [
        {
            "id": "superseded",
            "status": "Enabled",
            "filter": {"prefix": "release.tar.gz"},
            "noncurrentVersionExpiration": {"noncurrentDays": 90},
            "abortIncompleteMultipartUpload": {"daysAfterInitiation": 1},
        }
    ]
    options = {made.name: made.options for made in stack.made}
    waits = {name: {r._name for r in options[name].depends_on} for name in ("release-archive", "release-lifetimes")}  # type: ignore[union-attr]
    assert waits == {"release-archive": {"release-versions", "release-encryption"}, "release-lifetimes": {"release-versions"}}


def test_the_host_is_pointed_to_one_version_of_one_object() -> None:
    stack = deployed("dev")
    parameters = {p["name"]: p for p in stack.of("ssm/parameter").values()}
    assert parameters.keys() == {"/orthanc/test/release", "/orthanc/test/proven"}
    assert {p["type"] for p in parameters.values()} == {"String"}
    assert parameters["/orthanc/test/proven"]["value"] == "{}"
    pointer = json.loads(parameters["/orthanc/test/release"]["value"])
    assert (pointer["bucket"], pointer["key"]) == ("release-bucket", stack.one("s3/bucketObjectv2")["key"])


# -- certificates ---------------------------------------------------------------------------------------------------------


def test_an_authority_signs_and_does_nothing_else_and_outlives_what_it_signs() -> None:
    stack = deployed("prod")
    keys = stack.of("index/privateKey")
    for role in ("outside", "inside", "orthanc"):
        name = f"tls-{role}-1-authority"
        strong = {"algorithm": "RSA", "rsaBits": 3072} if role == "outside" else {"algorithm": "ECDSA", "ecdsaCurve": "P256"}
        assert keys[name] == strong
        said = stack.of("index/selfSignedCert")[name]
        assert said == {
            "privateKeyPem": certificate(name).key,
            "subject": {"commonName": f"orthanc-test {role} authority 1", "organization": "orthanc"},
            "isCaCertificate": True,
            "setSubjectKeyId": True,
            "allowedUses": ["cert_signing", "crl_signing"],
            "validityPeriodHours": 3650 * 24,
        }
    assert len(stack.of("index/selfSignedCert")) == 3


def test_every_certificate_is_signed_by_the_authority_of_its_side_for_the_key_that_asked() -> None:
    stack = deployed("many modalities")
    requests, keys = stack.of("index/certRequest"), stack.of("index/privateKey")
    for name, said in stack.of("index/locallySignedCert").items():
        authority = certificate("-".join([*name.split("-")[:3], "authority"]))
        assert (said["caCertPem"], said["caPrivateKeyPem"]) == (authority.certificate, authority.key), name
        assert said["isCaCertificate"] is False
        assert said["allowedUses"][0] == "digital_signature"
        assert said["certRequestPem"] == f"request of {name}"
        asked = requests[name]
        assert asked["privateKeyPem"] == certificate(name).key
        assert asked["subject"] == {"commonName": asked["dnsNames"][0], "organization": "orthanc"}
        assert bool(asked["ipAddresses"]) is (name == "tls-outside-1-server-1"), name
        outside = name.startswith("tls-outside-")
        assert keys[name] == ({"algorithm": "RSA", "rsaBits": 2048} if outside else {"algorithm": "ECDSA", "ecdsaCurve": "P256"}), name
    lasting = {m.name: m.options.ignore_changes for m in stack.made if m.kind.endswith(":LocallySignedCert")}
    assert {tuple(ignored or ()) for ignored in lasting.values()} == {
        ("validityPeriodHours",)
    }  # one in force is renewed by its number alone
    names = {name.split("-", 3)[3]: asked["dnsNames"] for name, asked in requests.items() if "modality" not in name}
    assert names == {
        "server-1": ["orthanc-test.orthanc"],
        "orthanc-1": ["orthanc.inside"],
        "gateway-1": ["gateway.inside"],
        "probe-1": ["probe.inside"],
        "outgoing-1": ["outgoing.orthanc"],
        "host-1": ["probe.modality.orthanc"],
    }


def test_a_server_with_a_domain_name_carries_it() -> None:
    stack = deployed("renewing, own certificates")
    assert stack.of("index/certRequest")["tls-outside-1-server-1"]["dnsNames"] == ["pacs.example.org"]


def test_a_modalitys_own_request_is_what_is_signed() -> None:
    stack = deployed("renewing, own certificates")
    signed = stack.of("index/locallySignedCert")["tls-outside-1-modality-CT1-2"]
    assert signed["certRequestPem"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert "tls-outside-1-modality-CT1-2" not in stack.of("index/privateKey")


# -- what the host is told ------------------------------------------------------------------------------------------------


def test_the_agent_is_told_what_it_can_ask_nobody() -> None:
    told = json.loads(released(deployed("dev"))["host.json"])
    ends = {name: end_of_life(certificate(made).certificate) for name, made in {"nginx/server": "tls-outside-1-server-1"}.items()}
    assert told["expires"].items() >= ends.items()
    assert "modality PROBE/1" in told["expires"]
    assert {key: value for key, value in told.items() if key not in {"files", "expires"}} == {
        "stack": "test",
        "region": REGION,
        "group": "orthanc-test",
        "hook": "proven",
        "metrics": "Orthanc",
        "proven": "/orthanc/test/proven",
        "log_group": "/orthanc/test/host",
        "dicom_port": 11112,
        "web_port": 443,
        "aet": "ORTHANC",
        "server_name": "192.0.2.10",
        "address": {"ip": "192.0.2.10", "allocation": "eipalloc-1"},
        "database": {
            "host": "db.example.internal",
            "port": 5432,
            "name": "orthanc",
            "user": "orthanc",
            "secret": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!database-instance",
            "authority_url": "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
        },
        "run_dir": "/run/orthanc",
        "scratch_dir": "/var/lib/orthanc/scratch",
        "directories": {"orthanc": [999, 999], "probe": [999, 999], "nginx": [101, 101], "agent": [0, 0]},
    }


def test_nginx_lets_in_each_certificate_in_force_as_whom_it_was_made_for() -> None:
    conf = released(deployed("renewing, own certificates"))["nginx/nginx.conf"]
    enrolled = dict(re.findall(r'^ +([0-9a-f]{40}) "(\w+)";$', conf, re.MULTILINE))
    assert enrolled == {
        fingerprint(certificate("tls-outside-1-host-1").certificate): "PROBE",
        fingerprint(certificate("tls-outside-1-modality-CT1-1").certificate): "CT1",
        fingerprint(certificate("tls-outside-1-modality-CT1-2").certificate): "CT1",
    }


def test_the_hosts_own_certificate_is_a_callers_and_no_servers() -> None:
    assert deployed("dev").of("index/locallySignedCert")["tls-outside-1-host-1"]["allowedUses"] == ["digital_signature", "client_auth"]


def test_a_key_that_the_site_brings_along_is_a_secret_from_the_start() -> None:
    async def secret() -> bool:
        return await Pair.given("certificate", "key").key.is_secret()

    assert asyncio.run(secret())


def test_a_name_that_the_first_boots_template_lacks_is_an_error_and_no_empty_text() -> None:
    with pytest.raises(UndefinedError):
        host._TEMPLATES.from_string("{{ nothing }}").render()


def test_a_domain_name_is_what_people_scanners_and_the_host_itself_call_the_server() -> None:
    stack = deployed("renewing, own certificates")
    assert json.loads(released(stack)["host.json"])["server_name"] == "pacs.example.org"
    assert stack.outputs["url"] == "https://pacs.example.org/"
    assert stack.outputs["dicom"] == "ORTHANC@pacs.example.org:11112 (TLS, client certificate)"


def test_programs_are_told_of_the_service_what_people_are_told() -> None:
    modalities = {f"CT{n}": {"may": ["store", "find", "move", "get"], "address": f"198.51.100.{n}", "port": 104} for n in range(1, 31)}
    assert deployed("many modalities").outputs["service"] == {
        "host": "192.0.2.10",
        "certificateName": "orthanc-test.orthanc",
        "aet": "ORTHANC",
        "dicomPort": 11112,
        "webPort": 443,
        "admins": ["admin"],
        "modalities": modalities,
    }
    assert deployed("renewing, own certificates").outputs["service"]["modalities"] == {"CT1": {"may": ["store"]}}


def test_orthanc_is_told_of_the_database_that_was_made() -> None:
    assert "@db.example.internal:5432/" in released(deployed("dev"))["orthanc/orthanc.json"]


def test_an_error_in_a_template_shows_before_the_first_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def made(_: Recorder, args: MockResourceArgs) -> None:
        asked.append(args.name)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Recorder, "new_resource", made)
    monkeypatch.setattr("infra.release.render", broken)
    with pytest.raises(ZeroDivisionError):
        deploy(LEAST)
    assert asked == []
