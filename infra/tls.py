"""TlsMaterial: both authorities and every certificate of a stack (docs/aws.md, Certificates, says how each is renewed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

import pulumi
import pulumi_tls as tls

from config_templates import places
from infra.settings import PROBE_AET, PROJECT, Modality
from infra.stack import Stack

_DAY_HOURS: Final = 24
AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 397  # the longest that every browser takes

Use = Literal["server_auth", "client_auth"]


@dataclass(frozen=True)
class Certificate:
    """A certificate whose key somebody else has."""

    certificate: pulumi.Output[str]


@dataclass(frozen=True)
class Pair(Certificate):
    """A certificate and its key."""

    key: pulumi.Output[str]

    @classmethod
    def given(cls, certificate: str, key: str) -> Self:
        """One that the site brought along."""
        return cls(pulumi.Output.from_input(certificate), pulumi.Output.secret(key))


@dataclass(frozen=True, kw_only=True)
class TlsMaterialArgs:
    stack: Stack
    address: pulumi.Input[str]
    domain_name: str
    modalities: Sequence[Modality]
    modality_days: int
    outside_authority: int
    inside_authority: int
    server_certificate: int
    inside_certificates: int
    outgoing_certificate: int


@dataclass(frozen=True, kw_only=True)
class _Authority:
    """One authority and how it signs. Its number is part of the names below it: a new authority signs everything anew."""

    owner: pulumi.Resource
    prefix: str
    number: int
    key: tls.PrivateKey
    certificate: tls.SelfSignedCert

    def sign(self, name: str, request: pulumi.Input[str], uses: Sequence[Use], days: int) -> pulumi.Output[str]:
        """The certificate for a request. Another lifetime is for new certificates: one in force is renewed by its number alone."""
        return tls.LocallySignedCert(
            f"{self.prefix}-{name}",
            cert_request_pem=request,
            ca_cert_pem=self.certificate.cert_pem,
            ca_private_key_pem=self.key.private_key_pem,
            allowed_uses=["digital_signature", *uses],
            is_ca_certificate=False,
            validity_period_hours=days * _DAY_HOURS,
            opts=pulumi.ResourceOptions(parent=self.owner, ignore_changes=["validityPeriodHours"]),
        ).cert_pem

    def issue(  # noqa: PLR0913 - each is one fact of the certificate
        self,
        name: str,
        uses: Sequence[Use],
        *,
        algorithm: Literal["RSA", "ECDSA"],
        days: int,
        dns: Sequence[str],
        addresses: Sequence[pulumi.Input[str]] = (),
    ) -> Pair:
        child = pulumi.ResourceOptions(parent=self.owner)
        key = _key(f"{self.prefix}-{name}", algorithm, child)
        request = tls.CertRequest(
            f"{self.prefix}-{name}",
            private_key_pem=key.private_key_pem,
            subject={"common_name": dns[0], "organization": PROJECT},
            dns_names=list(dns),
            ip_addresses=list(addresses),
            opts=child,
        )
        return Pair(self.sign(name, request.cert_request_pem, uses, days), key.private_key_pem)


def _key(name: str, algorithm: Literal["RSA", "ECDSA"], opts: pulumi.ResourceOptions, rsa_bits: int = 2048) -> tls.PrivateKey:
    if algorithm == "RSA":
        return tls.PrivateKey(name, algorithm="RSA", rsa_bits=rsa_bits, opts=opts)
    return tls.PrivateKey(name, algorithm="ECDSA", ecdsa_curve="P256", opts=opts)


class TlsMaterial(pulumi.ComponentResource):
    """The outside authority signs the server's and the modalities' certificates, the inside one those of Orthanc's callers.

    Orthanc's own certificate has a third authority to itself: Orthanc uses it in both directions and trusts the inside one, so
    whoever stole an inside certificate of Orthanc's could call Orthanc with it. Outside everything is RSA, which even old scanners
    know; inside P-256, whose handshakes cost a fraction. The authorities' keys and the modalities' exist in the encrypted state
    alone; those that the host needs go to Secrets Manager (HostSecrets).
    pulumi-tls never renews by itself (its issue 39), and a stack must not change because time passes: a number does.
    """

    outside_authority: pulumi.Output[str]
    inside_authority: pulumi.Output[str]
    orthanc_authority: pulumi.Output[str]
    server: Pair
    orthanc: Pair
    gateway: Pair
    probe: Pair
    outgoing: Pair
    host: Pair
    modalities: Mapping[str, Mapping[int, Certificate]]
    server_name: str

    def __init__(self, name: str, args: TlsMaterialArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:TlsMaterial", name, {}, opts)
        outside = self._authority(f"{name}-outside", args.outside_authority, "RSA", args.stack)
        inside = self._authority(f"{name}-inside", args.inside_authority, "ECDSA", args.stack)
        only_orthanc = self._authority(f"{name}-orthanc", args.inside_authority, "ECDSA", args.stack)

        self.server_name = args.domain_name or f"{args.stack.label}.{PROJECT}"
        self.server = outside.issue(
            f"server-{args.server_certificate}",
            ["server_auth"],
            algorithm="RSA",
            days=SERVER_DAYS,
            dns=[self.server_name],
            addresses=[args.address],
        )

        def between_containers(signer: _Authority, role: str, host: str, uses: Sequence[Use]) -> Pair:
            return signer.issue(f"{role}-{args.inside_certificates}", uses, algorithm="ECDSA", days=SERVER_DAYS, dns=[host])

        self.orthanc = between_containers(only_orthanc, "orthanc", places.ORTHANC_HOST, ["server_auth", "client_auth"])
        self.gateway = between_containers(inside, "gateway", places.GATEWAY_HOST, ["server_auth", "client_auth"])
        self.probe = between_containers(inside, "probe", "probe.inside", ["client_auth"])
        self.outgoing = outside.issue(
            f"outgoing-{args.outgoing_certificate}", ["client_auth"], algorithm="RSA", days=SERVER_DAYS, dns=[f"outgoing.{PROJECT}"]
        )
        # With it the host proves its own service, as a modality would; so it is named, and let in, like one.
        self.host = outside.issue(
            f"host-{args.inside_certificates}",
            ["client_auth"],
            algorithm="RSA",
            days=SERVER_DAYS,
            dns=[places.modality_host(PROBE_AET)],
        )
        self.modalities = {
            m.aet: {number: self._modality(outside, m, number, args.modality_days) for number in m.certificates} for m in args.modalities
        }
        self.outside_authority = outside.certificate.cert_pem
        self.inside_authority = inside.certificate.cert_pem
        self.orthanc_authority = only_orthanc.certificate.cert_pem
        self.register_outputs({"outside_authority": self.outside_authority, "inside_authority": self.inside_authority})

    def _authority(self, prefix: str, number: int, algorithm: Literal["RSA", "ECDSA"], stack: Stack) -> _Authority:
        kept = pulumi.ResourceOptions(parent=self, protect=stack.keep)
        prefix = f"{prefix}-{number}"
        key = _key(f"{prefix}-authority", algorithm, kept, rsa_bits=3072)  # 2048 is good until 2030 (NIST SP 800-57), this lives longer
        certificate = tls.SelfSignedCert(
            f"{prefix}-authority",
            private_key_pem=key.private_key_pem,
            subject={"common_name": f"{stack.label} {prefix.split('-')[-2]} authority {number}", "organization": PROJECT},
            is_ca_certificate=True,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=AUTHORITY_DAYS * _DAY_HOURS,
            opts=kept,
        )
        return _Authority(owner=self, prefix=prefix, number=number, key=key, certificate=certificate)

    @staticmethod
    def _modality(outside: _Authority, modality: Modality, number: int, days: int) -> Certificate:
        # It is a client when it sends or asks, and a server when images are sent to it.
        name = f"modality-{modality.aet}-{number}"
        uses: Sequence[Use] = ("client_auth", "server_auth")
        request = modality.requests.get(number)
        if request is not None:
            return Certificate(outside.sign(name, request, uses, days))
        return outside.issue(name, uses, algorithm="RSA", days=days, dns=[places.modality_host(modality.aet)])

    def enrolled(self) -> Mapping[str, Mapping[str, pulumi.Output[str]]]:
        """The certificates that nginx lets in, by fingerprint: {AET: {number: PEM}}; the modalities' and the host's own."""
        own = {PROBE_AET: {"1": self.host.certificate}}
        return own | {aet: {str(number): pair.certificate for number, pair in pairs.items()} for aet, pairs in self.modalities.items()}

    def files(self, web: Pair) -> Mapping[str, pulumi.Output[str]]:
        """The public files that containers get (config_templates.places.SECRETS, the .crt of each)."""
        return {
            "orthanc/inside-authority.crt": self.inside_authority,
            "orthanc/orthanc.crt": self.orthanc.certificate,
            "probe/orthanc-authority.crt": self.orthanc_authority,
            "probe/probe.crt": self.probe.certificate,
            "nginx/outside-authority.crt": self.outside_authority,
            "nginx/orthanc-authority.crt": self.orthanc_authority,
            "nginx/server.crt": self.server.certificate,
            "nginx/web.crt": web.certificate,
            "nginx/gateway.crt": self.gateway.certificate,
            "nginx/outgoing.crt": self.outgoing.certificate,
            "agent/probe.crt": self.host.certificate,
            "agent/outside-authority.crt": self.outside_authority,
        }

    def bundle(self, aet: str) -> Mapping[str, Mapping[str, pulumi.Output[str]]]:
        """What a modality's vendor needs, by the certificate's number. A modality that made its own key gets none from us."""
        return {
            str(number): {
                "certificate": pair.certificate,
                "authority": self.outside_authority,
                **({"key": pair.key} if isinstance(pair, Pair) else {}),
            }
            for number, pair in self.modalities[aet].items()
        }
