from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.sniff import DECIDING_BYTES, Speech, speech_of

CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303")

DECIDED = [
    # The first bytes, how many of them decide, what they say.
    (b"\x03" + bytes(1536), 1, Speech.RTMP),
    (b"\x06" + bytes(1536), 1, Speech.RTMPE),
    (b"\x08" + bytes(1536), 1, Speech.RTMPE),
    (b"\x09" + bytes(1536), 1, Speech.RTMPE),
    (b"POST /open/1 HTTP/1.1\r\n", 4, Speech.HTTP),
    (b"GET / HTTP/1.1\r\n", 4, Speech.HTTP),
    (b"PUT /a HTTP/1.1\r\n", 4, Speech.HTTP),
    (b"OPTIONS * HTTP/1.1\r\n", 4, Speech.HTTP),
    (b"VERSION-CONTROL /a HTTP/1.1\r\n", 4, Speech.HTTP),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 4, Speech.HTTP),
    (b"X /a HTTP/1.1\r\n", 2, Speech.HTTP),
    (b"XY /a HTTP/1.1\r\n", 3, Speech.HTTP),
    (CLIENT_HELLO, 6, Speech.TLS),
    (b"\x16\x03\x03\x40\x00\x01", 6, Speech.TLS),
    (b"<policy-file-request/>\0", 23, Speech.POLICY),
    (b"<policy-file-request/>\n", 23, Speech.UNKNOWN),
    (b"<html>", 2, Speech.UNKNOWN),
    (b"\x00", 1, Speech.UNKNOWN),
    (b"\x04", 1, Speech.UNKNOWN),
    (b"\x80\x2e\x01\x03\x01", 1, Speech.UNKNOWN),  # SSL 2's hello
    (b"get / HTTP/1.1\r\n", 1, Speech.UNKNOWN),
    (b" GET / HTTP/1.1\r\n", 1, Speech.UNKNOWN),
    (b"\r\nGET / HTTP/1.1\r\n", 1, Speech.UNKNOWN),
    (b"SSH-2.0-OpenSSH_9.2\r\n", 4, Speech.UNKNOWN),
    (b"Ab", 2, Speech.UNKNOWN),
    (b"GET\t/", 4, Speech.UNKNOWN),
    (b"\x16\x02\x00", 2, Speech.UNKNOWN),
    (b"\x16\x03\x05\x00", 3, Speech.UNKNOWN),
    (b"\x16\x03\x01\x41\x00\x01", 4, Speech.UNKNOWN),
    (b"\x16\x03\x03\x00\x31\x02", 6, Speech.UNKNOWN),  # a ServerHello
    (b"\x15\x03\x01\x00\x02\x02", 1, Speech.UNKNOWN),  # an alert
    (b"PROXY TCP4 ", 4, Speech.HTTP),  # a header is read before anything is sniffed
]


@pytest.mark.parametrize(("first", "deciding", "speech"), DECIDED)
def test_a_protocol_is_detected_at_its_deciding_byte_and_not_before(
    first: bytes, deciding: int, speech: Speech
) -> None:
    assert [speech_of(first[:count]) for count in range(deciding)] == [None] * deciding
    assert speech_of(first[:deciding]) is speech
    assert speech_of(first) is speech


def test_an_empty_buffer_detects_no_protocol() -> None:
    assert speech_of(b"") is None


LIKELY = st.sampled_from(sorted({byte for first, _, _ in DECIDED for byte in first[:8]}))


@given(st.lists(st.integers(0, 255) | LIKELY, max_size=12).map(bytes))
def test_the_detected_protocol_is_the_same_in_any_segmentation(first: bytes) -> None:
    answers = [speech_of(first[:count]) for count in range(len(first) + 1)]
    decided = [answer for answer in answers if answer is not None]
    assert answers == [None] * (len(answers) - len(decided)) + decided
    assert len(set(decided)) <= 1
    assert speech_of(first[:DECIDING_BYTES]) is speech_of(first)


@given(st.binary(min_size=DECIDING_BYTES))
def test_every_protocol_is_detected_within_a_few_bytes(first: bytes) -> None:
    assert speech_of(first) is not None


@given(st.integers(0, 255))
def test_each_first_byte_belongs_to_one_protocol_at_most(byte: int) -> None:
    later = {speech_of(bytes([byte]) + rest) for rest in (b"", b"OST ", CLIENT_HELLO[1:])}
    assert len(later - {None, Speech.UNKNOWN}) <= 1
