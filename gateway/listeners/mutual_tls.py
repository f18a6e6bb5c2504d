"""TLS by pyOpenSSL with certificates of both peers, for the admin server and for other nodes.

Clients' connections use the standard ssl module (tls.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificateFile
from gateway.pem_files import damaged_authority, read_certificates


def server_options(
    file: CertificateFile, authorities: list[Certificate] | None
) -> CertificateOptions:
    """TLS 1.2 or later with the server's certificate, and client certificates if required."""
    chain, key = _chain_and_key(file)
    trusted = None if authorities is None else trustRootFromCertificates(authorities)
    return CertificateOptions(
        privateKey=key,
        certificate=chain[0],
        extraCertChain=chain[1:],
        trustRoot=trusted,
        # Without it, clients that use ALPN (curl, browsers, Prometheus) are refused in the handshake.
        acceptableProtocols=[b"http/1.1"],
    )


def client_options(file: CertificateFile, authorities: list[Certificate], host: str) -> Any:
    """As ``server_options``, for connections to ``host``, whose certificate must be valid for it."""
    chain, key = _chain_and_key(file)
    return optionsForClientTLS(
        host,
        trustRoot=trustRootFromCertificates(authorities),
        clientCertificate=PrivateCertificate.fromCertificateAndKeyPair(
            Certificate(chain[0]), KeyPair(key)
        ),
        extraCertificateOptions={"extraCertChain": chain[1:]},
    )


def _chain_and_key(file: CertificateFile) -> tuple[list[crypto.X509], crypto.PKey]:
    chain = [crypto.X509.from_cryptography(each) for each in file.chain]
    # The checks of the file permit only types that OpenSSL supports.
    return chain, crypto.PKey.from_cryptography_key(cast(Any, file.key))


def read_authorities(path: Path) -> list[Certificate]:
    """Read the certificates of authorities from a PEM file. Raises ConfigurationError."""
    read = read_certificates(str(path))
    try:
        found = [
            Certificate.load(each.public_bytes(Encoding.DER), crypto.FILETYPE_ASN1)
            for each in read
            if _is_authority(each)
        ]
    except Exception as error:
        raise damaged_authority(str(path), error) from None
    if not found:
        raise ConfigurationError(
            f"{path}: no certificate of an authority in it; name those that sign the clients'"
        )
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign certificates. Self-issued ones of X.509 version 1 have no such extension."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return certificate.issuer == certificate.subject
    return constraints.ca
