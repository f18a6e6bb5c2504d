"""TLS contexts of the tester, and facts about the other side's certificate."""

from __future__ import annotations

import ssl
from datetime import datetime
from typing import Final
from warnings import catch_warnings

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from gateway.port_test.observations import Certificate

# The attributes by which people recognise an authority.
_NAMED_BY: Final = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
_SHOWN_CHARACTERS: Final = 120
# RFC 1035, 2.3.4. Public authorities put 100 names into a certificate at most.
_NAME_CHARACTERS: Final = 255
_MOST_NAMES: Final = 100
# Of certificates that OpenSSL has accepted.
_MALFORMED: Final = (
    *(ValueError, TypeError, x509.InvalidVersion),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


def verifying_context(authorities_file: str | None) -> ssl.SSLContext:
    """Verify chain and name, by the system's authorities, or only by those in a PEM file.

    Raises OSError (of which SSLError is one) if the file cannot be used.
    """
    return ssl.create_default_context(cafile=authorities_file)


def reading_context() -> ssl.SSLContext:
    """Verify nothing: to read the certificate that verification has refused. Nothing is sent in it."""
    # Not ``create_default_context``: it reads the system's authorities, for which all trials would wait.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_certificate(der: bytes, now: datetime) -> Certificate | None:
    """The facts of a certificate; None if it is malformed. ``now`` has a time zone."""
    try:
        # It warns of what later versions will refuse.
        with catch_warnings(action="ignore", category=CryptographyDeprecationWarning):
            return _facts(x509.load_der_x509_certificate(der), now)
    except _MALFORMED:
        return None


def _facts(certificate: x509.Certificate, now: datetime) -> Certificate:
    return Certificate(
        _readable(certificate.subject),
        _readable(certificate.issuer),
        _names(certificate),
        (certificate.not_valid_after_utc - now).days,
    )


def _readable(name: x509.Name) -> str:
    """The common name and the organization, in one line."""
    found = [str(part.value) for oid in _NAMED_BY for part in name.get_attributes_for_oid(oid)]
    return _line(", ".join(dict.fromkeys(found)) or name.rfc4514_string(), _SHOWN_CHARACTERS)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    names = found.value
    domains, addresses = (
        names.get_values_for_type(x509.DNSName),
        names.get_values_for_type(x509.IPAddress),
    )
    shown = [*domains, *map(str, addresses)][:_MOST_NAMES]
    return tuple(_line(name, _NAME_CHARACTERS) for name in shown)


def _line(text: str, characters: int) -> str:
    """``text`` of a server, in one line and short, since it is shown on terminals."""
    return "".join(c if c.isprintable() else " " for c in text[:characters])
