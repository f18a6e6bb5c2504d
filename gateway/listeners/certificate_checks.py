"""Checks of a certificate chain and its key for every fault that clients would detect.

Rules:

- Each certificate must be issued by the next. The issuer of the last one is a root, which clients have; but
  a truncated file looks the same. So a chain is complete if it ends with a self-signed certificate, or with
  one whose issuer is a root that this machine trusts. The root of a private CA must be installed on the
  machine or appended to the file.
- Keys and signatures must conform to Mozilla's intermediate profile (tls_profile.py).
- The text of a fault has the fault and, after a semicolon, the remedy.
- A name that cannot be read is no fault by itself: OpenSSL and clients do not read each one either.

Reading of files, and the clock, are left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto

from gateway.addresses import quoted

_RSA_BITS: Final = 2048
_CURVES: Final = {"secp256r1", "secp384r1"}
_WEAK_HASHES: Final = {"md5", "sha1"}
# X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h: the time is checked here, by the caller's clock.
_NO_CHECK_TIME: Final = 0x200000
_TIME: Final = "%Y-%m-%d %H:%M UTC"


class Unchecked(Protocol):
    """A chain, the site's own certificate first, and its private key."""

    @property
    def chain(self) -> tuple[x509.Certificate, ...]: ...

    @property
    def key(self) -> PrivateKeyTypes: ...


def faults_of(file: Unchecked, now: datetime) -> Iterator[str]:
    """All that is wrong; ``now`` is aware of its time zone."""
    for check in (_check_key, _check_strength, _check_purpose, _check_order, _check_end):
        yield from check(file)
    yield from _check_times(file, now)


def client_faults_of(file: Unchecked, now: datetime) -> Iterator[str]:
    """The same for the gateway's certificate as a client. The servers have its issuers, and their own
    demands on keys.
    """
    for check in (_check_key, _check_client_purpose, _check_order):
        yield from check(file)
    yield from _check_times(file, now)


def _check_key(file: Unchecked) -> Iterator[str]:
    public = file.key.public_key()
    fitting = [
        place
        for place, certificate in enumerate(file.chain, 1)
        if certificate.public_key() == public
    ]
    if not fitting:
        yield "its private key belongs to none of its certificates; put the right one in"
    elif fitting[0] > 1:
        yield f"its private key belongs to certificate {fitting[0]}; put that one first"


def _check_strength(file: Unchecked) -> Iterator[str]:
    key = file.chain[0].public_key()
    if isinstance(key, RSAPublicKey):
        strong = key.key_size >= _RSA_BITS
    else:
        strong = isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES
    if not strong:
        yield (
            "its key is too weak, or of a kind that clients do not know; use ECDSA on P-256 or"
            f" P-384, or RSA with at least {_RSA_BITS} bits"
        )
    for certificate in file.chain:
        algorithm = certificate.signature_hash_algorithm
        if (
            algorithm
            and algorithm.name in _WEAK_HASHES
            and not _is_issuer(certificate, certificate)
        ):
            yield (
                f"{_shown(certificate)} is signed with {algorithm.name.upper()}, which clients"
                " refuse; get a new one"
            )


def _check_purpose(file: Unchecked) -> Iterator[str]:
    if not _is_for(file.chain[0], ExtendedKeyUsageOID.SERVER_AUTH):
        yield "its first certificate is not for servers; put the site's own first, or get another"


def _check_client_purpose(file: Unchecked) -> Iterator[str]:
    if not _is_for(file.chain[0], ExtendedKeyUsageOID.CLIENT_AUTH):
        yield "its first certificate is not for clients; put the gateway's own first, or get another"


def _is_for(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def _check_order(file: Unchecked) -> Iterator[str]:
    for place, (certificate, issuer) in enumerate(pairwise(file.chain), 2):
        if _is_issuer(issuer, certificate):
            continue
        if any(_is_issuer(other, certificate) for other in file.chain):
            remedy = "sort the chain: the site's own first, then each one's issuer"
        else:
            remedy = f"put the certificate of {_issuer(certificate)} there"
        yield f"certificate {place} did not issue the one before it; {remedy}"
        return


def _check_end(file: Unchecked) -> Iterator[str]:
    last = file.chain[-1]
    if not _is_issuer(last, last) and not _is_trusted(last):
        yield (
            f"its chain is not complete: it ends at {_shown(last)}, and {_issuer(last)} is no root"
            " that this machine trusts; append the intermediate certificate, or, with a CA of your"
            " own, its root"
        )


def _check_times(file: Unchecked, now: datetime) -> Iterator[str]:
    for certificate in file.chain:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now < start:
            yield f"{_shown(certificate)} begins on {start:{_TIME}}; wait, or correct the clock"
        if now > end:
            yield f"{_shown(certificate)} expired on {end:{_TIME}}; renew it"


def _is_issuer(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        # Of many kinds, by what is malformed.
        return False
    return True


def _is_trusted(certificate: x509.Certificate) -> bool:
    """Whether a root leads to it that OpenSSL finds on this machine (or in SSL_CERT_FILE, SSL_CERT_DIR)."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_default_verify_paths()
    store = context.get_cert_store()
    if store is None:
        return False
    store.set_flags(_NO_CHECK_TIME)
    try:
        crypto.X509StoreContext(
            store, crypto.X509.from_cryptography(certificate)
        ).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def _shown(certificate: x509.Certificate) -> str:
    """The certificate's name for error messages."""
    names = dns_names(certificate)
    return quoted(names[0]) if names else _text_of(lambda: certificate.subject)


def _issuer(certificate: x509.Certificate) -> str:
    return _text_of(lambda: certificate.issuer)


def _text_of(name: Callable[[], x509.Name]) -> str:
    try:
        return quoted(name().rfc4514_string())
    except Exception:
        return "(a malformed name)"


def common_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The common names of the subject; none if it is malformed."""
    try:
        found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except Exception:
        return ()
    return tuple(str(attribute.value) for attribute in found)


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names in the subject alternative names, which alone modern clients check."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))
