"""Classification of answers and errors, as tables: the first bytes of a port, system errors, TLS errors."""

from __future__ import annotations

import errno
from typing import Final

from gateway.port_test.observations import Kind

# How other protocols than RTMP begin: HTTP by its status line, a web server's error without one, and TLS by
# a record of type alert or handshake (RFC 8446, 5.1).
_BEGINNINGS: Final = (
    (b"HTTP/", Kind.SPEAKS_HTTP),
    (b"<", Kind.SPEAKS_HTTP),
    (b"\x15\x03", Kind.SPEAKS_TLS),
    (b"\x16\x03", Kind.SPEAKS_TLS),
)

_SYSTEM_ERRORS: Final = {
    errno.ECONNREFUSED: Kind.REFUSED,
    errno.ECONNRESET: Kind.CLOSED,
    errno.ECONNABORTED: Kind.CLOSED,
    errno.EPIPE: Kind.CLOSED,
    errno.ETIMEDOUT: Kind.NO_ANSWER,
    errno.EHOSTUNREACH: Kind.UNREACHABLE,
    errno.ENETUNREACH: Kind.UNREACHABLE,
    errno.EADDRNOTAVAIL: Kind.UNREACHABLE,
    errno.EAFNOSUPPORT: Kind.UNREACHABLE,
    errno.EACCES: Kind.NOT_PERMITTED,
    errno.EPERM: Kind.NOT_PERMITTED,
    # The answer of a blackhole route.
    errno.EINVAL: Kind.UNREACHABLE,
}

# OpenSSL's X509_V_ERR numbers.
_VERIFICATION_ERRORS: Final = {
    9: Kind.EXPIRED,
    10: Kind.EXPIRED,
    18: Kind.SELF_SIGNED,
    62: Kind.OTHER_NAME,
    64: Kind.OTHER_NAME,
}

# Reasons of OpenSSL 1.1 and 3 for a peer that does not speak TLS.
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}
)


def kind_of_bytes(first: bytes) -> Kind:
    """What a port that does not answer with RTMP speaks, by its first bytes."""
    return next(
        (kind for beginning, kind in _BEGINNINGS if first.startswith(beginning)), Kind.SPEAKS_OTHER
    )


def kind_of_system_error(number: int | None) -> Kind:
    """The kind of failure of an ``errno``."""
    return _SYSTEM_ERRORS.get(number or 0, Kind.INTERNAL)


def kind_of_verification(number: int) -> Kind:
    """The kind of failure of OpenSSL's verification error."""
    return _VERIFICATION_ERRORS.get(number, Kind.NOT_TRUSTED)


def kind_of_tls_error(reason: str | None) -> Kind:
    """The kind of failure of OpenSSL's reason for a failed handshake."""
    if reason is None or "EOF" in reason:
        return Kind.CLOSED
    return Kind.NOT_TLS if reason in _NOT_TLS else Kind.TLS_REFUSED
