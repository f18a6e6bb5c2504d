"""Certificate chains with all kinds of faults."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_S = NOW.timestamp()
DAY = timedelta(days=1)


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@frozen
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def key_pem(key: object, password: bytes | None = None, traditional: bool = False) -> bytes:
    formats = serialization.PrivateFormat
    encryption = serialization.BestAvailableEncryption(password) if password else None
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM,
        formats.TraditionalOpenSSL if traditional else formats.PKCS8,
        encryption or serialization.NoEncryption(),
    )


def issue(
    subject: str,
    issuer: Identity | None = None,
    *,
    names: Sequence[str] = (),
    authority: bool = False,
    start: datetime = NOW - DAY,
    end: datetime = NOW + 30 * DAY,
    key: object = None,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Identity:
    """A certificate for ``subject``, signed by ``issuer`` or by itself."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(issuer.certificate.subject if issuer else name(subject))
        .public_key(own.public_key())  # type: ignore[attr-defined]
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    public = own.public_key()  # type: ignore[attr-defined]
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
    if issuer:
        named = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(named, critical=False)
    if authority:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(text) for text in names])
        builder = builder.add_extension(alternatives, critical=False)
    if usage and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signed = builder.sign(issuer.key if issuer else own, hashes.SHA256())  # type: ignore[arg-type]
    return Identity(signed, own)  # type: ignore[arg-type]


# By what is malformed: bytes of a certificate for live.example until 2060, and those that replace them.
MALFORMED = {
    "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12"),
    "an extension twice": (b"\x55\x1d\x0e", b"\x55\x1d\x13"),
    "name": (b"Malformed", b"Malform\xff\xff"),
    "year 0": (b"20600101000000Z", b"00000101000000Z"),
    "type of an alternative name": (b"\x82\x0clive.example", b"\xa3\x0clive.example"),
}


def malformed(place: str, authority: bool = False) -> bytes:
    """A certificate that is malformed in the place, a key of ``MALFORMED``, and its key, in PEM."""
    end = datetime(2060, 1, 1, tzinfo=UTC)
    whole = issue("Malformed", names=["live.example"], authority=authority, end=end)
    der = whole.certificate.public_bytes(serialization.Encoding.DER)
    old, new = MALFORMED[place]
    assert old in der
    text = b64encode(der.replace(old, new))
    pem = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % text
    return pem + whole.key_pem
