"""The files that [admin] names: token, certificate, and authorities of client certificates.

They are read at the start and by each reload, so the gateway's user must be able to read them.
"""

from __future__ import annotations

from pathlib import Path
from time import time

from twisted.internet.ssl import Certificate

from gateway.configuration.problems import Source
from gateway.configuration.sections import Admin
from gateway.errors import ConfigurationError
from gateway.listeners.certificate_file import CertificateFile, read_certificate_file
from gateway.listeners.mutual_tls import read_authorities
from gateway.regular_files import read_private_file

# 128 bits, if they are random.
_LEAST_TOKEN_BYTES = 16
# A larger file is not a token, but a wrong path.
_MOST_TOKEN_BYTES = 1024


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


def read_token(path: Path) -> bytes:
    """Read a token file, without surrounding white space. Raises ConfigurationError."""
    content = read_private_file(path, _MOST_TOKEN_BYTES)
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
