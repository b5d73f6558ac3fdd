"""The laptop's certificates have the profile that browsers and modalities accept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from laptop import certificates
from laptop.certificates import Pair
from laptop.site import Enrolment, Plan, Side, Site

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), Plan()).enrolled(Enrolment(aet="CT1"))


def parsed(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.encode())


def leaves(site: Site) -> dict[str, tuple[Pair, str, set[x509.ObjectIdentifier]]]:
    """Every leaf with its authority and its uses."""
    return {
        "server": (site.server(), "outside", {SERVER}),
        "outgoing": (site.outgoing(), "outside", {CLIENT}),
        "modality": (site.modality("CT1", 1), "outside", {SERVER, CLIENT}),
        "orthanc": (site.inside("orthanc"), "orthanc", {SERVER, CLIENT}),
        "gateway": (site.inside("gateway"), "inside", {SERVER, CLIENT}),
        "probe": (site.inside("probe"), "inside", {CLIENT}),
        "postgres": (site.inside("postgres"), "inside", {SERVER}),
    }


@pytest.mark.parametrize("side", ["outside", "inside", "orthanc"])
def test_an_authority_signs_leaves_and_nothing_else(site: Site, side: Side) -> None:
    certificate = parsed(site.authority(side))
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, True, False)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < timedelta(days=3651)


@pytest.mark.parametrize("name", ["server", "outgoing", "modality", "orthanc", "gateway", "probe", "postgres"])
def test_a_leaf_has_the_profile(site: Site, name: str) -> None:
    pair, authority, uses = leaves(site)[name]
    certificate = parsed(pair)
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature is True
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == uses
    assert len(extensions.get_extension_for_class(x509.SubjectAlternativeName).value) >= 1
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == "sha256"
    days = (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / timedelta(days=1)
    assert days <= (3 * 365 if name == "modality" else 397)
    assert certificate.not_valid_before_utc <= datetime.now(UTC) - timedelta(minutes=9), "clocks of peers may be behind"
    for side in ("outside", "inside", "orthanc"):
        signed = certificates.signed_by(pair.certificate, site.authority(side).certificate)
        assert signed is (side == authority)


def test_what_scanners_meet_is_rsa_and_what_is_inside_is_ecdsa(site: Site) -> None:
    for name, (pair, authority, _) in leaves(site).items():
        key = parsed(pair).public_key()
        if authority == "outside":
            assert isinstance(key, rsa.RSAPublicKey), name
            assert key.key_size >= 2048
        else:
            assert isinstance(key, ec.EllipticCurvePublicKey), name


def test_the_server_is_known_by_names_and_addresses(site: Site) -> None:
    names = parsed(site.server()).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert {ip_address("127.0.0.1"), ip_address("::1")} <= set(names.get_values_for_type(x509.IPAddress))


def test_certificates_stay_the_same_until_they_are_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.server()
    assert site.server() == first
    real = certificates.expiry
    monkeypatch.setattr(certificates, "expiry", lambda certificate: real(certificate) - timedelta(days=370))
    assert site.server() != first


def test_a_new_authority_renews_what_it_signs(tmp_path: Path) -> None:
    site = Site(tmp_path, Plan())
    before = site.inside("probe")
    (tmp_path / "keys" / "inside-authority.crt").unlink()
    after = site.inside("probe")
    assert after != before
    assert certificates.signed_by(after.certificate, site.authority("inside").certificate)
