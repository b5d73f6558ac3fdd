"""Pure questions about certificates in PEM: may this one be signed, or served."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LONGEST_SERVER_LIFE = timedelta(days=398)  # CA/Browser Forum baseline requirements 6.3.2; browsers refuse longer ones


def problem_with_request(pem: str, name: str) -> str | None:
    """Why a modality's own request must not be signed, or None. `name` is the only one that it may ask for.

    Names are copied from the request into the certificate: a modality that chose them freely could call itself the server.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except ValueError:
        return "is no certificate request in PEM (-----BEGIN CERTIFICATE REQUEST-----)"
    if not request.is_signature_valid:
        return "carries a wrong signature: whoever made it does not have its key"
    if list(names) != [x509.DNSName(name)]:
        return f"must ask for the name {name} and no other (openssl req -addext subjectAltName=DNS:{name})"
    return _weak(request.public_key())


def problem_with_web_certificate(chain: str, key: str, domain: str) -> str | None:
    """Why the web page can't be served with `chain` and `key`, or None."""
    if not chain or not key:
        return "needs webCertificateKey, and the other way round"
    try:
        leaf, *_ = x509.load_pem_x509_certificates(chain.encode())
        private = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        return f"or its key can't be read as PEM without a passphrase ({type(error).__name__})"
    if private.public_key() != leaf.public_key():
        return "does not belong to webCertificateKey"
    if leaf.not_valid_after_utc - leaf.not_valid_before_utc > LONGEST_SERVER_LIFE:
        return f"lives longer than {LONGEST_SERVER_LIFE.days} days: browsers refuse it"
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    if domain not in names and f"*.{domain.partition('.')[2]}" not in names:
        return f"does not carry domainName ({domain or 'not set'}); it carries {', '.join(names) or 'no DNS name'}"
    return _weak(leaf.public_key())


def end_of_life(pem: str) -> str:
    """When the first certificate in `pem` ends: an ISO 8601 time in UTC."""
    leaf, *_ = x509.load_pem_x509_certificates(pem.encode())
    return leaf.not_valid_after_utc.isoformat()


def _weak(key: object) -> str | None:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return None
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size >= 256:
        return None
    return "has a key that is too weak or too rare: take RSA with 2048 bits or more, or ECDSA on P-256 or P-384"
