from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.sniff import DECIDING_BYTES, WireProtocol, wire_protocol_of

CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303")

DECIDED = [
    # The first bytes, how many of them decide, what they say.
    (b"\x03" + bytes(1536), 1, WireProtocol.RTMP),
    (b"\x06" + bytes(1536), 1, WireProtocol.RTMPE),
    (b"\x08" + bytes(1536), 1, WireProtocol.RTMPE),
    (b"\x09" + bytes(1536), 1, WireProtocol.RTMPE),
    (b"POST /open/1 HTTP/1.1\r\n", 4, WireProtocol.HTTP),
    (b"GET / HTTP/1.1\r\n", 4, WireProtocol.HTTP),
    (b"PUT /a HTTP/1.1\r\n", 4, WireProtocol.HTTP),
    (b"OPTIONS * HTTP/1.1\r\n", 4, WireProtocol.HTTP),
    (b"VERSION-CONTROL /a HTTP/1.1\r\n", 4, WireProtocol.HTTP),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 4, WireProtocol.HTTP),
    (b"X /a HTTP/1.1\r\n", 2, WireProtocol.HTTP),
    (b"XY /a HTTP/1.1\r\n", 3, WireProtocol.HTTP),
    (CLIENT_HELLO, 6, WireProtocol.TLS),
    (b"\x16\x03\x03\x40\x00\x01", 6, WireProtocol.TLS),
    (b"<policy-file-request/>\0", 23, WireProtocol.POLICY),
    (b"<policy-file-request/>\n", 23, WireProtocol.UNKNOWN),
    (b"<html>", 2, WireProtocol.UNKNOWN),
    (b"\x00", 1, WireProtocol.UNKNOWN),
    (b"\x04", 1, WireProtocol.UNKNOWN),
    (b"\x80\x2e\x01\x03\x01", 1, WireProtocol.UNKNOWN),  # SSL 2's hello
    (b"get / HTTP/1.1\r\n", 1, WireProtocol.UNKNOWN),
    (b" GET / HTTP/1.1\r\n", 1, WireProtocol.UNKNOWN),
    (b"\r\nGET / HTTP/1.1\r\n", 1, WireProtocol.UNKNOWN),
    (b"SSH-2.0-OpenSSH_9.2\r\n", 4, WireProtocol.UNKNOWN),
    (b"Ab", 2, WireProtocol.UNKNOWN),
    (b"GET\t/", 4, WireProtocol.UNKNOWN),
    (b"\x16\x02\x00", 2, WireProtocol.UNKNOWN),
    (b"\x16\x03\x05\x00", 3, WireProtocol.UNKNOWN),
    (b"\x16\x03\x01\x41\x00\x01", 4, WireProtocol.UNKNOWN),
    (b"\x16\x03\x03\x00\x31\x02", 6, WireProtocol.UNKNOWN),  # a ServerHello
    (b"\x15\x03\x01\x00\x02\x02", 1, WireProtocol.UNKNOWN),  # an alert
    (b"PROXY TCP4 ", 4, WireProtocol.HTTP),  # a header is read before anything is sniffed
]


@pytest.mark.parametrize(("first", "deciding", "protocol"), DECIDED)
def test_a_protocol_is_detected_at_its_deciding_byte_and_not_before(
    first: bytes, deciding: int, protocol: WireProtocol
) -> None:
    assert [wire_protocol_of(first[:count]) for count in range(deciding)] == [None] * deciding
    assert wire_protocol_of(first[:deciding]) is protocol
    assert wire_protocol_of(first) is protocol


def test_an_empty_buffer_detects_no_protocol() -> None:
    assert wire_protocol_of(b"") is None


LIKELY = st.sampled_from(sorted({byte for first, _, _ in DECIDED for byte in first[:8]}))


@given(st.lists(st.integers(0, 255) | LIKELY, max_size=12).map(bytes))
def test_the_detected_protocol_is_the_same_in_any_segmentation(first: bytes) -> None:
    answers = [wire_protocol_of(first[:count]) for count in range(len(first) + 1)]
    decided = [answer for answer in answers if answer is not None]
    assert answers == [None] * (len(answers) - len(decided)) + decided
    assert len(set(decided)) <= 1
    assert wire_protocol_of(first[:DECIDING_BYTES]) is wire_protocol_of(first)


@given(st.binary(min_size=DECIDING_BYTES))
def test_every_protocol_is_detected_within_a_few_bytes(first: bytes) -> None:
    assert wire_protocol_of(first) is not None


@given(st.integers(0, 255))
def test_each_first_byte_belongs_to_one_protocol_at_most(byte: int) -> None:
    later = {wire_protocol_of(bytes([byte]) + rest) for rest in (b"", b"OST ", CLIENT_HELLO[1:])}
    assert len(later - {None, WireProtocol.UNKNOWN}) <= 1
