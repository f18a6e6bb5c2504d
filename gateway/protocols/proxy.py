"""Parser of the PROXY protocol, versions 1 and 2, with which a proxy sends the client's address.

    https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt

    version 1   "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\\r\\n", at most 107 bytes
    version 2   signature (12)  version and command (1)  family (1)  length (2)  addresses  TLVs

Rules:

- The header is the first data of a connection. It may arrive in pieces, and other data may follow it:
  ``receive`` returns how many of the given bytes belong to the header.
- A malformed header is refused at its first wrong byte.
- ``LOCAL``, ``UNKNOWN``, ``UNSPEC`` and UNIX sockets name no client: the connection's own address is used.
- TLVs are skipped, but their lengths must be consistent, and a checksum must be correct.

This module does not know which peers may send a header. Only trusted proxies may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, final

from attrs import frozen

from gateway.errors import BadProxyHeader

# The longest header of version 1 in the specification, with its line end.
_V1_BYTES: Final = 107
_V1_START: Final = b"PROXY "
_V1_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?"
    rb"|(TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))\r\n"
)

_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_BYTES: Final = 16
# The longest addresses, of UNIX sockets, have 216 bytes, and the TLVs of load balancers some hundreds;
# names of client certificates can add more. The format allows 64 KiB, which every connection could make us
# store.
_V2_BYTES: Final = 4096
_LOCAL: Final = 0x20
_PROXY: Final = 0x21

# The size of an address by family and transport; the ports follow both addresses. Listeners do not accept
# datagrams.
_TCP_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}
_UNIX: Final = 0x31
_UNIX_ADDRESSES_BYTES: Final = 2 * 108
_UNSPEC: Final = 0x00

_TLV_CRC32C: Final = 0x03


@frozen
class Endpoint:
    """One end of the client's connection. IPv4-mapped addresses are converted to IPv4."""

    address: str
    port: int


@frozen
class ProxyHeader:
    """The contents of a header; None if it names no client."""

    source: Endpoint | None = None
    destination: Endpoint | None = None


@final
class ProxyHeaderReader:
    """Reads the header of one connection, in pieces of any size."""

    __slots__ = ("_received", "header")

    def __init__(self) -> None:
        self._received = b""
        self.header: ProxyHeader | None = None

    def receive(self, data: bytes) -> int:
        """Process the next bytes. Returns how many of them belong to the header.

        While ``header`` is None, all of them do. Must not be called once it is set. A caller that has only
        peeked must remove this number of bytes from the socket. Raises BadProxyHeader; the connection must
        then be closed.
        """
        before = len(self._received)
        received = self._received + data
        length = _header_bytes(received)
        if length is None or length > len(received):
            self._received = received
            return len(data)
        self.header = _read(received[:length])
        self._received = b""
        return length - before


def _header_bytes(received: bytes) -> int | None:
    """The length of the header, or None if it is not known yet."""
    if received[:1] == _V1_START[:1]:
        return _v1_bytes(received)
    return _v2_bytes(received)


def _v1_bytes(received: bytes) -> int | None:
    if not _begins(received, _V1_START):
        raise BadProxyHeader("no PROXY protocol header")
    end = received.find(b"\n", 0, _V1_BYTES) + 1
    if not end and len(received) >= _V1_BYTES:
        raise BadProxyHeader(f"version 1: no line end within {_V1_BYTES} bytes")
    return end or None


def _v2_bytes(received: bytes) -> int | None:
    if not _begins(received, _V2_SIGNATURE):
        raise BadProxyHeader("no PROXY protocol header")
    if len(received) > 12 and received[12] not in (_LOCAL, _PROXY):
        raise BadProxyHeader(f"version 2: version and command {received[12]:#04x}")
    if len(received) < _V2_FIXED_BYTES:
        return None
    length = _V2_FIXED_BYTES + int.from_bytes(received[14:16], "big")
    if length > _V2_BYTES:
        raise BadProxyHeader(f"version 2: {length} bytes, over {_V2_BYTES}")
    return length


