"""OrthancHost: one EC2 instance that replaces itself, and the address that people and scanners know."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

import pulumi
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pulumi_aws import autoscaling, ec2, iam, ssm, vpc

from infra import access, database
from infra.settings import EVERYWHERE, Settings, wide
from infra.stack import CONFIRMED, OPEN_TAG, Stack

_BOOTSTRAP: Final = Path(__file__).parent.parent / "bootstrap"
USER_DATA_BYTES: Final = 8192  # EC2 takes 16 KB; half of it stays free
HOOK_SECONDS: Final = 3600  # until a host that proves nothing is given up
CAPACITY_WAIT: Final = "60m"  # a first `pulumi up` waits for the host, which waits for the database: 25 min Multi-AZ, at times
_DAY_SECONDS: Final = 86400
# What the user data writes on the host: bootstrap/<name> -> (where, mode).
_ON_THE_HOST: Final = {
    "install.sh": ("/usr/local/sbin/orthanc-install", "0755"),
    "puller.py": ("/usr/local/sbin/orthanc-pull", "0755"),
    "orthanc-host.sh": ("/usr/local/sbin/orthanc-host", "0755"),
    "orthanc-converge.service": ("/etc/systemd/system/orthanc-converge.service", "0644"),
    "orthanc-converge.timer": ("/etc/systemd/system/orthanc-converge.timer", "0644"),
}
_COMPOSE_MACHINE: Final = {"arm64": "aarch64", "x86_64": "x86_64"}

_TEMPLATES = Environment(
    loader=FileSystemLoader(_BOOTSTRAP),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - YAML, not a web page; every value is validated by its type
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["tojson"] = lambda value: json.dumps(value, sort_keys=True)


def user_data(settings: Settings, stack: Stack) -> str:
    """What a fresh host is told. Only pins and names enter it, so that a new release changes no launch template."""
    architecture = settings.machine.architecture
    return _TEMPLATES.get_template("cloud-init.yaml.j2").render(
        stack={"stack": stack.name, "region": stack.region, "pointer": stack.path("release"), "proven": stack.path("proven")},
        files=[
            {"path": path, "mode": mode, "text": (_BOOTSTRAP / name).read_text(encoding="utf-8")}
            for name, (path, mode) in _ON_THE_HOST.items()
        ],
        compose_url=settings.compose_url.replace("{machine}", _COMPOSE_MACHINE[architecture]),
        compose_sha256=settings.compose_sha256_arm64 if architecture == "arm64" else settings.compose_sha256_x86_64,
    )


@dataclass(frozen=True, kw_only=True)
class OrthancHostArgs:
    settings: Settings
    stack: Stack
    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    database_cidrs: Sequence[str]
    kms_key_arn: pulumi.Input[str]


class OrthancHost(pulumi.ComponentResource):
    """A group of one: what dies is replaced, in another zone if need be, and the address moves along. It holds no state.

    Nobody logs in by SSH; Session Manager needs no open port. `pulumi up` ends when the host has proven the service (the launch
    hook), so nothing that it needs before may depend on the group.
    """

    address: pulumi.Output[str]
    address_id: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    role: pulumi.Output[str]

    def __init__(self, name: str, args: OrthancHostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:OrthancHost", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        stack = args.stack
        address = ec2.Eip(f"{name}-address", domain="vpc", tags=stack.tags(), opts=pulumi.ResourceOptions(parent=self, protect=stack.keep))
        group = self._security_group(name, args)
        role = iam.Role(f"{name}-role", assume_role_policy=json.dumps(access.assume_role_policy()), tags=stack.tags("host"), opts=child)
        profile = iam.InstanceProfile(f"{name}-profile", role=role.name, tags=stack.tags("host"), opts=child)
        template = self._template(name, args, group.id, profile.arn)
        # The host writes it; it is made here so that it goes with the stack, and can be asked before the first proof.
        proven = ssm.Parameter(
            f"{name}-proven",
            name=stack.path("proven"),
            type="String",
            value="{}",
            description="what the host last proved, or why it could not",
            tags=stack.tags("proven"),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["value"]),
        )
        autoscaling.Group(
            f"{name}-group",
            name=stack.label,  # the host's role and the alarms name it
            min_size=1,
            max_size=1,
            vpc_zone_identifiers=args.subnet_ids,
            launch_template=autoscaling.GroupLaunchTemplateArgs(id=template.id, version=template.latest_version.apply(str)),
            # A hook of the group itself: a separate resource would come after the first instance.
            initial_lifecycle_hooks=[
                autoscaling.GroupInitialLifecycleHookArgs(
                    name=access.LAUNCH_HOOK,
                    lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
                    heartbeat_timeout=HOOK_SECONDS,
                    default_result="ABANDON",
                )
            ],
            wait_for_capacity_timeout=CAPACITY_WAIT,
            # Another template version replaces the host. One at a time: two would fight for the address.
            instance_refresh=autoscaling.GroupInstanceRefreshArgs(
                strategy="Rolling",
                preferences=autoscaling.GroupInstanceRefreshPreferencesArgs(min_healthy_percentage=0, max_healthy_percentage=100),
            ),
            max_instance_lifetime=args.settings.host_days * _DAY_SECONDS,
            health_check_type="EC2",
            enabled_metrics=[autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES, autoscaling.Metric.GROUP_PENDING_INSTANCES],
            # Instances and volumes are tagged by the template.
            tags=[autoscaling.GroupTagArgs(key=k, value=v, propagate_at_launch=False) for k, v in stack.tags("host").items()],
            # A disposable group takes its host along, whose hook could otherwise hold it for an hour.
            force_delete=not stack.keep,
            # Destroyed before them: a host that lives holds the address, and writes what it has proven.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[address, proven]),
        )
        self.address = address.public_ip
        self.address_id = address.allocation_id
        self.security_group_id = group.id
        self.role = role.name
        self.register_outputs({"address": self.address, "address_id": self.address_id, "security_group_id": self.security_group_id})

    def _template(
        self, name: str, args: OrthancHostArgs, group_id: pulumi.Input[str], profile_arn: pulumi.Input[str]
    ) -> ec2.LaunchTemplate:
        stack, settings = args.stack, args.settings
        return ec2.LaunchTemplate(
            f"{name}-template",
            # The newest Amazon Linux 2023 at each launch; the same template, another AMI.
            image_id=f"resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{settings.machine.architecture}",
            instance_type=settings.instance_type,
            update_default_version=True,
            user_data=base64.b64encode(user_data(settings, stack).encode()).decode(),
            iam_instance_profile={"arn": profile_arn},
            vpc_security_group_ids=[group_id],
            # Tokens, and one hop: no container reaches the role's credentials.
            metadata_options={"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1},
            block_device_mappings=[
                {
                    "device_name": "/dev/xvda",
                    "ebs": {
                        "volume_type": "gp3",
                        "volume_size": settings.volume_gb,
                        "encrypted": "true",
                        "kms_key_id": args.kms_key_arn,
                        "delete_on_termination": "true",
                    },
                }
            ],
            tag_specifications=[
                {"resource_type": kind, "tags": stack.tags("host")} for kind in ("instance", "volume", "network-interface")
            ],
            tags=stack.tags("host"),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _security_group(self, name: str, args: OrthancHostArgs) -> ec2.SecurityGroup:
        """In: the two ports, from the configured networks. Out: HTTPS, the database, and the modalities that images are sent to."""
        child = pulumi.ResourceOptions(parent=self)
        stack, settings = args.stack, args.settings
        group = ec2.SecurityGroup(
            f"{name}-access",
            vpc_id=args.vpc_id,
            description="DICOM and HTTPS from the configured networks",
            tags=stack.tags("host"),
            opts=child,
        )

        def rule(kind: type[vpc.SecurityGroupIngressRule | vpc.SecurityGroupEgressRule], what: str, cidr: str, port: int) -> None:
            meant = {OPEN_TAG: CONFIRMED} if wide(IPv4Network(cidr)) and kind is vpc.SecurityGroupIngressRule else {}
            kind(
                f"{name}-{what}",
                security_group_id=group.id,
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                description=what,
                tags={**stack.tags(what), **meant},
                opts=child,
            )

        for network in settings.dicom_cidrs:
            rule(vpc.SecurityGroupIngressRule, f"dicom-from-{_slug(network)}", str(network), settings.dicom_port)
        for network in settings.web_cidrs:
            rule(vpc.SecurityGroupIngressRule, f"web-from-{_slug(network)}", str(network), settings.web_port)
        # AWS's APIs, the image registry, the compose plugin and RDS's authorities have no fixed addresses.
        rule(vpc.SecurityGroupEgressRule, "https-out", str(EVERYWHERE), 443)
        for cidr in args.database_cidrs:
            rule(vpc.SecurityGroupEgressRule, f"database-{_slug(cidr)}", cidr, database.PORT)
        # AWS refuses a rule twice, and two modalities may share a router's address.
        for receiver, port in sorted(
            {(str(m.address), m.port) for m in settings.modalities if m.address is not None and m.port is not None}
        ):
            rule(vpc.SecurityGroupEgressRule, f"to-{receiver}-{port}", f"{receiver}/32", port)
        return group


def _slug(network: object) -> str:
    """10.0.0.0/8 as part of a name."""
    return str(network).replace("/", "-")


def host_facts(settings: Settings, stack: Stack) -> Mapping[str, object]:
    """What the agent on a host must know and can't ask anybody: names of this stack. Part of host.json in each release."""
    return {
        "stack": stack.name,
        "region": stack.region,
        "group": stack.label,
        "hook": access.LAUNCH_HOOK,
        "metrics": access.METRICS,
        "proven": stack.path("proven"),
        "log_group": stack.path("host"),
        "dicom_port": settings.dicom_port,
        "web_port": settings.web_port,
        "aet": settings.aet,
    }
