"""What is said about certificates and requests that somebody brings along, and about those that are fine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from infra.certificates import problem_with_request, problem_with_web_certificate

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
_WEAK = "has a key that is too weak or too rare: take RSA with 2048 bits or more, or ECDSA on P-256 or P-384"


@cache
def _key(kind: str) -> Key:
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("RSA ")))
    curves = {"P-224": ec.SECP224R1(), "P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
    return ec.generate_private_key(curves[kind]) if kind in curves else ed25519.Ed25519PrivateKey.generate()


def _hash(kind: str) -> hashes.SHA256 | None:
    return None if kind == "Ed25519" else hashes.SHA256()


def _request(*names: str, kind: str = "P-256") -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(_NAME)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return builder.sign(_key(kind), _hash(kind)).public_bytes(Encoding.PEM).decode()


def _web(*names: str, kind: str = "P-256", life: timedelta = timedelta(days=90)) -> str:
    start = datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateBuilder().subject_name(_NAME).issuer_name(_NAME).public_key(_key(kind).public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + life)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return builder.sign(_key(kind), _hash(kind)).public_bytes(Encoding.PEM).decode()


def _pem(kind: str = "P-256", passphrase: bytes = b"") -> str:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return _key(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


@pytest.mark.parametrize(
    ("kind", "weak"),
    [("RSA 2048", False), ("RSA 3072", False), ("RSA 1024", True), ("P-256", False), ("P-384", False), ("P-224", True), ("Ed25519", True)],
)
def test_a_key_is_of_a_kind_that_every_peer_knows_and_strong_enough(kind: str, weak: bool) -> None:
    assert problem_with_request(_request("a.b", kind=kind), "a.b") == (_WEAK if weak else None)
    assert problem_with_web_certificate(_web("a.b", kind=kind), _pem(kind), "a.b") == (_WEAK if weak else None)


@pytest.mark.parametrize("names", [(), ("c.d",), ("a.b", "c.d"), ("c.d", "a.b"), ("*.b",)])
def test_a_request_asks_for_its_own_name_and_no_other(names: tuple[str, ...]) -> None:
    assert "must ask for the name a.b and no other" in str(problem_with_request(_request(*names), "a.b"))


def test_a_request_that_somebody_changed_on_the_way_is_not_signed() -> None:
    sound = x509.load_pem_x509_csr(_request("a.b").encode()).public_bytes(Encoding.DER)
    changed = x509.load_der_x509_csr(sound.replace(b"somebody", b"nobody__")).public_bytes(Encoding.PEM).decode()
    assert "wrong signature" in str(problem_with_request(changed, "a.b"))
    assert "no certificate request" in str(problem_with_request("-----BEGIN", "a.b"))


@pytest.mark.parametrize(
    ("life", "too_long"),
    [(timedelta(days=398), False), (timedelta(days=398, seconds=1), True), (timedelta(days=200), False)],
)
def test_a_web_certificate_lives_as_long_as_browsers_take(life: timedelta, too_long: bool) -> None:
    said = problem_with_web_certificate(_web("a.b", life=life), _pem(), "a.b")
    assert said == ("lives longer than 398 days: browsers refuse it" if too_long else None)


@pytest.mark.parametrize(
    ("names", "domain", "fits"),
    [
        (("pacs.example.org",), "pacs.example.org", True),
        (("x.org", "pacs.example.org"), "pacs.example.org", True),
        (("*.example.org",), "pacs.example.org", True),
        (("*.example.org",), "a.pacs.example.org", False),
        (("example.org",), "pacs.example.org", False),
        ((), "pacs.example.org", False),
        (("pacs.example.org",), "", False),
    ],
)
def test_a_web_certificate_carries_the_name_that_people_type(names: tuple[str, ...], domain: str, fits: bool) -> None:
    said = problem_with_web_certificate(_web(*names), _pem(), domain)
    assert said is None if fits else "does not carry domainName" in str(said)


def test_a_web_certificate_comes_with_its_own_key_that_needs_no_passphrase() -> None:
    certificate, key = _web("a.b"), _pem()
    assert problem_with_web_certificate(certificate, key, "a.b") is None
    for chain, private in ((certificate, ""), ("", key)):
        assert problem_with_web_certificate(chain, private, "a.b") == "needs webCertificateKey, and the other way round"
    for chain, private in ((certificate, "x"), ("x", key), (certificate, _pem(passphrase=b"x"))):
        assert "can't be read as PEM without a passphrase" in str(problem_with_web_certificate(chain, private, "a.b"))
    assert problem_with_web_certificate(certificate, _pem("P-384"), "a.b") == "does not belong to webCertificateKey"
