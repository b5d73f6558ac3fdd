"""HostSecrets: what the host needs and nobody else may read, in Secrets Manager: keys, and the users' passwords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pulumi
import pulumi_random as random
from pulumi_aws import secretsmanager

from config_templates.model import PROBE_USER, User
from infra.settings import HOST_USER
from infra.stack import Stack
from infra.tls import Pair, TlsMaterial


@dataclass(frozen=True, kw_only=True)
class HostSecretsArgs:
    stack: Stack
    kms_key_arn: pulumi.Input[str]
    tls: TlsMaterial
    web: Pair
    users: Sequence[User]


class HostSecrets(pulumi.ComponentResource):
    """Two secrets, because each costs 0.40 USD a month: `keys` and `users`. Their fields are named by the host's files.

    `files` says for each of those files which secret and version holds it: the release carries that, never a value.
    """

    files: pulumi.Output[Mapping[str, Mapping[str, str]]]
    arns: Sequence[pulumi.Output[str]]
    passwords: pulumi.Output[Mapping[str, str]]

    def __init__(self, name: str, args: HostSecretsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:HostSecrets", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        made = {
            # Letters and digits only: no file, URI or shell needs to quote them, and 32 of them are 190 bits.
            user: random.RandomPassword(f"{name}-password-{user}", length=32, special=False, opts=child).result
            for user in (*(u.name for u in args.users), PROBE_USER, HOST_USER)
        }
        pairs = {"orthanc/orthanc": args.tls.orthanc, "probe/probe": args.tls.probe, "nginx/gateway": args.tls.gateway}
        pairs |= {"nginx/server": args.tls.server, "nginx/outgoing": args.tls.outgoing, "nginx/web": args.web, "agent/probe": args.tls.host}
        keys = {f"{file}.key": pair.key for file, pair in pairs.items()}
        # Orthanc's HTTPS server wants certificate and key in one file.
        keys["orthanc/orthanc.pem"] = pulumi.Output.concat(args.tls.orthanc.certificate, args.tls.orthanc.key)
        users = {
            "orthanc/users.json": pulumi.Output.json_dumps({"RegisteredUsers": made}),
            "probe/password": made[PROBE_USER],
        }
        places = []
        arns = []
        for role, fields in (("keys", keys), ("users", users)):
            secret = secretsmanager.Secret(
                f"{name}-{role}",
                description=f"orthanc {args.stack.name}: the host's {role}",
                kms_key_id=args.kms_key_arn,
                # A kept secret can be brought back for 30 days; of a disposable stack nothing lingers.
                recovery_window_in_days=30 if args.stack.keep else 0,
                tags=args.stack.tags(role),
                opts=pulumi.ResourceOptions(parent=self, protect=args.stack.keep),
            )
            version = secretsmanager.SecretVersion(
                f"{name}-{role}",
                secret_id=secret.id,
                secret_string=pulumi.Output.json_dumps(pulumi.Output.secret(fields)),
                opts=child,
            )
            places.append(pulumi.Output.all(secret.arn, version.version_id).apply(partial(_places, tuple(fields))))
            arns.append(secret.arn)
        self.files = pulumi.Output.all(*places).apply(lambda parts: {file: place for part in parts for file, place in part.items()})
        self.arns = arns
        self.passwords = pulumi.Output.all(**{u.name: made[u.name] for u in args.users}).apply(_as_secret)
        self.register_outputs({"files": self.files})


def _as_secret(passwords: Mapping[str, str]) -> pulumi.Output[Mapping[str, str]]:
    return pulumi.Output.secret(passwords)


def _places(files: Sequence[str], version: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    return {file: {"secret": version[0], "version": version[1], "field": file} for file in files}
