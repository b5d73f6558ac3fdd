"""Guardrails: what must hold for every resource, whoever wrote it.

Pure checks of (type, properties), run over all resources by the mock tests and, as a policy pack, by `pulumi preview
--policy-pack policy`. Several hold what AWS demands and an emulator never checks. Properties are camelCase, as Pulumi's engine has
them; in a preview some are NOT_KNOWN yet, and what can't be judged then is judged when it is deployed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from infra.access import METRICS, WITHOUT_RESOURCE
from infra.host import USER_DATA_BYTES
from infra.release import KEEP_DAYS
from infra.stack import CONFIRMED, OPEN_TAG

Props = Mapping[str, Any]


class _NotKnown:
    """Stands for a value that a preview can't know. True, because it will be something."""

    def __repr__(self) -> str:
        return "<not known yet>"


NOT_KNOWN: Final = _NotKnown()


@dataclass(frozen=True, kw_only=True)
class Resource:
    kind: str
    name: str
    props: Props
    protected: bool = False


def _walk(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{number}]")
    else:
        yield path, value


def _true(value: object) -> bool:
    return value is True or value is NOT_KNOWN or value == "true"


def _statements(policy: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(policy, str):
        yield from json.loads(policy).get("Statement", [])


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


# -- encrypted, under our own key ------------------------------------------------------------------------------------------

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws:cloudwatch/logGroup:LogGroup": ("kmsKeyId",),
    "aws:ebs/volume:Volume": ("kmsKeyId",),
    "aws:rds/instance:Instance": ("kmsKeyId", "masterUserSecretKmsKeyId"),
    "aws:rds/snapshotCopy:SnapshotCopy": ("kmsKeyId",),
    "aws:secretsmanager/secret:Secret": ("kmsKeyId",),
    "aws:sns/topic:Topic": ("kmsMasterKeyId",),
    "aws:sqs/queue:Queue": ("kmsMasterKeyId",),
}
_SWITCHES: Final[Mapping[str, str]] = {
    "aws:ebs/volume:Volume": "encrypted",
    "aws:rds/instance:Instance": "storageEncrypted",
    "aws:kms/key:Key": "enableKeyRotation",
}


def encrypted(kind: str, props: Props) -> Iterator[str]:
    for key in _KEYS.get(kind, ()):
        value = props.get(key)
        if not value or (isinstance(value, str) and value.startswith("alias/aws/")):
            yield f"{key} names no key of our own: AWS's own keys let everybody in the account read (and stop alarms)"
    if kind in _SWITCHES and not _true(props.get(_SWITCHES[kind])):
        yield f"{_SWITCHES[kind]} is off"
    if kind == "aws:ec2/launchTemplate:LaunchTemplate":
        for device in props.get("blockDeviceMappings") or [{}]:
            disk = device.get("ebs") or {}
            if not _true(disk.get("encrypted")) or not disk.get("kmsKeyId"):
                yield "a volume is not encrypted under our own key"
    if kind == "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration":
        for rule in props["rules"]:
            default = rule["applyServerSideEncryptionByDefault"]
            if default.get("sseAlgorithm") != "aws:kms" or not default.get("kmsMasterKeyId"):
                yield "objects are not encrypted under our own key"


# -- not public ------------------------------------------------------------------------------------------------------------

_BLOCKS: Final = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def _wide(cidr: object) -> bool:
    """Whether a range is the whole internet or near it: halves of it are as open as all of it."""
    return isinstance(cidr, str) and ip_network(cidr, strict=False).prefixlen < (8 if "." in cidr else 16)


