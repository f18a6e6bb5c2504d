"""One PEM file of the operator's: a site's certificate chain and its private key, read and checked.

    -----BEGIN CERTIFICATE-----    the site's own
    -----BEGIN CERTIFICATE-----    its issuer's, and so on up to, but without, the root
    -----BEGIN PRIVATE KEY-----    anywhere in the file

Rules:

- What would fail in a client's hands fails here, at start, with a line that names the file, what is wrong
  and what to do (certificate_checks.py).
- Nobody is asked for a passphrase: the gateway starts alone, at night.

It refuses to know the clock, and what a certificate is used for.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.addresses import quoted
from gateway.errors import ConfigurationError
from gateway.listeners.certificate_checks import dns_names, faults_of

# The longest chains have some tens of kilobytes; without a bound, a wrong path (/dev/zero) would fill
# the memory.
_FILE_BYTES: Final = 256 * 1024

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# RFC 7468 and, for the second, RFC 1421 as OpenSSL's older key files have it.
_ENCRYPTED: Final = (b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


@frozen
class CertificateFile:
    """A file that passed: the site's own certificate comes first in ``chain``."""

    path: str
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes

    @property
    def names(self) -> tuple[str, ...]:
        """The names it is for, as the certificate writes them; the common name where it has none."""
        return dns_names(self.chain[0]) or tuple(
            str(attribute.value)
            for attribute in self.chain[0].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        )

    @property
    def not_after_s(self) -> float:
        """When the first of its chain ends, in seconds since 1970."""
        return min(certificate.not_valid_after_utc for certificate in self.chain).timestamp()


def read_certificate_file(path: str, now: float) -> CertificateFile:
    """Read and check; ``now`` in seconds since 1970. Raises ConfigurationError, one line per fault."""
    file = _parse(path, _content(path))
    faults = [f"{path}: {fault}" for fault in faults_of(file, datetime.fromtimestamp(now, UTC))]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return file


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}; check the path, and that the gateway's user"
            " may read it"
        ) from None
    if len(content) > _FILE_BYTES:
        raise ConfigurationError(f"{path}: over {_FILE_BYTES} bytes; this is no certificate file")
    return content


def _parse(path: str, content: bytes) -> CertificateFile:
    blocks = [(match[1], match[0]) for match in _BLOCK.finditer(content)]
    certificates = [block for label, block in blocks if label == b"CERTIFICATE"]
    keys = [block for label, block in blocks if label.endswith(b"PRIVATE KEY")]
    if not certificates:
        raise ConfigurationError(
            f"{path}: no certificate in it; name the PEM file with the chain and the key"
        )
    chain = tuple(_certificate(path, place, block) for place, block in enumerate(certificates, 1))
    return CertificateFile(path, chain, _key(path, keys))


def _certificate(path: str, place: int, block: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(block)
        # Each is read only when it is asked for.
        _ = (
            certificate.public_key(),
            certificate.extensions,
            certificate.signature_hash_algorithm,
        )
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise ConfigurationError(
            f"{path}: certificate {place} is damaged ({_cause(error)}); get a new copy of it"
        ) from None
    return certificate


def _key(path: str, keys: list[bytes]) -> PrivateKeyTypes:
    if len(keys) != 1:
        raise ConfigurationError(
            f"{path}: {len(keys) or 'no'} private keys in it; it takes the one of the first certificate"
        )
    if any(mark in keys[0] for mark in _ENCRYPTED):
        raise ConfigurationError(
            f"{path}: its private key is encrypted; store it without a passphrase, readable only by"
            " the gateway's user"
        )
    try:
        return load_pem_private_key(keys[0], None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{path}: its private key is damaged ({_cause(error)}); get a new copy of it"
        ) from None


def _cause(error: Exception) -> str:
    return quoted(str(error).partition("\n")[0])
