"""ConfigRelease: the rendered files as one archive in S3, and the pointer that hosts follow."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import pulumi
from pulumi_aws import s3, ssm

from config_templates import Account, CloudWatchLogs, Container, Database, Service, places, render
from config_templates import Modality as EnrolledModality
from config_templates.model import User, fingerprint
from infra import database
from infra.certificates import end_of_life
from infra.settings import HOST_USER, PROBE_AET, Settings
from infra.stack import Stack

# The users that the pinned images are made for: orthanc in orthancteam/orthanc, nginx in the official nginx.
ORTHANC_ACCOUNT: Final = Account(uid=999, gid=999)
NGINX_ACCOUNT: Final = Account(uid=101, gid=101)
NGINX_MB: Final = 320  # nginx.conf says what for
SYSTEM_MB: Final = 640  # what Amazon Linux, Docker, the SSM agent and the agent need beside the containers
KEEP_DAYS: Final = 90
KEY: Final = "release.tar.gz"
RUN_DIR: Final = "/run/orthanc"
SCRATCH_DIR: Final = "/var/lib/orthanc/scratch"
_AGENT: Final = Path(__file__).parent.parent / "bootstrap/orthanc_host"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What exists only once AWS has made it: the database's name, and certificates by their fingerprints."""

    database_host: str
    modality_certificates: Mapping[str, Mapping[int, str]]


def service(settings: Settings, stack: Stack, facts: Facts) -> Service:
    """The service that this stack's hosts run."""
    return Service(
        project=stack.label,
        aet=settings.aet,
        orthanc=Container(
            image=settings.orthanc_image, account=ORTHANC_ACCOUNT, memory_mb=settings.machine.memory_mb - NGINX_MB - SYSTEM_MB
        ),
        nginx=Container(image=settings.nginx_image, account=NGINX_ACCOUNT, memory_mb=NGINX_MB),
        run_dir=RUN_DIR,
        scratch_dir=SCRATCH_DIR,
        dicom_port=settings.dicom_port,
        web_port=settings.web_port,
        database=Database(host=facts.database_host, port=database.PORT, name=database.NAME, user=database.USER),
        users=(*settings.users, User(name=HOST_USER, role="reader")),
        modalities=(
            # The host itself, which proves the service as a modality would.
            EnrolledModality(aet=PROBE_AET, may=(), certificates=(facts.modality_certificates[PROBE_AET][1],)),
            *_modalities(settings, facts),
        ),
        logs=CloudWatchLogs(region=stack.region, group=stack.path("containers")),
    )


def _modalities(settings: Settings, facts: Facts) -> Iterator[EnrolledModality]:
    for m in settings.modalities:
        yield EnrolledModality(
            aet=m.aet,
            may=m.may,
            certificates=tuple(facts.modality_certificates[m.aet][number] for number in m.certificates),
            address=None if m.address is None else str(m.address),
            port=m.port,
        )


def _placeholder(name: str) -> str:
    """Stands for the fingerprint of a certificate that is not made yet; each name has its own, and nobody takes it for a real one."""
    return f"{crc32(name.encode()):040x}"


def facts_from(settings: Settings, known: Mapping[str, Any]) -> Facts:
    """The facts in `known`: PEM certificates and the database's name, each either text or not known yet."""

    def mark(pem: object, name: str) -> str:
        return fingerprint(pem) if isinstance(pem, str) else _placeholder(name)

    host, modalities = known.get("database"), known.get("modalities")

    def modality(aet: str, number: int) -> object:
        numbers = modalities.get(aet) if isinstance(modalities, dict) else None
        return numbers.get(str(number)) if isinstance(numbers, dict) else None

    return Facts(
        database_host=host if isinstance(host, str) else "database.not-known-yet.invalid",
        modality_certificates={
            aet: {number: mark(modality(aet, number), f"{aet}/{number}") for number in numbers}
            for aet, numbers in {PROBE_AET: (1,), **{m.aet: m.certificates for m in settings.modalities}}.items()
        },
    )


def rendered(settings: Settings, stack: Stack, known: Mapping[str, Any]) -> Mapping[str, str]:
    """The files that hosts get; with placeholders where `known` lacks something, which is what a preview shows."""
    return render(service(settings, stack, facts_from(settings, known)))


def agent() -> Mapping[str, str]:
    """The program that a host runs with this release (bootstrap/orthanc_host)."""
    return {f"{_AGENT.name}/{path.name}": path.read_text(encoding="utf-8") for path in sorted(_AGENT.glob("*.py"))}


def containers() -> Mapping[str, object]:
    """Where a host puts the files, and who owns them: the part of host.json that goes with the rendered files."""
    accounts = {"orthanc": ORTHANC_ACCOUNT, "nginx": NGINX_ACCOUNT}
    owners = {directory: accounts[container] for directory, (container, _) in places.MOUNTS.items() if container in accounts}
    return {
        "run_dir": RUN_DIR,
        "scratch_dir": SCRATCH_DIR,
        "directories": {**{directory: [owner.uid, owner.gid] for directory, owner in owners.items()}, places.AGENT: [0, 0]},
    }