def not_public(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:rds/instance:Instance" and props.get("publiclyAccessible"):
        yield "the database has a public address"
    if kind == "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":
        for block in _BLOCKS:
            if not _true(props.get(block)):
                yield f"{block} is off"
    if kind == "aws:s3/bucket:Bucket" and props.get("acl") not in (None, "private"):
        yield f"the bucket's acl is {props['acl']}"
    if kind in ("aws:s3/bucketPolicy:BucketPolicy", "aws:sns/topicPolicy:TopicPolicy"):
        for statement in _statements(props.get("policy")):
            if statement["Effect"] == "Allow" and statement.get("Principal") in ("*", {"AWS": "*"}):
                yield "its policy lets everybody in"


def no_open_ingress(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
        tags = props.get("tags") or {}
        for key in ("cidrIpv4", "cidrIpv6"):
            if _wide(props.get(key)) and tags.get(OPEN_TAG) != CONFIRMED:
                yield f"opens port {props.get('fromPort')} to the whole internet; openToTheWorld confirms that it is meant"
    if kind in ("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup") and props.get("ingress"):
        yield "has rules inside: each is a resource of its own, so that a diff names it"
    if kind == "aws:ec2/securityGroupRule:SecurityGroupRule":
        yield "is the old kind of rule, which these checks don't read: use vpc.SecurityGroupIngressRule"


def _reaches(props: Props, *ports: int) -> bool:
    first, last = props.get("fromPort"), props.get("toPort")
    if props.get("ipProtocol") == "-1" or first is None or last is None:
        return True
    return any(int(first) <= port <= int(last) for port in ports)


def nobody_logs_in(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:ec2/keyPair:KeyPair" or props.get("keyName"):
        yield "brings an SSH key: Session Manager needs neither key nor open port"
    if kind == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule" and _reaches(props, 22, 3389):
        yield "opens a port for logging in"


# -- named -----------------------------------------------------------------------------------------------------------------

_UNTAGGABLE: Final = frozenset(
    {
        "aws:cloudwatch/dashboard:Dashboard",
        "aws:cloudwatch/logMetricFilter:LogMetricFilter",
        "aws:ec2/route:Route",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:kms/alias:Alias",
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "aws:s3/bucketVersioning:BucketVersioning",
        "aws:secretsmanager/secretVersion:SecretVersion",
        "aws:sns/topicPolicy:TopicPolicy",
        "aws:sns/topicSubscription:TopicSubscription",
    }
)


def tags_of(props: Props) -> Mapping[str, Any]:
    """Tags, also of a group, which has them as a list."""
    tags = props.get("tags") or {}
    return tags if isinstance(tags, Mapping) else {t["key"]: t["value"] for t in tags}


def tagged(kind: str, props: Props) -> Iterator[str]:
    if not kind.startswith("aws:") or kind in _UNTAGGABLE:
        return
    missing = [t for t in ("Name", "orthanc:project", "orthanc:stack", "orthanc:keep") if not tags_of(props).get(t)]
    if missing:
        yield f"lacks the tags {', '.join(missing)}: several stacks share the account, and the bill"


# -- pinned, and without secrets -------------------------------------------------------------------------------------------


def pinned(kind: str, props: Props) -> Iterator[str]:
    if kind == "orthanc:infra:ConfigRelease":
        compose = (props.get("files") or {}).get("compose.yaml")
        for image in re.findall(r"^\s+image: (.+)$", compose if isinstance(compose, str) else "", re.MULTILINE):
            if not re.search(r"@sha256:[0-9a-f]{64}", image):
                yield f"the image {image} is not pinned by digest"
    text = user_data(props) if kind == "aws:ec2/launchTemplate:LaunchTemplate" else ""
    if "curl" in text and not re.search(r"\b[0-9a-f]{64}\b", text):
        yield "the host downloads something without a checksum"


# Where a key or password belongs; the engine keeps these encrypted.
_VAULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws:secretsmanager/secretVersion:SecretVersion": ("secretString",),
    "tls:index/certRequest:CertRequest": ("privateKeyPem",),
    "tls:index/locallySignedCert:LocallySignedCert": ("caPrivateKeyPem",),
    "tls:index/selfSignedCert:SelfSignedCert": ("privateKeyPem",),
}
_SECRET_NAMES: Final = re.compile(r"(?i)(^|\.)(password|masterPassword|secretAccessKey|token)$")


def no_secret_in_plain(kind: str, props: Props) -> Iterator[str]:
    for path, value in _walk({k: v for k, v in props.items() if k not in _VAULTS.get(kind, ())}):
        if isinstance(value, str) and "PRIVATE KEY-----" in _decoded(value):
            yield f"{path} holds a private key"
        if isinstance(value, str) and value and _SECRET_NAMES.search(path):
            yield f"{path} holds a password: let RDS or Secrets Manager make it"


def _decoded(text: str) -> str:
    """`text`, and what it says when it is base64."""
    try:
        return text + base64.b64decode(text, validate=True).decode(errors="replace")
    except ValueError:
        return text


def user_data(props: Props) -> str:
    data = props.get("userData")
    return base64.b64decode(data).decode() if isinstance(data, str) else ""


# -- what AWS demands, and an emulator does not check ----------------------------------------------------------------------


def host_starts(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:ec2/launchTemplate:LaunchTemplate":
        size = len(user_data(props).encode())
        if size > USER_DATA_BYTES:
            yield f"user data has {size} bytes, more than {USER_DATA_BYTES} (EC2 refuses more than 16384)"
        metadata = props.get("metadataOptions") or {}
        if metadata.get("httpTokens") != "required" or metadata.get("httpPutResponseHopLimit") != 1:
            yield "containers could reach the host's credentials: IMDSv2 with one hop is required"
        if not str(props.get("imageId")).startswith("resolve:ssm:"):
            yield "a fixed AMI grows old: resolve:ssm: finds the newest"


def host_is_replaced(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:autoscaling/group:Group":
        hooks = [h for h in props.get("initialLifecycleHooks") or [] if h["lifecycleTransition"].endswith("INSTANCE_LAUNCHING")]
        if not hooks:
            yield "has no initial launch hook: a host would count as up before it has proven anything"
        for hook in hooks:
            if hook.get("defaultResult") != "ABANDON":
                yield f"hook {hook['name']} lets an unproven host in"
            if not 30 <= int(hook.get("heartbeatTimeout", 3600)) <= 7200:
                yield f"hook {hook['name']}: AWS takes a heartbeat of 30 to 7200 seconds"
        wait = re.fullmatch(r"(\d+)m", str(props.get("waitForCapacityTimeout", "10m")))
        if not wait or int(wait[1]) < 30:
            yield "waits less than 30 minutes for its host, which waits for a Multi-AZ database"
        if "$" in str((props.get("launchTemplate") or {}).get("version", "$")):
            yield "follows a symbolic template version, which starts no instance refresh: give the number"
        preferences = (props.get("instanceRefresh") or {}).get("preferences") or {}
        if (preferences.get("minHealthyPercentage"), preferences.get("maxHealthyPercentage")) != (0, 100):
            yield "does not refresh one host at a time: a changed template would reach none, or two would fight for the address"
        if not 86400 <= int(props.get("maxInstanceLifetime") or 0) <= 31536000:
            yield "AWS takes a maximum instance lifetime of 1 to 365 days"


_GROUP_ROLE: Final = ":role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"


def key_lets_in(kind: str, props: Props) -> Iterator[str]:
    """The key's policy names those without whom AWS fails, long after `pulumi up` succeeded."""
    if kind != "aws:kms/key:Key" or props.get("policy") is NOT_KNOWN:
        return
    if not props.get("policy"):
        yield "has AWS's default policy: no alarm, log group or host could use it, and everybody with IAM rights could"
        return
    granted = list(_statements(props["policy"]))

    needed = (
        ("kms:Put*", (":root",), "the account: nobody could administer it, pulumi included"),
        ("kms:CreateAlias", (":root",), "the account: nobody could administer it, pulumi included"),
        ("kms:DeleteAlias", (":root",), "the account: nobody could administer it, pulumi included"),
        ("kms:ScheduleKeyDeletion", (":root",), "the account: nobody could administer it, pulumi included"),
        (
            "kms:Decrypt",
            (":root", '"rds.', '"s3.', '"secretsmanager.'),
            "RDS, S3 and Secrets Manager: no database, and no release for hosts",
        ),
        ("kms:Decrypt", (_GROUP_ROLE,), "the group encrypt its host's volume: no host would start"),
        ("kms:CreateGrant", (_GROUP_ROLE, "kms:GrantIsForAWSResource"), "the group encrypt its host's volume: no host would start"),
        ("kms:Decrypt", ("cloudwatch.amazonaws.com",), "CloudWatch: alarms would never reach the encrypted topic"),
        ("kms:GenerateDataKey*", ("cloudwatch.amazonaws.com",), "CloudWatch: alarms would never reach the encrypted topic"),
        ("kms:Decrypt", ('"logs.', "kms:EncryptionContext:aws:logs:arn"), "the region's Logs service: log groups can't be encrypted"),
    )
    for action, words, whom in needed:
        if not any(
            action in _list(s["Action"]) and all(w in json.dumps([s["Principal"], s.get("Condition")]) for w in words) for s in granted
        ):
            yield f"does not let {action} to {whom}"
    for s in granted:
        condition = json.dumps(s.get("Condition"))
        if "*" in json.dumps(s["Principal"]) and not ("kms:CallerAccount" in condition and "aws:PrincipalArn" in condition):
            yield "lets everybody in"
        if "cloudwatch.amazonaws.com" in json.dumps(s["Principal"]) and "aws:SourceAccount" not in condition:
            yield "lets other accounts' alarms in"


def least_privilege(kind: str, props: Props) -> Iterator[str]:
    if kind not in ("aws:iam/rolePolicy:RolePolicy", "aws:iam/policy:Policy"):
        return
    for statement in _statements(props.get("policy")):
        actions = _list(statement["Action"])
        if any(a == "*" or a.endswith(":*") for a in actions):
            yield f"allows {', '.join(actions)}: name each action"
        if "*" in _list(statement["Resource"]) and not set(actions) <= set(WITHOUT_RESOURCE):
            yield f"allows {', '.join(sorted(set(actions) - set(WITHOUT_RESOURCE)))} on everything: name the resource"
        if "cloudwatch:PutMetricData" in actions and METRICS not in json.dumps(statement.get("Condition")):
            yield "may write anybody's metrics: a condition on the namespace narrows it"


def database_is_sound(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:rds/instance:Instance":
        if "." in str(props.get("engineVersion")):
            yield "names a minor version: RDS retires those, and then can't make or restore it"
        if int(props.get("maxAllocatedStorage") or 0) * 100 < int(props["allocatedStorage"]) * 126:
            yield "can't grow: RDS wants a limit at least 26 % above the storage"
        if not props.get("backupRetentionPeriod"):
            yield "has no backups, and so no point-in-time recovery"
        if not _true(props.get("manageMasterUserPassword")):
            yield "its password would lie in the state: let RDS make and rotate it"
    if kind == "aws:rds/parameterGroup:ParameterGroup":
        values = {p["name"]: p["value"] for p in props["parameters"]}
        wanted = {"rds.force_ssl": "1", "ssl_min_protocol_version": "TLSv1.2", "log_statement": "none", "log_min_duration_statement": "-1"}
        wanted |= {"log_min_error_statement": "panic", "log_error_verbosity": "terse", "log_parameter_max_length": "0"}
        wanted |= {"log_parameter_max_length_on_error": "0"}
        for name, value in wanted.items():
            if values.get(name) != value:
                yield f"{name} must be {value}: nobody reads along, and no patient stands in a log"


def network_does_what_it_is_for(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:ec2/natGateway:NatGateway":
        yield "a NAT gateway costs more than the host: the database needs no way out, the host has a public address"
    if kind == "aws:ec2/vpcEndpoint:VpcEndpoint" and props.get("vpcEndpointType") == "Gateway" and not props.get("routeTableIds"):
        yield "a gateway endpoint without route tables does nothing"


def watched(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:cloudwatch/logGroup:LogGroup" and not props.get("retentionInDays"):
        yield "keeps its logs, and costs, for ever"
    if kind == "aws:cloudwatch/metricAlarm:MetricAlarm":
        if not props.get("alarmActions"):
            yield "tells nobody"
        if len(str(props.get("alarmDescription") or "")) < 40:
            yield "does not say what to do"


def archives_stay(kind: str, props: Props) -> Iterator[str]:
    if kind == "aws:s3/bucketVersioning:BucketVersioning" and (props.get("versioningConfiguration") or {}).get("status") != "Enabled":
        yield "an archive that is superseded would be gone"
    if kind == "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration":
        for rule in props["rules"]:
            if rule.get("expiration"):
                yield "deletes archives by age, the current one too"
            if int((rule.get("noncurrentVersionExpiration") or {}).get("noncurrentDays", 0)) < KEEP_DAYS:
                yield f"keeps superseded archives for less than {KEEP_DAYS} days"


def certificates_are_sound(kind: str, props: Props) -> Iterator[str]:
    if kind == "tls:index/locallySignedCert:LocallySignedCert":
        if _true(props.get("isCaCertificate")):
            yield "a leaf must not be an authority"
        if props.get("allowedUses") == ["digital_signature", "server_auth"] and int(props["validityPeriodHours"]) > 397 * 24:
            yield "browsers refuse a server certificate that lives longer than 397 days"
    if kind == "tls:index/privateKey:PrivateKey" and props.get("algorithm") == "RSA" and int(props.get("rsaBits") or 2048) < 2048:
        yield "an RSA key has 2048 bits or more"


# -- kept ------------------------------------------------------------------------------------------------------------------

_KEPT: Final = frozenset({"aws:rds/instance:Instance", "aws:kms/key:Key", "aws:secretsmanager/secret:Secret", "aws:ec2/eip:Eip"})
_AUTHORITY: Final = ("tls:index/selfSignedCert:SelfSignedCert",)


def kept(resource: Resource, *, keep: bool) -> Iterator[str]:
    """What a kept stack protects, in Pulumi and, where AWS has a switch, in AWS."""
    if not keep:
        return
    holds = (
        resource.kind in _KEPT
        or resource.kind in _AUTHORITY
        or (resource.kind == "tls:index/privateKey:PrivateKey" and resource.name.endswith("-authority"))
    )
    if holds and not resource.protected:
        yield "the stack is kept, but this is not protected: pulumi destroy would take it"
    if resource.kind == "aws:rds/instance:Instance":
        if not _true(resource.props.get("deletionProtection")):
            yield "the stack is kept, but anybody in the console could delete its database"
        if resource.props.get("skipFinalSnapshot") or not resource.props.get("finalSnapshotIdentifier"):
            yield "the stack is kept, but its database would go without a last snapshot"


CHECKS: Final[tuple[Callable[[str, Props], Iterator[str]], ...]] = (
    encrypted,
    not_public,
    no_open_ingress,
    nobody_logs_in,
    tagged,
    pinned,
    no_secret_in_plain,
    host_starts,
    host_is_replaced,
    key_lets_in,
    least_privilege,
    database_is_sound,
    network_does_what_it_is_for,
    watched,
    archives_stay,
    certificates_are_sound,
)


def broken(resource: Resource) -> Iterator[str]:
    """What is wrong with one resource by itself."""
    for check in CHECKS:
        for message in check(resource.kind, resource.props):
            yield f"{check.__name__}: {message}"


def broken_together(resources: Iterable[Resource]) -> Iterator[tuple[Resource, str]]:
    """What is wrong with a stack as a whole: (where, why). A stack is kept when its resources' tags say so."""
    everything = list(resources)
    keep = any(tags_of(r.props).get("orthanc:keep") == "true" for r in everything if r.kind.startswith("aws:"))
    for resource in everything:
        for message in kept(resource, keep=keep):
            yield resource, f"kept: {message}"
