"""Protocol detection from the first bytes of a connection.

Every port accepts every protocol, so only the first bytes distinguish them. Each protocol has table rows
with the values allowed at each position. Rules:

- A row matches when all of its positions have an allowed value, and is excluded by the first other value;
  if all are excluded, the protocol is unknown. No row is the beginning of another, so the result does not
  depend on how the bytes were cut into segments, and requires at most ``DECIDING_BYTES``.
- A row must match one protocol only. A capital letter can begin SSH's greeting ("SSH-2.0") as well as a
  method of HTTP, so a row for HTTP has a method of up to three letters and its space, or four letters.
- The bytes that follow are not checked here; the reader of the protocol does that.

Which protocols a listener allows, and what is done with an unknown one, is decided elsewhere.
"""

from __future__ import annotations

from enum import Enum
from string import ascii_uppercase
from typing import Final

from gateway.protocols.flash_policy import SOCKET_REQUEST


class WireProtocol(Enum):
    """The value is the label that logs and metrics show."""

    RTMP = "rtmp"
    RTMPE = "rtmpe"
    HTTP = "http"
    TLS = "tls"
    POLICY = "policy"
    UNKNOWN = "unknown"


# RFC 9110, Methods, lets a method be any token; all that are registered begin with letters, in capitals,
# and have three or more of them.
_LETTER: Final = ascii_uppercase.encode()
_SPACE: Final = b" "

# RFC 8446, 5.1: a record of type handshake, its version (3.1 by nearly all, 3.3 by some), and a length of
# at most 2^14; then the type of the message, which is a ClientHello.
_CLIENT_HELLO: Final = (
    b"\x16",
    b"\x03",
    bytes(range(0x05)),
    bytes(range(0x41)),
    bytes(range(0x100)),
    b"\x01",
)

# The allowed values of each position.
_ROWS: Final[tuple[tuple[WireProtocol, tuple[bytes, ...]], ...]] = (
    (WireProtocol.RTMP, (b"\x03",)),
    (WireProtocol.RTMPE, (b"\x06\x08\x09",)),
    (WireProtocol.HTTP, (_LETTER, _SPACE)),
    (WireProtocol.HTTP, (_LETTER, _LETTER, _SPACE)),
    (WireProtocol.HTTP, (_LETTER, _LETTER, _LETTER, _SPACE)),
    (WireProtocol.HTTP, (_LETTER, _LETTER, _LETTER, _LETTER)),
    (WireProtocol.TLS, _CLIENT_HELLO),
    # No other protocol begins so.
    (WireProtocol.POLICY, tuple(bytes([octet]) for octet in SOCKET_REQUEST)),
)

DECIDING_BYTES: Final = max(len(places) for _, places in _ROWS)


def wire_protocol_of(first_bytes: bytes) -> WireProtocol | None:
    """The protocol of a connection; None if more bytes are required.

    ``first_bytes``: all bytes from the connection's first one on; those after ``DECIDING_BYTES`` are
    ignored.
    """
    undecided = False
    for protocol, places in _ROWS:
        if all(byte in place for byte, place in zip(first_bytes, places, strict=False)):
            if len(first_bytes) >= len(places):
                return protocol
            undecided = True
    return None if undecided else WireProtocol.UNKNOWN
