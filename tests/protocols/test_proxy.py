from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadProxyHeader
from gateway.protocols.proxy import Endpoint, ProxyHeader, ProxyHeaderReader, crc32c

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4_ADDRESSES = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + b"\xdc\x04\x01\xbb"
V4 = ProxyHeader(Endpoint("192.0.2.1", 56324), Endpoint("198.51.100.2", 443))
V6_ADDRESSES = (
    bytes.fromhex("20010db8000000000000000000000001")
    + bytes.fromhex("20010db8000000000000000000000002")
    + b"\xdc\x04\x01\xbb"
)
V6 = ProxyHeader(Endpoint("2001:db8::1", 56324), Endpoint("2001:db8::2", 443))
NOBODY = ProxyHeader()


def v2(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def summed(addresses: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A header with a checksum between the TLVs ``before`` and ``after``."""
    blank = v2(0x21, 0x11, addresses + before + tlv(3, bytes(4)) + after)
    place = len(blank) - len(after) - 4
    return blank[:place] + crc32c(blank).to_bytes(4, "big") + blank[place + 4 :]


GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", V4),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 56324 443\r\n", V6),
    "v1 lowest and highest": (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        ProxyHeader(Endpoint("0.0.0.0", 0), Endpoint("255.255.255.255", 65535)),
    ),
    "v1 longest TCP6": (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        ProxyHeader(*[Endpoint(":".join(["ffff"] * 8), 65535)] * 2),
    ),
    "v1 mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 56324 443\r\n",
        V4,
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", NOBODY),
    "v1 UNKNOWN, longest": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", NOBODY),
    "v2 TCP4": (v2(0x21, 0x11, V4_ADDRESSES), V4),
    "v2 TCP6": (v2(0x21, 0x21, V6_ADDRESSES), V6),
    "v2 mapped": (
        v2(0x21, 0x21, bytes.fromhex("00000000000000000000ffffc0000201" * 2) + b"\0\1\0\2"),
        ProxyHeader(Endpoint("192.0.2.1", 1), Endpoint("192.0.2.1", 2)),
    ),
    "v2 UNIX": (v2(0x21, 0x31, bytes(216)), NOBODY),
    "v2 UNSPEC": (v2(0x21, 0x00, b"anything"), NOBODY),
    "v2 LOCAL": (v2(0x20, 0x00, b""), NOBODY),
    "v2 LOCAL, what follows ignored": (v2(0x20, 0x77, V4_ADDRESSES + b"\x04"), NOBODY),
    "v2 TLVs": (v2(0x21, 0x11, V4_ADDRESSES + tlv(2, b"a.example") + tlv(4, b"")), V4),
    "v2 checksum": (summed(V4_ADDRESSES), V4),
    "v2 checksum amid TLVs": (summed(V4_ADDRESSES, tlv(2, b"a.example"), tlv(4, b"\0" * 9)), V4),
    "v2 longest": (v2(0x21, 0x11, V4_ADDRESSES + tlv(4, bytes(4096 - 16 - 12 - 3))), V4),
}

BAD = {
    # The header, and how many of its bytes show that it is none.
    "neither": (b"GET / HTTP/1.1\r\n", 1),
    "RTMP": (b"\x03" + bytes(8), 1),
    "TLS": (b"\x16\x03\x01", 1),
    "v1 lower case": (b"PROXy ", 5),
    "an HTTP method": (b"POST /open/1 HTTP/1.1\r\n", 2),
    "v1 tab": (b"PROXY\tTCP4", 6),
    "v1 two spaces": (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", None),
    "v1 other family": (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", None),
    "v1 nothing more": (b"PROXY \r\n", None),
    "v1 UNKNOWNS": (b"PROXY UNKNOWNS\r\n", None),
    "v1 bare LF": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", None),
    "v1 bare LF, UNKNOWN": (b"PROXY UNKNOWN\n", None),
    "v1 CR amid": (b"PROXY UNKNOWN \r x\r\n", None),
    "v1 leading zero in an address": (b"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", None),
    "v1 short address": (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", None),
    "v1 number over 255": (b"PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", None),
    "v1 v6 as v4": (b"PROXY TCP4 ::1 ::1 1 2\r\n", None),
    "v1 v4 as v6": (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", None),
    "v1 v6 with a zone": (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", None),
    "v1 v6 with brackets": (b"PROXY TCP6 [::1] ::1 1 2\r\n", None),
    "v1 v6 with two gaps": (b"PROXY TCP6 1::2::3 ::1 1 2\r\n", None),
    "v1 port over 65535": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", None),
    "v1 port with leading zero": (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", None),
    "v1 port with sign": (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", None),
    "v1 no port": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", None),
    "v1 space at the end": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", None),
    "v1 too long": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", 107),
    "v1 endless": (b"PROXY TCP4 " + b"1" * 200, 107),
    "v2 signature": (b"\r\n\r\n\x00\r\nQUIT\r", 12),
    "v2 version 1": (v2(0x11, 0x11, V4_ADDRESSES), 13),
    "v2 command": (v2(0x22, 0x11, V4_ADDRESSES), 13),
    "v2 datagram": (v2(0x21, 0x12, V4_ADDRESSES), None),
    "v2 family": (v2(0x21, 0x41, V4_ADDRESSES), None),
    "v2 too short for v4": (v2(0x21, 0x11, V4_ADDRESSES[:-1]), None),
    "v2 too short for v6": (v2(0x21, 0x21, V4_ADDRESSES), None),
    "v2 too short for UNIX": (v2(0x21, 0x31, bytes(215)), None),
    "v2 half a TLV": (v2(0x21, 0x11, V4_ADDRESSES + b"\x04"), None),
    "v2 TLV without length": (v2(0x21, 0x11, V4_ADDRESSES + b"\x04\x00"), None),
    "v2 TLV over the end": (v2(0x21, 0x11, V4_ADDRESSES + b"\x04\x00\x02\x00"), None),
    "v2 wrong checksum": (v2(0x21, 0x11, V4_ADDRESSES + tlv(3, bytes(4))), None),
    "v2 short checksum": (v2(0x21, 0x11, V4_ADDRESSES + tlv(3, bytes(3))), None),
    "v2 huge": (SIGNATURE + b"\x21\x11\xff\xff", 16),
    "v2 one too long": (SIGNATURE + b"\x21\x11" + (4097 - 16).to_bytes(2, "big"), 16),
}


def good(parameters: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(parameters, list(GOOD.values()), ids=list(GOOD))


@good(("sent", "expected"))
def test_a_whole_header_is_read_and_the_bytes_after_the_header_are_left(
    sent: bytes, expected: ProxyHeader
) -> None:
    for after in (b"", b"\x03", b"PROXY UNKNOWN\r\n", SIGNATURE):
        reader = ProxyHeaderReader()
        assert reader.receive(sent + after) == len(sent)
        assert reader.header == expected


@good(("sent", "expected"))
def test_a_header_that_arrives_byte_by_byte_is_read(sent: bytes, expected: ProxyHeader) -> None:
    reader = ProxyHeaderReader()
    for byte in sent:
        assert reader.header is None
        assert reader.receive(bytes([byte])) == 1
    assert reader.header == expected


@given(st.data())
def test_a_header_is_read_in_any_segmentation(data: st.DataObject) -> None:
    sent, expected = data.draw(st.sampled_from(list(GOOD.values())))
    stream = sent + data.draw(st.binary(max_size=20))
    reader = ProxyHeaderReader()
    taken = 0
    while reader.header is None:
        size = data.draw(st.integers(1, 40))
        taken += reader.receive(stream[taken : taken + size])
    assert (taken, reader.header) == (len(sent), expected)


@pytest.mark.parametrize(("sent", "shown_at"), list(BAD.values()), ids=list(BAD))
def test_an_invalid_header_is_refused_at_its_first_wrong_byte(
    sent: bytes, shown_at: int | None
) -> None:
    with pytest.raises(BadProxyHeader):
        ProxyHeaderReader().receive(sent)
    shown_at = len(sent) if shown_at is None else shown_at
    reader = ProxyHeaderReader()
    for byte in sent[: shown_at - 1]:
        assert reader.receive(bytes([byte])) == 1
    assert reader.header is None
    with pytest.raises(BadProxyHeader):
        reader.receive(sent[shown_at - 1 : shown_at])


@given(st.binary() | st.builds(lambda rest: SIGNATURE + b"\x21" + rest, st.binary()))
def test_any_bytes_are_a_header_or_incomplete_or_refused(sent: bytes) -> None:
    reader = ProxyHeaderReader()
    try:
        taken = reader.receive(sent)
    except BadProxyHeader:
        return
    assert taken <= len(sent)
    assert reader.header is not None or taken == len(sent)


def test_the_refusal_names_the_version_and_the_cause() -> None:
    with pytest.raises(BadProxyHeader, match="version 1: port 70000"):
        ProxyHeaderReader().receive(b"PROXY TCP4 1.2.3.4 1.2.3.4 70000 2\r\n")


@pytest.mark.parametrize(
    ("data", "expected"),
    # RFC 3720, B.4, and the check value that catalogues of CRCs list.
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (b"123456789", 0xE3069283), (b"", 0)],
)
def test_crc32c_gives_the_published_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
