"""The server name (SNI) in the first bytes of a TLS connection, before any TLS engine has read them.

Python's ``ssl`` decodes the name as ASCII before it calls its callback. For any other name the handshake
fails, and an "Exception ignored" message with a traceback is written. Such a name has to be found before.

    record     type 22, version (2), length (2)                            RFC 8446, 5.1
    handshake  type 1, length (3), version (2), random (32)                RFC 8446, 4.1.2
               session id <1>, cipher suites <2>, compression methods <1>
               extensions <2>: type (2), data <2>; type 0 is server_name   RFC 6066, 3

Only the bytes of one read are looked at: None also for a ClientHello that is malformed, or not whole yet.
"""

from __future__ import annotations

from typing import Final

_RECORD_HEAD_BYTES: Final = 5
# Handshake type and length, version and random.
_FIXED_BYTES: Final = 4 + 2 + 32
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_MOST_EXTENSIONS: Final = 100


def server_name_of(data: bytes) -> bytes | None:
    """The host name of the server_name extension; None if there is none, or none can be read."""
    try:
        return _host_name(data)
    except IndexError:
        return None


def _host_name(data: bytes) -> bytes | None:
    place = _RECORD_HEAD_BYTES + _FIXED_BYTES
    for length_bytes in (1, 2, 1):
        place += length_bytes + _number(data, place, length_bytes)
    place += 2
    for _ in range(_MOST_EXTENSIONS):
        kind, length = _number(data, place, 2), _number(data, place + 2, 2)
        if kind == _SERVER_NAME:
            return _first_host_name(data, place + 4)
        place += 4 + length
    return None


def _first_host_name(data: bytes, place: int) -> bytes | None:
    """``place`` is where the list of names begins: length (2), then each name's type (1) and length (2)."""
    kind, length = data[place + 2], _number(data, place + 3, 2)
    begin = place + 5
    if kind != _HOST_NAME or begin + length > len(data):
        return None
    return data[begin : begin + length]


def _number(data: bytes, place: int, length: int) -> int:
    """Big-endian. Raises IndexError where ``data`` ends before."""
    if place + length > len(data):
        raise IndexError(place)
    return int.from_bytes(data[place : place + length], "big")
