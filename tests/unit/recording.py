"""deploy: run the whole program, or a part of it, against mocks, and keep what it registered."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from pulumi.runtime import mocks, set_all_config

from infra.guardrails import Resource
from laptop import certificates
from laptop.certificates import Profile

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
REGION = "eu-central-1"
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT, "arn": "arn:aws:iam::1:root", "id": ACCOUNT, "userId": "A"},
}
_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
LEAST: Mapping[str, object] = {"dicomCidrs": ["198.51.100.0/24"], "webCidrs": ["203.0.113.0/24"]}


@cache
def certificate(name: str) -> certificates.Pair:
    """Some certificate for `name`; made once, because keys take their time."""
    authority = certificates.make_authority("test authority", "ecdsa")
    return certificates.issue(authority, name, Profile(kind="ecdsa", usages=("server",), names=(name,), days=30))


@cache
def web_certificate(days: int = 90) -> certificates.Pair:
    """What a site might bring along for pacs.example.org."""
    profile = Profile(kind="rsa", usages=("server",), names=("pacs.example.org",), days=days)
    return certificates.issue(certificates.make_authority("web authority", "rsa"), "pacs.example.org", profile)


def plain(value: Any) -> Any:
    """A value without the wrappers of secrets."""
    if isinstance(value, dict):
        return plain(value["value"]) if value.get(_SIGNATURE) == _SECRET else {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_SIGNATURE) == _SECRET


@dataclass(frozen=True)
class Made:
    """One resource as the program asked for it."""

    kind: str
    name: str
    raw: Mapping[str, Any]
    options: pulumi.ResourceOptions
    urn: str

    @property
    def props(self) -> Mapping[str, Any]:
        found = plain(dict(self.raw))
        assert isinstance(found, dict)
        return found

    @property
    def resource(self) -> Resource:
        return Resource(kind=self.kind, name=self.name, props=self.props, protected=bool(self.options.protect))


@dataclass
class Recorder(mocks.Mocks):
    """Answers like AWS would, as far as the program looks, and keeps what it was asked for."""

    asked: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    options: dict[tuple[str, str], pulumi.ResourceOptions] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: set[str] = field(default_factory=set)
    dependencies: dict[str, set[str]] = field(default_factory=dict)  # by name: what the engine makes before it

    def call(self, args: mocks.MockCallArgs) -> Any:  # the SDK types it as a tuple, and takes a dictionary
        return dict(ANSWERS[args.token])

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        assert (args.typ, args.name) not in self.asked, f"{args.typ} {args.name} is made twice"
        self.asked[args.typ, args.name] = args.inputs
        identity = f"{args.name}-id"
        return identity, {"name": args.name, **args.inputs, "arn": f"arn:aws:test:{REGION}:{ACCOUNT}:{args.name}", **self._answer(args)}

    def note(self, args: pulumi.ResourceTransformationArgs) -> None:
        self.options[args.type_, args.name] = args.opts

    @staticmethod
    def _answer(args: mocks.MockResourceArgs) -> Mapping[str, Any]:
        pair = certificate(args.name) if args.typ.startswith("tls:") else None
        secret_arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!{args.name}"
        answers: Mapping[str, Mapping[str, Any]] = {
            "aws:ec2/eip:Eip": {"publicIp": "192.0.2.10", "allocationId": "eipalloc-1"},
            "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 3},
            "aws:kms/key:Key": {"keyId": "key-1"},
            "aws:rds/instance:Instance": {"address": "db.example.internal", "masterUserSecrets": [{"secretArn": secret_arn}]},
            "aws:s3/bucket:Bucket": {"bucket": args.name},
            "aws:s3/bucketObjectv2:BucketObjectv2": {"versionId": "v1"},
            "aws:secretsmanager/secretVersion:SecretVersion": {"versionId": f"{args.name}-version"},
            "random:index/randomPassword:RandomPassword": {"result": f"generated-{args.name}"},
            "tls:index/privateKey:PrivateKey": {"privateKeyPem": pair.key if pair else ""},
            "tls:index/certRequest:CertRequest": {"certRequestPem": f"request of {args.name}"},
            "tls:index/selfSignedCert:SelfSignedCert": {"certPem": pair.certificate if pair else ""},
            "tls:index/locallySignedCert:LocallySignedCert": {"certPem": pair.certificate if pair else ""},
        }
        return answers.get(args.typ, {})

    def before(self, name: str) -> set[str]:
        """Every resource that must exist before this one, however far back."""
        found: set[str] = set()
        ahead = {name}
        while ahead:
            ahead = {d for n in ahead for d in self.dependencies[n]} - found
            found |= ahead
        return found

    def of(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        """{name: properties} of what was made of this kind; 'rds/instance' is enough."""
        return {m.name: m.props for m in self.made if f":{kind}:" in m.kind or m.kind == kind}

    def one(self, kind: str) -> Mapping[str, Any]:
        (only,) = self.of(kind).values()
        return only


class _Monitor(mocks.MockMonitor):
    """Notes what the engine is told about dependencies, which mocks are not."""

    mocks: Recorder

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the engine's name for it
        self.mocks.dependencies.setdefault(request.name, set()).update(urn.rpartition("::")[2] for urn in request.dependencies)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]  # pulumi leaves it untyped


def _secrecy(name: str, value: object) -> pulumi.Output[str]:
    """`name` when `value` is a secret, else nothing."""
    future = pulumi.Output.from_input(value).is_secret()

    async def told() -> str:
        return name if await future else ""

    return pulumi.Output.from_input(told())


def whole_program() -> None:
    runpy.run_path(str(ROOT / "__main__.py"))


def deploy(
    settings: Mapping[str, object],
    program: Callable[[], object] = whole_program,
    *,
    preview: bool = False,
    stack: str = "test",
    region: str = REGION,
) -> Recorder:
    """Run `program` with the stack settings `settings` (camelCase, plain values) and return what it made."""
    recorder = Recorder()
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    keys = {key if ":" in key else f"orthanc:{key}": text for key, text in texts.items()}
    set_all_config({"aws:region": region, **keys}, secret_keys=["orthanc:webCertificateKey"])
    mocks.set_mocks(recorder, project="orthanc", stack=stack, preview=preview, monitor=_Monitor(recorder))

    @pulumi.runtime.test  # type: ignore[untyped-decorator]  # pulumi leaves it untyped
    def run() -> pulumi.Output[None]:
        pulumi.runtime.register_stack_transformation(recorder.note)
        program()
        exported = dict(getattr(pulumi.runtime.settings.get_root_resource(), "outputs", {}))
        secrecy = pulumi.Output.all(*(_secrecy(name, value) for name, value in exported.items()))
        noted = secrecy.apply(lambda names: recorder.secret_outputs.update(filter(None, names)))
        return pulumi.Output.all(pulumi.Output.from_input(exported).apply(recorder.outputs.update), noted).apply(lambda _: None)

    run()
    monitor = pulumi.runtime.settings.get_monitor()
    assert isinstance(monitor, mocks.MockMonitor)
    registered = monitor.get_registered_resources()
    by_name = {tuple(urn.split("::")[2:]): urn for urn in registered}
    for (kind, name), inputs in recorder.asked.items():
        urn = next(u for (types, n), u in by_name.items() if n == name and types.split("$")[-1] == kind)
        recorder.made.append(Made(kind, name, inputs, recorder.options[kind, name], urn))
    assert len(registered) == len(recorder.made), "two resources share a URN"
    return recorder


def request(name: str) -> str:
    """A certificate request as a modality makes it for `name`."""
    key = certificates.make_key("rsa")
    alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
    made = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()
