"""Reads and checks a certificate chain and its private key, from one PEM file or two.

    -----BEGIN CERTIFICATE-----    the site's certificate
    -----BEGIN CERTIFICATE-----    its issuer's, and so on, without the root
    -----BEGIN PRIVATE KEY-----    anywhere in the file, or in a second file

Files with faults that clients would detect are refused, with a line for each fault that names the file, the
fault and the remedy (certificate_checks.py). Encrypted keys are refused, because the gateway starts without
an operator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import crypto

from gateway.errors import ConfigurationError
from gateway.listeners.certificate_checks import (
    Unchecked,
    client_faults_of,
    common_names,
    dns_names,
    faults_of,
)
from gateway.pem_files import cause_of
from gateway.regular_files import read_regular_file

# The longest chains have tens of kilobytes. Without a limit, a wrong path (/dev/zero) would fill the
# memory.
_FILE_BYTES: Final = 256 * 1024

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# RFC 7468, and RFC 1421 for OpenSSL's older key files.
_ENCRYPTED: Final = (b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


# Modification time in nanoseconds, inode and size, one of which differs after a file was replaced.
Version = tuple[int, int, int]


@frozen
class CertificatePaths:
    """The paths of a certificate's chain and private key, which may be the same."""

    chain: str
    key: str

    @classmethod
    def joined(cls, path: str) -> CertificatePaths:
        """The paths of a file with both."""
        return cls(path, path)

    @property
    def is_joined(self) -> bool:
        """Whether both are in one file."""
        return self.chain == self.key

    def __str__(self) -> str:
        return self.chain if self.is_joined else f"{self.chain} with the key {self.key}"

    def versions(self) -> tuple[Version | None, ...]:
        """The versions of the files; None for a file whose status cannot be read."""
        files = (self.chain,) if self.is_joined else (self.chain, self.key)
        return tuple(map(_version, files))


def _version(path: str) -> Version | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@frozen
class CertificateFile:
    """A valid certificate. ``chain`` begins with the site's own."""

    paths: CertificatePaths
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names of the certificate, or its common name if it has none."""
        return dns_names(self.chain[0]) or common_names(self.chain[0])

    @property
    def not_after_s(self) -> float:
        """The earliest expiry time in its chain, in seconds since 1970."""
        return min(certificate.not_valid_after_utc for certificate in self.chain).timestamp()


def read_certificate_file(path: str, now: float) -> CertificateFile:
    """As ``read_certificate``, for a file with chain and key."""
    return read_certificate(CertificatePaths.joined(path), now)


def read_certificate(paths: CertificatePaths, now: float) -> CertificateFile:
    """Read and check; ``now`` in seconds since 1970. Raises ConfigurationError, one line per fault."""
    return _without_faults(_parse(paths), now, faults_of)


def read_client_certificate(path: str, now: float) -> CertificateFile:
    """As ``read_certificate_file``, for the certificate of the gateway as a client."""
    return _without_faults(_parse(CertificatePaths.joined(path)), now, client_faults_of)


def _without_faults(
    file: CertificateFile, now: float, faults_by: Callable[[Unchecked, datetime], Iterator[str]]
) -> CertificateFile:
    found = faults_by(file, datetime.fromtimestamp(now, UTC))
    faults = [f"{file.paths}: {fault}" for fault in found]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return file


def _content(path: str) -> bytes:
    try:
        content = read_regular_file(path, _FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}; check the path, and that the gateway's user"
            " may read it"
        ) from None
    if len(content) > _FILE_BYTES:
        raise ConfigurationError(f"{path}: over {_FILE_BYTES} bytes; this is no certificate file")
    return content


def _parse(paths: CertificatePaths) -> CertificateFile:
    blocks = _blocks(_content(paths.chain))
    certificates = [block for label, block in blocks if label == b"CERTIFICATE"]
    if not certificates:
        wanted = "the chain and the key" if paths.is_joined else "the chain"
        raise ConfigurationError(
            f"{paths.chain}: no certificate in it; name the PEM file with {wanted}"
        )
    chain = tuple(
        _certificate(paths.chain, place, block) for place, block in enumerate(certificates, 1)
    )
    if not paths.is_joined:
        blocks = _blocks(_content(paths.key))
    keys = [block for label, block in blocks if label.endswith(b"PRIVATE KEY")]
    return CertificateFile(paths, chain, _key(paths.key, keys))


def _blocks(content: bytes) -> list[tuple[bytes, bytes]]:
    """The PEM blocks with their labels."""
    return [(match[1], match[0]) for match in _BLOCK.finditer(content)]


def _certificate(path: str, place: int, block: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(block)
        # Each is parsed on demand.
        _ = (
            certificate.public_key(),
            certificate.extensions,
            certificate.signature_hash_algorithm,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            crypto.X509.from_cryptography(certificate),
        )
    except Exception as error:
        raise ConfigurationError(
            f"{path}: certificate {place} is damaged ({cause_of(error)}); get a new copy of it"
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
    except Exception as error:
        raise ConfigurationError(
            f"{path}: its private key is damaged ({cause_of(error)}); get a new copy of it"
        ) from None
