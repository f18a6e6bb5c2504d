"""Offers of client connections between two workers of a gateway.

A worker offers a connection to the worker that owns the session of the connection's first request, as one
message beside the connection's descriptor:

    2 bytes    number of the listener, in the order of the configuration
    1 byte     length of the address
    ...        address of the client; empty for a local one
    ...        all bytes that have been read from the connection

All numbers are big-endian. Each message is answered by one byte, ``TAKEN`` or ``DECLINED``, in the order of
the offers. Both workers must have the same configuration, or they would number other listeners.
"""

from __future__ import annotations

from ipaddress import ip_address
from struct import Struct
from typing import Final

from attrs import frozen

from gateway.errors import RequestRefused
from gateway.protocols.commands import command_of
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import Limits

# Part of the name of the sockets, so that workers of versions with different messages never meet.
VERSION: Final = 1
TAKEN: Final = b"\x01"
DECLINED: Final = b"\x00"

_HEAD: Final = Struct("!HB")
_HEAD_BYTES: Final = _HEAD.size
# One read of a connection (``transport.READ_BYTES``), and the bytes before it that left its protocol open.
_FIRST_BYTES: Final = 64 * 1024 + 64
# The longest textual form of an address, with a zone.
_ADDRESS_BYTES: Final = 64
MOST_BYTES: Final = _HEAD_BYTES + _ADDRESS_BYTES + _FIRST_BYTES


class MalformedOffer(Exception):
    """The message of another worker is no offer."""


@frozen
class Offer:
    """``listener``: its number. ``address``: of the client, or "". ``first``: the bytes read so far; there
    are some.
    """

    listener: int
    address: str
    first: bytes

    @property
    def message(self) -> bytes:
        """Longer than ``MOST_BYTES`` if it cannot be sent."""
        address = self.address.encode()
        return _HEAD.pack(self.listener, len(address)) + address + self.first


def read_offer(message: bytes, listeners: int) -> Offer:
    """``listeners``: their number. Raises MalformedOffer."""
    if len(message) <= _HEAD_BYTES:
        raise MalformedOffer("an offer without its head")
    listener, address_bytes = _HEAD.unpack_from(message)
    first_at = _HEAD_BYTES + address_bytes
    if address_bytes > _ADDRESS_BYTES or not first_at < len(message) <= first_at + _FIRST_BYTES:
        raise MalformedOffer(f"an offer of {len(message)} bytes")
    if listener >= listeners:
        raise MalformedOffer(f"an offer of listener {listener} of {listeners}")
    return Offer(listener, _address(message[_HEAD_BYTES:first_at]), message[first_at:])


def _address(data: bytes) -> str:
    try:
        address = data.decode("ascii")
        if address:
            ip_address(address)
    except ValueError:
        raise MalformedOffer("an offer without a valid address") from None
    return address


def session_of_first_request(first: bytes, limits: Limits) -> bytes:
    """The id of the session whose command a persistent HTTP connection begins with.

    b"" if it begins with another request, with an incomplete head, or if it is closed after the command.
    """
    reader = RequestReader(limits)
    reader.receive(first)
    try:
        fields = reader.next_head()
    except RequestRefused:
        return b""
    if fields is None or not fields.persistent:
        return b""
    command = command_of(reader.method, reader.target)
    return b"" if command is None else command[1]
