"""Classification of first bytes and errors."""

from __future__ import annotations

import errno

import pytest

from gateway.port_test.answers import (
    kind_of_bytes,
    kind_of_system_error,
    kind_of_tls_error,
    kind_of_verification,
)
from gateway.port_test.observations import Kind


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", Kind.SPEAKS_HTTP),
        (b"<html>", Kind.SPEAKS_HTTP),
        (b"\x15\x03\x01\x00\x02\x02\x16", Kind.SPEAKS_TLS),
        (b"\x16\x03\x03", Kind.SPEAKS_TLS),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Kind.SPEAKS_OTHER),
        (b"220 mail ESMTP\r\n", Kind.SPEAKS_OTHER),
        (b"\x06", Kind.SPEAKS_OTHER),
    ],
)
def test_a_protocol_is_told_by_its_first_bytes(first: bytes, kind: Kind) -> None:
    assert kind_of_bytes(first) is kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNREFUSED, Kind.REFUSED),
        (errno.ECONNRESET, Kind.CLOSED),
        (errno.ETIMEDOUT, Kind.NO_ANSWER),
        (errno.ENETUNREACH, Kind.UNREACHABLE),
        (errno.EPERM, Kind.NOT_PERMITTED),
        (None, Kind.INTERNAL),
    ],
)
def test_a_system_error_is_a_kind_of_failure(number: int | None, kind: Kind) -> None:
    assert kind_of_system_error(number) is kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (10, Kind.EXPIRED),
        (18, Kind.SELF_SIGNED),
        (19, Kind.NOT_TRUSTED),
        (20, Kind.NOT_TRUSTED),
        (62, Kind.OTHER_NAME),
    ],
)
def test_a_verification_error_is_a_kind_of_failure(number: int, kind: Kind) -> None:
    assert kind_of_verification(number) is kind


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (None, Kind.CLOSED),
        ("UNEXPECTED_EOF_WHILE_READING", Kind.CLOSED),
        ("WRONG_VERSION_NUMBER", Kind.NOT_TLS),
        ("TLSV1_UNRECOGNIZED_NAME", Kind.TLS_REFUSED),
    ],
)
def test_a_tls_error_is_a_kind_of_failure(reason: str | None, kind: Kind) -> None:
    assert kind_of_tls_error(reason) is kind
