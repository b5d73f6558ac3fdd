"""What AWS is to a host, around the emulated AWS of a laboratory: hosts boot here, and meet all that they would meet there."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from infra.settings import PROJECT
from laptop import images
from laptop.certificates import SERVER_DAYS, Pair, Profile, issue, make_authority
from laptop.docker import attempt, check_engine, docker
from laptop.tell import Trouble
from rehearsal import files, hosts, laboratory, machine, metadata, rds, registry
from rehearsal.calls import Call, Calls, How
from rehearsal.files import Files
from rehearsal.hosts import Host
from rehearsal.laboratory import REGION, Laboratory, RehearsalError
from rehearsal.metadata import Instance, Metadata
from rehearsal.names import Resolver
from rehearsal.rds import Database
from rehearsal.servers import Address, Forwarder, running

_LABEL: Final = "rehearsal"  # its value is the process that made a thing
_FIRST: Final = 16  # the first host's place in the network
LOGS_HOST: Final = f"logs.{REGION}.amazonaws.com"  # Docker's awslogs driver knows it by heart
_BUNDLE: Final = "/rds/global-bundle.pem"
_PLUGIN: Final = "/compose/docker-compose-linux-{machine}"


def missing() -> list[str]:
    """What a laboratory with hosts needs and this machine does not have."""
    lacking = laboratory.missing()
    lacking += [program for program in (registry.PROGRAM, "ip") if shutil.which(program) is None]
    if os.geteuid() != 0:
        lacking.append("root (for an address of the metadata service)")
    try:
        check_engine()
    except Trouble as trouble:
        lacking.append(str(trouble))
    return lacking


class Cloud:
    """Between a laboratory and its hosts. Everything here is gone at the end of the `with`."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.home = lab.home / "cloud"
        self.name = f"rehearsal-{secrets.token_hex(4)}"
        self.hosts: list[Host] = []
        self.names: dict[str, str] = {}
        self._instances: dict[str, Instance] = {}  # by their addresses
        self._databases: dict[str, Database] = {}
        self._addresses: dict[str, str] = {}
        self._taken = _FIRST
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _build(self, stack: ExitStack) -> None:
        _sweep()
        self.home.mkdir()
        self.authority = make_authority("rehearsal authority", "ecdsa")
        self.rds_authority = make_authority("rehearsal rds authority", "rsa")
        self._prefix = _make_network(self.name)
        stack.callback(docker, "network", "rm", self.name)
        stack.callback(self._end_hosts)
        gateway = self._place(1)
        bridge = f"br-{docker('network', 'inspect', '--format', '{{.Id}}', self.name)[:12]}"
        _ip("addr", "add", f"{metadata.ADDRESS}/32", "dev", bridge)  # goes with the bridge

        names = [registry.HOST, files.HOST, LOGS_HOST]
        self.names.update(dict.fromkeys(names, gateway))
        pair = issue(self.authority, names[0], Profile(kind="ecdsa", usages=["server"], names=names, days=SERVER_DAYS))
        self.calls = Calls((gateway, 0), ("127.0.0.1", self.lab.port), self._who)
        self._files = Files((gateway, 443), _tls(pair, self.home), self.calls)
        for server in (Resolver(gateway, self.names), Metadata(bridge, self._instances), self.calls, self._files):
            stack.enter_context(running(server))
        self.registry = stack.enter_context(registry.serving(gateway, pair, self.home / "registry"))
        (self.home / "resolv.conf").write_text(f"nameserver {gateway}\n", encoding="utf-8")
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{gateway}:{self.calls.server_address[1]}",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }
        image = machine.knowing(self.authority.certificate, self.environment, f"{self.name}-host", self.home / "host")
        self._image = stack.enter_context(image)
        self.images = images.obtain()

    # -- what a stack is told, so that its hosts find everything here ----------------------------------------------------

    @property
    def files(self) -> dict[str, bytes]:
        """What HTTPS answers at https://files.rehearsal.test: path to bytes. Take a file away, or put another in its place."""
        return self._files.files

    def settings(self) -> Mapping[str, str]:
        """Settings for `Laboratory.say`: images and files that hosts can have here."""
        plugin = _compose_plugin().read_bytes()
        for kind in ("x86_64", "aarch64"):
            self.files[_PLUGIN.replace("{machine}", kind)] = plugin
        self.files[_BUNDLE] = self.rds_authority.certificate.encode()
        checksum = sha256(plugin).hexdigest()
        return {
            "orthancImage": self.registry.push(self.images.orthanc, "orthanc"),
            "nginxImage": self.registry.push(self.images.nginx, "nginx"),
            "composeUrl": f"https://{files.HOST}{_PLUGIN}",
            "composeSha256X8664": checksum,
            "composeSha256Arm64": checksum,
            "databaseAuthorityUrl": f"https://{files.HOST}{_BUNDLE}",
        }

    # -- what a stack has -------------------------------------------------------------------------------------------------

    def database(self, stack: str) -> Database:
        """The PostgreSQL behind the stack's RDS instance, started when first asked for."""
        if stack not in self._databases:
            (emulated,) = self.lab.aws("rds").describe_db_instances(DBInstanceIdentifier=_label(stack))["DBInstances"]
            place = self._next()
            words = [*self._options(place), "--name", f"{self.name}-{stack}-database", self.images.postgres]
            made = rds.serving(emulated, self.lab.aws("secretsmanager"), self.rds_authority, self.home / f"{stack}-database", words)
            self._databases[stack] = self._stack.enter_context(made)
            self.names[emulated["Endpoint"]["Address"]] = place
        return self._databases[stack]

    def address(self, stack: str, *ports: int) -> str:
        """The stack's elastic address. Connections to it, at `ports`, reach the host that has it at that moment."""
        if stack not in self._addresses:
            found = self._elastic(stack)
            address: str = found["PublicIp"]
            if not address.startswith("127."):
                _ip("addr", "add", f"{address}/32", "dev", "lo")
                self._stack.callback(_ip, "addr", "del", f"{address}/32", "dev", "lo")
            self._addresses[stack] = address
            for port in ports or (11112, 443):
                self._stack.enter_context(running(Forwarder((address, port), self._towards(stack, port))))
        return self._addresses[stack]

    def holder(self, stack: str) -> str | None:
        """The instance that the elastic address is associated with."""
        return self._elastic(stack).get("InstanceId") or None

    def launch(self, stack: str) -> Host:
        """Boot the instance that the stack's group has, with the user data of the group's launch template."""
        group = self._group(stack)
        (member,) = group["Instances"]
        if any(host.id == member["InstanceId"] for host in self.hosts):
            raise RehearsalError(f"{member['InstanceId']} has been launched already: replace it")
        template = member["LaunchTemplate"]
        (version,) = self.lab.aws("ec2").describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=[template["Version"]]
        )["LaunchTemplateVersions"]
        (reservation,) = self.lab.aws("ec2").describe_instances(InstanceIds=[member["InstanceId"]])["Reservations"]
        (described,) = reservation["Instances"]
        instance = Instance(
            id=member["InstanceId"],
            address=self._next(),
            image=described["ImageId"],
            kind=described["InstanceType"],
            zone=member["AvailabilityZone"],
            account=group["AutoScalingGroupARN"].split(":")[4],
            user_data=base64.b64decode(version["LaunchTemplateData"].get("UserData", "")),
            tags={tag["Key"]: tag["Value"] for tag in described.get("Tags", []) if "/" not in tag["Key"]},
        )
        self._instances[instance.address] = instance
        environment = [word for key, value in self.environment.items() for word in ("--env", f"{key}={value}")]
        host = hosts.boot(instance, image=self._image, options=[*self._options(instance.address), *environment], end=self._ended)
        self.hosts.append(host)
        return host

    def terminate(self, stack: str) -> str:
        """Let the group give up its instance and launch another, whose id it returns.

        A host that lives is told so by its metadata and lives on, with the address, until it is killed.
        """
        (member,) = self._group(stack)["Instances"]
        old = member["InstanceId"]
        self.lab.aws("autoscaling").terminate_instance_in_auto_scaling_group(InstanceId=old, ShouldDecrementDesiredCapacity=False)
        living = [host for host in self.hosts if host.id == old and host.alive]
        for host in living:
            host.lifecycle("Terminated")
        if not living:
            self._release_address(old)
        (member,) = self._group(stack)["Instances"]
        new: str = member["InstanceId"]
        return new

    def replace(self, stack: str) -> Host:
        """`terminate`, and boot the new instance."""
        self.terminate(stack)
        return self.launch(stack)

    # -- how AWS behaves --------------------------------------------------------------------------------------------------

    def away(self, *what: str, how: How = "reset", host: str | None = None) -> AbstractContextManager[None]:
        """Services ('s3') or single actions ('ssm:GetParameter') fail: 'reset', 'hang', 'unavailable' (503) or 'denied'."""
        return self.calls.failing(how, *what, host=host)

    def truncated(self, *what: str, host: str | None = None) -> AbstractContextManager[None]:
        """What is read arrives cut off in the middle."""
        return self.calls.failing("truncated", *what, host=host)

    def corrupted(self, *what: str, host: str | None = None) -> AbstractContextManager[None]:
        """What is read arrives with one wrong bit."""
        return self.calls.failing("corrupted", *what, host=host)

    def asked(self, host: Host | None = None) -> list[Call]:
        """The calls of one host or of all, in the order of their answers."""
        return [call for call in list(self.calls.made) if call.host and (host is None or call.host == host.id)]

    # -- inside -----------------------------------------------------------------------------------------------------------

    def _group(self, stack: str) -> Any:
        (group,) = self.lab.aws("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[_label(stack)])["AutoScalingGroups"]
        return group

    def _elastic(self, stack: str) -> Any:
        (found,) = self.lab.aws("ec2").describe_addresses(Filters=[{"Name": "tag:orthanc:stack", "Values": [stack]}])["Addresses"]
        return found

    def _towards(self, stack: str, port: int) -> Any:
        def target() -> Address | None:
            holder = self.holder(stack)
            return next(((host.address, port) for host in self.hosts if host.id == holder and host.alive), None)

        return target

    def _release_address(self, instance: str) -> None:
        """What EC2 does when an instance has ended, and the emulator does not."""
        ec2 = self.lab.aws("ec2")
        for address in ec2.describe_addresses(Filters=[{"Name": "instance-id", "Values": [instance]}])["Addresses"]:
            ec2.disassociate_address(AssociationId=address["AssociationId"])

    def _ended(self, host: Host) -> None:
        self._instances.pop(host.address, None)
        if host.instance.lifecycle == "Terminated":
            self._release_address(host.id)

    def _end_hosts(self) -> None:
        for host in self.hosts:
            if host.alive:
                docker("rm", "--force", "--volumes", host.container)

    def _who(self, address: str) -> str:
        found = self._instances.get(address)
        return found.id if found else ""

    def _place(self, number: int) -> str:
        return f"{self._prefix}.{number}"

    def _next(self) -> str:
        self._taken += 1
        return self._place(self._taken)

    def _options(self, address: str) -> list[str]:
        return [
            *("--network", self.name, "--ip", address, "--label", f"{_LABEL}={os.getpid()}"),
            *("--volume", f"{self.home / 'resolv.conf'}:/etc/resolv.conf:ro"),
        ]


def _label(stack: str) -> str:
    return f"{PROJECT}-{stack}"


def _tls(pair: Pair, home: Path) -> ssl.SSLContext:
    path = home / "server.pem"
    path.write_text(pair.certificate + pair.key, encoding="utf-8")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _make_network(name: str) -> str:
    """A bridge with the first /24 of 10.222.0.0/16 that nobody has. Returns the first three numbers of its addresses."""
    for third in range(256):
        prefix = f"10.222.{third}"
        made = attempt(
            "network", "create", "--label", f"{_LABEL}={os.getpid()}", "--subnet", f"{prefix}.0/24", "--gateway", f"{prefix}.1", name
        )
        if made.returncode == 0:
            return prefix
        if "overlap" not in made.stderr:
            break
    raise RehearsalError(f"no network could be made: {made.stderr}")


def _sweep() -> None:
    """Remove what a rehearsal has left that was killed before it could."""
    for kind, remove in (("container", ("rm", "--force", "--volumes")), ("network", ("rm",))):
        listed = docker(kind, "ls", *(["--all"] if kind == "container" else []), "--quiet", "--filter", f"label={_LABEL}").split()
        for thing in listed:
            where = "{{index .Config.Labels" if kind == "container" else "{{index .Labels"
            maker = attempt(kind, "inspect", "--format", f'{where} "{_LABEL}"}}}}', thing).stdout.strip()
            if maker.isdigit() and not Path(f"/proc/{maker}").exists():
                attempt(kind, *remove, thing)


def _compose_plugin() -> Path:
    """Docker's compose plugin on this machine."""
    found = docker("info", "--format", '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}').strip()
    return Path(found)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
