"""What is read in certificates of servers."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.port_test.certificates import read_certificate, reading_context
from tests.helpers.certificate_makers import NOW, issue

DER = issue("a.test", names=["a.test", "b.test"]).certificate.public_bytes(Encoding.DER)


def test_no_authorities_are_read_where_nothing_is_verified() -> None:
    # That takes a tenth of a second, which would be part of the times of all other trials.
    assert reading_context().cert_store_stats()["x509_ca"] == 0


def test_the_names_and_the_days_left_are_read() -> None:
    found = read_certificate(DER, NOW)
    assert found is not None
    assert (found.subject, found.issuer, found.names) == ("a.test", "a.test", ("a.test", "b.test"))
    assert found.days_left == 30


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        pytest.param(DER, b"", id="nothing"),
        pytest.param(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", id="version 6"),
        # The key identifier becomes a second subjectAltName.
        pytest.param(b"\x06\x03U\x1d\x0e", b"\x06\x03U\x1d\x11", id="an extension twice"),
        pytest.param(b"\x82\x06a.test", b"\xa3\x06a.test", id="a name of another kind"),
        pytest.param(b"\x0c\x06a.test", b"\x03\x06\0.test", id="a subject of bits"),
    ],
)
def test_a_malformed_certificate_has_no_facts(written: bytes, instead: bytes) -> None:
    assert written in DER
    assert read_certificate(DER.replace(written, instead), NOW) is None


def test_names_are_shown_in_one_line_without_control_characters() -> None:
    damaged = DER.replace(b"\x82\x06a.test", b"\x82\x06\x1b[2J\n.")
    found = read_certificate(damaged, NOW)
    assert found is not None
    assert found.names == (" [2J .", "b.test")


def test_long_names_and_many_names_are_cut() -> None:
    names = ["a" * 300, *(f"n{number}.test" for number in range(200))]
    many = issue("c" * 64, names=names).certificate.public_bytes(Encoding.DER)
    found = read_certificate(many, NOW)
    assert found is not None
    assert len(found.names) == 100
    assert found.names[0] == "a" * 255
