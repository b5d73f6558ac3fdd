"""Authorities and certificates for one machine, with the profile that the AWS stack's have.

Leaves: CA:FALSE, digitalSignature, one or both of the two EKUs, SAN, SHA-256, at most 397 days for servers (CA/Browser Forum
Baseline Requirements 6.3.2); what Chrome and Apple accept. Server and modality keys are RSA 2048, because older scanners know
nothing else; inside keys are P-256, which nginx and Orthanc handshake with in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
MODALITY_DAYS = 3 * 365
CLOCK_SKEW = timedelta(minutes=10)  # what peers' clocks may be behind when a new certificate is used at once

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KeyKind: TypeAlias = Literal["ecdsa", "rsa"]
Usage: TypeAlias = Literal["server", "client"]
_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a leaf is for: its kind of key, sides of a connection, DNS names and addresses, and life in days."""

    kind: KeyKind
    usages: Sequence[Usage]
    names: Sequence[str]
    days: int


def make_key(kind: KeyKind) -> Key:
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)


def _pem(key: Key) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(subject: str, issuer: x509.Name, key: Key, now: datetime | None, days: int) -> x509.CertificateBuilder:
    start = (now or datetime.now(UTC)) - CLOCK_SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days) - timedelta(seconds=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def make_authority(common_name: str, kind: KeyKind, *, now: datetime | None = None) -> Pair:
    """A self-signed authority that may sign leaves and nothing below them."""
    key = make_key(kind)
    certificate = (
        _builder(common_name, _name(common_name), key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(leaf=False), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(), key=_pem(key))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def issue(authority: Pair, common_name: str, profile: Profile, *, now: datetime | None = None) -> Pair:
    """A leaf of `authority`. `now` is when its life begins."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    issuer_key = serialization.load_pem_private_key(authority.key.encode(), password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("an authority's key is ECDSA or RSA")
    key = make_key(profile.kind)
    certificate = (
        _builder(common_name, issuer.subject, key, now, profile.days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(leaf=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[usage] for usage in profile.usages]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in profile.names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Pair(certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(), key=_pem(key))


def expiry(certificate: str) -> datetime:
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def belong_together(pair: Pair) -> bool:
    """Whether the certificate is the key's. Raises ValueError when one of them can't be read."""
    key = serialization.load_pem_private_key(pair.key.encode(), password=None, unsafe_skip_rsa_key_validation=True)
    return key.public_key() == x509.load_pem_x509_certificate(pair.certificate.encode()).public_key()


def signed_by(certificate: str, authority: str) -> bool:
    """Whether `authority` has signed `certificate`."""
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    try:
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    except (ValueError, InvalidSignature):
        return False
    return True
