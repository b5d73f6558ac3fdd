"""Network: the VPC, its subnets by zone letter, and the few ways in and out of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
from pulumi_aws import cloudwatch, ec2, iam

from infra.stack import Stack, document, statement

_LETTERS = "abcdefgh"


def layout(vpc: IPv4Network, zones: Sequence[str]) -> Mapping[str, tuple[IPv4Network, IPv4Network]]:
    """(public, private) subnet of each zone. A zone's own pair follows from its letter, so others may come and go."""
    parts = list(vpc.subnets(prefixlen_diff=4))
    return {zone: (parts[_LETTERS.index(zone)], parts[8 + _LETTERS.index(zone)]) for zone in zones}


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    stack: Stack
    vpc_cidr: IPv4Network
    zones: Sequence[str]
    flow_logs: bool
    log_days: int
    kms_key_arn: pulumi.Input[str]


class Network(pulumi.ComponentResource):
    """Public subnets for the host, private ones for the database.

    No NAT gateway: the database needs no way out, and one costs more than the small host itself.
    """

    vpc_id: pulumi.Output[str]
    public_subnet_ids: pulumi.Output[Sequence[pulumi.Input[str]]]
    private_subnet_ids: pulumi.Output[Sequence[pulumi.Input[str]]]
    private_cidrs: Sequence[str]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:Network", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        subnets = layout(args.vpc_cidr, args.zones)
        tags = args.stack.tags

        vpc = ec2.Vpc(
            f"{name}-vpc", cidr_block=str(args.vpc_cidr), enable_dns_support=True, enable_dns_hostnames=True, tags=tags(), opts=child
        )
        # Whatever is started without naming a group reaches nothing and nobody reaches it.
        ec2.DefaultSecurityGroup(f"{name}-closed", vpc_id=vpc.id, ingress=[], egress=[], tags=tags("closed"), opts=child)

        gateway = ec2.InternetGateway(f"{name}-internet", vpc_id=vpc.id, tags=tags("internet"), opts=child)
        public = ec2.RouteTable(f"{name}-public", vpc_id=vpc.id, tags=tags("public"), opts=child)
        private = ec2.RouteTable(f"{name}-private", vpc_id=vpc.id, tags=tags("private"), opts=child)
        way_out = ec2.Route(
            f"{name}-way-out", route_table_id=public.id, destination_cidr_block="0.0.0.0/0", gateway_id=gateway.id, opts=child
        )

        def subnet(zone: str, role: str, cidr: IPv4Network, table: ec2.RouteTable) -> ec2.Subnet:
            made = ec2.Subnet(
                f"{name}-{role}-{zone}",
                vpc_id=vpc.id,
                cidr_block=str(cidr),
                availability_zone=f"{args.stack.region}{zone}",
                # The host needs a public address before it has the fixed one, to fetch what it runs.
                map_public_ip_on_launch=role == "public",
                tags=tags(f"{role}-{zone}"),
                opts=child,
            )
            ec2.RouteTableAssociation(f"{name}-{role}-{zone}-routes", subnet_id=made.id, route_table_id=table.id, opts=child)
            return made

        publics = [subnet(zone, "public", cidr, public) for zone, (cidr, _) in subnets.items()]
        privates = [subnet(zone, "private", cidr, private) for zone, (_, cidr) in subnets.items()]
        ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{args.stack.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[public.id, private.id],  # without route tables a gateway endpoint does nothing
            tags=tags("s3"),
            opts=child,
        )
        if args.flow_logs:
            self._log_refused(name, args, vpc)

        self.vpc_id = vpc.id
        # Whoever starts something in a public subnet needs the way out to exist, not the subnet alone.
        self.public_subnet_ids = pulumi.Output.all(way_out.id, *(s.id for s in publics)).apply(lambda ids: ids[1:])
        self.private_subnet_ids = pulumi.Output.all(*(s.id for s in privates))
        self.private_cidrs = [str(cidr) for _, cidr in subnets.values()]
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "public_subnet_ids": self.public_subnet_ids,
                "private_subnet_ids": self.private_subnet_ids,
                "private_cidrs": self.private_cidrs,
            }
        )

    def _log_refused(self, name: str, args: NetworkArgs, vpc: ec2.Vpc) -> None:
        child = pulumi.ResourceOptions(parent=self)
        tags = args.stack.tags
        group = cloudwatch.LogGroup(
            f"{name}-flows",
            name=args.stack.path("flows"),  # the key's policy lets in groups of this stack by name
            retention_in_days=args.log_days,
            kms_key_id=args.kms_key_arn,
            tags=tags("flows"),
            opts=child,
        )
        service = {"Effect": "Allow", "Principal": {"Service": "vpc-flow-logs.amazonaws.com"}, "Action": "sts:AssumeRole"}
        role = iam.Role(f"{name}-flows", assume_role_policy=json.dumps(document(service)), tags=tags("flows"), opts=child)
        # docs.aws.amazon.com/vpc, IAM role for publishing flow logs; without CreateLogGroup, because the group exists.
        actions = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"]
        iam.RolePolicy(
            f"{name}-flows",
            role=role.name,
            policy=group.arn.apply(lambda arn: json.dumps(document(statement(actions, [arn, f"{arn}:*"])))),
            opts=child,
        )
        ec2.FlowLog(
            f"{name}-flows",
            vpc_id=vpc.id,
            traffic_type="REJECT",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            tags=tags("flows"),
            opts=child,
        )