def expires(certificates: Mapping[str, str], modalities: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """When each certificate ends, so that the host can warn about it: {name: ISO 8601 time}."""
    own = {name.removesuffix(".crt"): end_of_life(pem) for name, pem in certificates.items()}
    theirs = {f"modality {aet}/{number}": end_of_life(pem) for aet, numbers in modalities.items() for number, pem in numbers.items()}
    return {**own, **theirs}


def host_json(told: Mapping[str, object], certificates: Mapping[str, str], modalities: Mapping[str, Mapping[str, str]]) -> str:
    """What the agent on a host needs to know: `told` by the components, and what follows from the release itself."""
    return json.dumps({**told, **containers(), "expires": expires(certificates, modalities)}, indent=2, sort_keys=True) + "\n"


def pack(files: Mapping[str, str]) -> bytes:
    """A tar.gz of `files` whose bytes depend on them alone: no clock, owner or order."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as squeezed, tarfile.open(fileobj=squeezed, mode="w") as tar:
        for name, text in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


@dataclass(frozen=True, kw_only=True)
class ConfigReleaseArgs:
    settings: Settings
    stack: Stack
    kms_key_arn: pulumi.Input[str]
    # What rendering waits for: 'database' (host name), 'modalities' ({AET: {number: PEM}}).
    known: Mapping[str, object]
    # Public files that the host adds to the rendered ones: certificates.
    certificates: Mapping[str, pulumi.Input[str]]
    # host.json: what the agent on the host needs to know, names and versions of secrets included.
    host: Mapping[str, object]


class ConfigRelease(pulumi.ComponentResource):
    """One archive, held in a private, versioned bucket and known by its sha256; an SSM parameter points to it.

    Each release is another *version* of one object, and the pointer names version and sha256. So an archive stays readable after
    it is superseded (a host can go back to it) for 90 days from that moment, which S3's own rule counts; Pulumi deleting an old
    object would delete it with all its versions at once. It holds no secret. Its files are inputs of this component, so that
    `pulumi preview --diff` shows the changed line.
    """

    bucket_arn: pulumi.Output[str]
    sha256: pulumi.Output[str]
    files: pulumi.Output[Mapping[str, str]]

    def __init__(self, name: str, args: ConfigReleaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        known = pulumi.Output.from_input(dict(args.known))
        certificates = pulumi.Output.from_input(dict(args.certificates))
        files = known.apply(lambda k: rendered(args.settings, args.stack, k if isinstance(k, dict) else {}), run_with_unknowns=True)
        host = pulumi.Output.all(dict(args.host), certificates, known).apply(
            lambda told: host_json(told[0], told[1], told[2]["modalities"])
        )
        # What a reviewer reads: the files in lines, certificates and host.json as they change.
        super().__init__("orthanc:infra:ConfigRelease", name, {"files": files, "certificates": certificates, "host": host}, opts)
        stack = args.stack
        child = pulumi.ResourceOptions(parent=self)
        archive = pulumi.Output.all(known, certificates, host).apply(
            lambda parts: pack({**rendered(args.settings, stack, parts[0]), **parts[1], **agent(), "host.json": parts[2]})
        )
        # No secret; but a diff should show the changed line of a file (above), and not the archive's 20 KB in base64.
        content: pulumi.Output[str] = archive.apply(lambda data: pulumi.Output.secret(base64.b64encode(data).decode()))
        digest = archive.apply(lambda data: sha256(data).hexdigest())
        bucket, settled = self._bucket(name, args)
        upload = s3.BucketObjectv2(
            f"{name}-archive",
            bucket=bucket.id,
            key=KEY,
            content_base64=content,
            content_type="application/gzip",
            metadata={"sha256": digest},
            tags=stack.tags("release"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=settled),
        )
        ssm.Parameter(
            f"{name}-pointer",
            name=stack.path("release"),
            type="String",
            value=pulumi.Output.json_dumps({"bucket": bucket.bucket, "key": KEY, "version": upload.version_id, "sha256": digest}),
            description="the release that hosts shall run",
            tags=stack.tags("release"),
            opts=child,
        )
        self.bucket_arn = bucket.arn
        self.sha256 = digest
        self.files = files
        self.register_outputs({"bucket_arn": self.bucket_arn, "sha256": self.sha256})

    def _bucket(self, name: str, args: ConfigReleaseArgs) -> tuple[s3.Bucket, list[pulumi.Resource]]:
        """A bucket that nobody outside the account reaches and that keeps what is superseded; and what must precede the first upload.

        It needs no policy against plain HTTP: S3 hands out what a KMS key encrypts over TLS alone.
        """
        stack = args.stack
        child = pulumi.ResourceOptions(parent=self)
        bucket = s3.Bucket(f"{name}-bucket", force_destroy=not stack.keep, tags=stack.tags("releases"), opts=child)
        s3.BucketPublicAccessBlock(
            f"{name}-closed",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        )
        versioning = s3.BucketVersioning(f"{name}-versions", bucket=bucket.id, versioning_configuration={"status": "Enabled"}, opts=child)
        encryption = s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket.id,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {"sse_algorithm": "aws:kms", "kms_master_key_id": args.kms_key_arn},
                    "bucket_key_enabled": True,
                }
            ],
            opts=child,
        )
        s3.BucketLifecycleConfiguration(
            f"{name}-lifetimes",
            bucket=bucket.id,
            rules=[
                {
                    "id": "superseded",
                    "status": "Enabled",
                    "filter": {"prefix": KEY},
                    "noncurrent_version_expiration": {"noncurrent_days": KEEP_DAYS},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
                }
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[versioning]),
        )
        return bucket, [versioning, encryption]
