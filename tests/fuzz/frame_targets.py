"""Targets of other readers: the first bytes of connections, frames between nodes, and names."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.names import dns

from gateway.addresses import is_host
from gateway.errors import BadProxyHeader
from gateway.port_test.certificates import read_certificate
from gateway.protocols import peering
from gateway.protocols.client_hello import server_name_of
from gateway.protocols.commands import Kind
from gateway.protocols.offers import MalformedOffer, Offer, read_offer
from gateway.protocols.proxy import ProxyHeader, ProxyHeaderReader
from gateway.protocols.service_records import MOST_TARGETS, usable
from gateway.protocols.service_records import Target as ServiceTarget
from gateway.protocols.sniff import DECIDING_BYTES, WireProtocol, wire_protocol_of
from tests.fuzz.inputs import COMPARED_BYTES, in_pieces
from tests.fuzz.target import Target
from tests.helpers.certificate_makers import NOW, issue


def _header(pieces: Iterator[bytes]) -> tuple[ProxyHeader | None, int, bool]:
    """The PROXY header, its size, and whether the connection was refused."""
    reader, size = ProxyHeaderReader(), 0
    try:
        for piece in pieces:
            size += reader.receive(piece)
            if reader.header is not None:
                return reader.header, size, False
    except BadProxyHeader:
        return None, 0, True
    return None, size, False


def _first_bytes(data: bytes) -> None:
    """The first bytes of a connection."""
    assert _header(in_pieces(data)) == _header(iter([data[1:]]))
    content = data[1:]
    protocol = wire_protocol_of(content)
    assert protocol == wire_protocol_of(content[:DECIDING_BYTES])
    for at in range(min(len(content), DECIDING_BYTES)):
        assert wire_protocol_of(content[:at]) in (None, protocol, WireProtocol.UNKNOWN)
    name = server_name_of(content)
    assert name is None or name in content


def _frames(pieces: Iterator[bytes], greeting: bytes) -> list[peering.Frame] | None:
    reader = peering.FrameReader(greeting)
    try:
        return [frame for piece in pieces for frame in reader.receive(piece)]
    except peering.OutOfStep:
        return None


def _peering(data: bytes) -> None:
    for greeting in (b"", peering.GREETING):
        stream = greeting + data[1:]
        frames = _frames(in_pieces(data[:1] + stream), greeting)
        if len(stream) <= COMPARED_BYTES:
            assert frames == _frames(iter([stream]), greeting)
        for _, _, payload in frames or ():
            for read in (peering.read_command, peering.read_connection_and_session):
                with suppress(peering.OutOfStep):
                    read(payload)


def _offers(data: bytes) -> None:
    with suppress(MalformedOffer):
        offer = read_offer(data, 3)
        assert offer.message == data


def _service_records(data: bytes) -> None:
    """An answer of a name server, decoded by Twisted, which handles its own errors."""
    message = dns.Message()
    try:
        message.fromStr(data)
    except Exception:
        return
    records = [each.payload for each in message.answers if each.type == dns.SRV]
    targets = usable(
        (
            ServiceTarget(each.priority, each.target.name.decode("ascii", "replace"), each.port, 1)
            for each in records
        ),
        is_host,
    )
    assert len(targets) <= MOST_TARGETS


def _certificates(data: bytes) -> None:
    """The certificate of a server whose chain is not verified."""
    found = read_certificate(data, NOW)
    if found is not None:
        for text in (found.subject, found.issuer, *found.names):
            assert len(text) <= 255
            assert text.isprintable()


def _client_hello() -> bytes:
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="a.test")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def _answer() -> bytes:
    message = dns.Message(1, answer=1)
    for number in range(3):
        record = dns.Record_SRV(number, 1, 1935, b"media%d.example.org" % number)
        message.answers.append(dns.RRHeader(b"_rtmp._tcp.example.org", dns.SRV, payload=record))
    return message.toStr()


_FRAMES = (
    peering.command_head(1, b"session", Kind.SEND, 2, 4, 3, peering.MAY_HOLD, b"via")
    + b"body"
    + peering.frame(peering.SOURCE_LOST, 0, peering.connection_and_session(3, b"session"))
)
_V1_HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n\x03"
_V2_HEADER = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x13\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"
    b"\x03\x00\x04abcd\x03"
)

TARGETS = {
    "first_bytes": Target(
        _first_bytes,
        [
            b"\0" + first
            for first in (_V1_HEADER, _V2_HEADER, _client_hello(), b"GET / HTTP/1.1\r\n\r\n")
        ],
    ),
    "peering": Target(_peering, [size + _FRAMES for size in (b"\0", b"\x01", b"\x20")]),
    "offers": Target(
        _offers, [Offer(1, "192.0.2.1", b"POST /send/id/1 HTTP/1.1").message], once_bytes=0
    ),
    "certificates": Target(
        _certificates,
        [
            issue("a.test", names=["a.test", "b.test"]).certificate.public_bytes(Encoding.DER),
            issue("a.test", authority=True).certificate.public_bytes(Encoding.DER),
        ],
        once_bytes=0,
    ),
    "service_records": Target(_service_records, [_answer()], once_bytes=0),
}
