"""The admin server: opens its socket, and reads its token and certificates.

``bind`` is called while the process may still be root, so the token and key files may be readable by root
only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from stat import S_IROTH, S_IWOTH
from time import monotonic, time
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from gateway.addresses import TcpAddress, UnixAddress
from gateway.admin.http.access_control import AccessControl
from gateway.admin.http.server import Site
from gateway.admin.resources.endpoints import Endpoints
from gateway.admin.resources.event_streams import EventStreams
from gateway.admin.resources.gateway_interface import Gateway
from gateway.admin.status_page.page import Page
from gateway.admin.time_slices import TimeSlices
from gateway.configuration.problems import Source
from gateway.configuration.sections import Admin
from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificateFile, read_certificate_file
from gateway.listeners.ports import address_of, adopt, listen
from gateway.regular_files import read_regular_file

_log = Logger()

# 128 bits, if they are random.
_LEAST_TOKEN_BYTES = 16
# A larger file is not a token, but a wrong path.
_MOST_TOKEN_BYTES = 1024
# The certificates of all public authorities together have about 200 KiB.
_MOST_AUTHORITIES_BYTES = 4 * 1024 * 1024
# For the members of the gateway's group only.
_SOCKET_MODE = 0o660


def bind(
    settings: Admin,
    source: Source,
    gateway: Gateway,
    reactor: Any,
    environment: Mapping[str, str],
    descriptor: int | None = None,
) -> Any:
    """Open the admin server, on the listening socket ``descriptor`` if that is given, which is closed then.
    Returns Twisted's IListeningPort. Raises ConfigurationError.
    """
    guard = _guard(settings, token(settings, source))
    site = _site(guard, gateway, lambda: TimeSlices(reactor, monotonic), reactor)
    factory: Any = site
    shown = certificate(settings, source)
    if shown is not None:
        factory = TLSMemoryBIOFactory(_tls(shown, authorities(settings, source)), False, site)
    if descriptor is not None:
        port = adopt(reactor, descriptor, factory)
        os.close(descriptor)
        return port
    with source.at("admin", "address"):
        port = listen(reactor, settings.address, factory, environment, _SOCKET_MODE)
    is_tcp = isinstance(settings.address, TcpAddress)
    address = address_of(port) if is_tcp else settings.address
    _log.info("admin server on {address}", address=address)
    return port


def token(settings: Admin, source: Source) -> bytes:
    """The token that requests need; empty if none is configured. Raises ConfigurationError."""
    if settings.token_file is None:
        return b""
    with source.at("admin", "token_file"):
        return read_token(Path(settings.token_file))


def certificate(settings: Admin, source: Source) -> CertificateFile | None:
    """The server's certificate; None without TLS. Raises ConfigurationError."""
    if settings.certificate is None:
        return None
    with source.at("admin", "certificate"):
        return read_certificate_file(settings.certificate, time())


def authorities(settings: Admin, source: Source) -> list[Certificate] | None:
    """The authorities of client certificates; None if none are needed. Raises ConfigurationError."""
    if settings.client_authorities is None:
        return None
    with source.at("admin", "client_authorities"):
        return read_authorities(Path(settings.client_authorities))


def _guard(settings: Admin, token: bytes) -> AccessControl:
    # Browsers cannot connect to UNIX sockets. On public addresses, a page that resolves its name to this
    # one has neither token nor certificate.
    any_host = isinstance(settings.address, UnixAddress) or not settings.is_private
    return AccessControl(token, settings.hosts, any_host)


def _site(
    guard: AccessControl, gateway: Gateway, time_slices: Callable[[], TimeSlices], reactor: Any
) -> Site:
    endpoints = Endpoints(gateway, EventStreams(gateway, time_slices, monotonic, time), Page())
    return Site(reactor, guard, endpoints.answer, time_slices)


def read_token(path: Path) -> bytes:
    """Read a token file, without surrounding white space. Raises ConfigurationError."""
    try:
        mode = path.stat().st_mode
        content = read_regular_file(path, _MOST_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & (S_IROTH | S_IWOTH):
        raise ConfigurationError(f"{path}: open to everybody on this machine; chmod o-rw it")
    if len(content) > _MOST_TOKEN_BYTES:
        raise ConfigurationError(f"{path}: over {_MOST_TOKEN_BYTES} bytes; this is no token")
    token = content.strip()
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise ConfigurationError(f"{path}: a token is one word of printable ASCII")
    if len(token) < _LEAST_TOKEN_BYTES:
        raise ConfigurationError(
            f"{path}: a token has at least {_LEAST_TOKEN_BYTES} characters; "
            "make one with: openssl rand -hex 24"
        )
    return token


def _tls(file: CertificateFile, authorities: list[Certificate] | None) -> CertificateOptions:
    """TLS 1.2 or later with the server's certificate, and client certificates if required."""
    chain = [crypto.X509.from_cryptography(each) for each in file.chain]
    trusted = None if authorities is None else trustRootFromCertificates(authorities)
    # The checks of the file permit only types that OpenSSL supports.
    key = crypto.PKey.from_cryptography_key(cast(Any, file.key))
    return CertificateOptions(
        privateKey=key,
        certificate=chain[0],
        extraCertChain=chain[1:],
        trustRoot=trusted,
        # Without it, clients that use ALPN (curl, browsers, Prometheus) are refused in the handshake.
        acceptableProtocols=[b"http/1.1"],
    )


def read_authorities(path: Path) -> list[Certificate]:
    """Read the certificates of authorities from a PEM file. Raises ConfigurationError."""
    try:
        read = x509.load_pem_x509_certificates(read_regular_file(path, _MOST_AUTHORITIES_BYTES))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(
            f"{path}: no certificate that can be read in it; name a PEM file with the authorities'"
        ) from None
    found = [
        Certificate.load(each.public_bytes(Encoding.DER), crypto.FILETYPE_ASN1)
        for each in read
        if _is_authority(each)
    ]
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