def _begins(received: bytes, expected: bytes) -> bool:
    """Whether one is a prefix of the other."""
    return received[: len(expected)] == expected[: len(received)]


def _read(header: bytes) -> ProxyHeader:
    return _read_v1(header) if header.startswith(_V1_START) else _read_v2(header)


def _read_v1(line: bytes) -> ProxyHeader:
    match = _V1_LINE.fullmatch(line)
    if match is None:
        raise BadProxyHeader(f"version 1: cannot read {line!r}")
    family, source, destination, source_port, destination_port = match.groups()
    if family is None:
        return ProxyHeader()
    return ProxyHeader(
        _v1_endpoint(family, source, source_port),
        _v1_endpoint(family, destination, destination_port),
    )


def _v1_endpoint(family: bytes, address: bytes, port: bytes) -> Endpoint:
    version = IPv4Address if family == b"TCP4" else IPv6Address
    if int(port) > 0xFFFF:
        raise BadProxyHeader(f"version 1: port {int(port)}")
    try:
        return _endpoint(version(address.decode("ascii")), int(port))
    except ValueError:
        raise BadProxyHeader(f"version 1: {address!r} is no {family.decode()} address") from None


def _read_v2(header: bytes) -> ProxyHeader:
    family = header[13]
    # The specification says that the rest of a LOCAL header must be ignored. UNSPEC does not define where
    # its addresses end.
    if header[12] == _LOCAL or family == _UNSPEC:
        return ProxyHeader()
    if family == _UNIX:
        _check_tlvs(header, _V2_FIXED_BYTES + _UNIX_ADDRESSES_BYTES)
        return ProxyHeader()
    size = _TCP_ADDRESS_BYTES.get(family)
    if size is None:
        raise BadProxyHeader(f"version 2: family and transport {family:#04x}")
    return _read_v2_tcp(header, size)


def _read_v2_tcp(header: bytes, size: int) -> ProxyHeader:
    ports = _V2_FIXED_BYTES + 2 * size
    _check_tlvs(header, ports + 4)
    return ProxyHeader(
        _v2_endpoint(header[ports - 2 * size : ports - size], header[ports : ports + 2]),
        _v2_endpoint(header[ports - size : ports], header[ports + 2 : ports + 4]),
    )


def _v2_endpoint(packed: bytes, port: bytes) -> Endpoint:
    return _endpoint(ip_address(packed), int.from_bytes(port, "big"))


def _endpoint(address: IPv4Address | IPv6Address, port: int) -> Endpoint:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Endpoint(str(address), port)


def _check_tlvs(header: bytes, start: int) -> None:
    if start > len(header):
        raise BadProxyHeader(f"version 2: {len(header)} bytes, too short for its addresses")
    for kind, place, length in _tlvs(header, start):
        if kind == _TLV_CRC32C:
            _check_sum(header, place, length)


def _tlvs(header: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """The type, position and length of the value of each TLV."""
    while place < len(header):
        value = place + 3
        length = int.from_bytes(header[place + 1 : value], "big")
        if value + length > len(header):
            raise BadProxyHeader("version 2: a TLV ends after the header")
        yield header[place], value, length
        place = value + length


def _check_sum(header: bytes, place: int, length: int) -> None:
    """Check the checksum, which is over the whole header with zeros in its own place."""
    if length != 4:
        raise BadProxyHeader(f"version 2: a checksum of {length} bytes")
    zeroed = header[:place] + bytes(4) + header[place + 4 :]
    if crc32c(zeroed) != int.from_bytes(header[place : place + 4], "big"):
        raise BadProxyHeader("version 2: wrong checksum")


def _crc32c_row(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


# Castagnoli's polynomial, low bit first (RFC 9260, Appendix A). zlib's CRC32 has another one.
_CRC32C: Final = tuple(_crc32c_row(value) for value in range(256))


def crc32c(data: bytes) -> int:
    """The CRC32C of ``data``."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = (remainder >> 8) ^ _CRC32C[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF
