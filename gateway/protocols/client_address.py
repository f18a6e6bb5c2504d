"""The client's address behind HTTP proxies: ``X-Forwarded-For`` and ``Forwarded`` (RFC 7239).

Each proxy appends the address of its own peer. The fields are used only if the peer is trusted. They are
read from the right: the first address outside the trusted networks is the client's. If all are trusted, the
leftmost is. An element without an address ("unknown", ``_name``, or malformed) ends the search, and the
client's address is that of the proxy that wrote the element.

If a request has both fields, only ``X-Forwarded-For`` is used: most proxies set it, and pass on a
``Forwarded`` that the client may have forged. A proxy that sets only ``Forwarded`` must remove the other.

This module does not know connections, or the use of the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from attrs import frozen

from gateway.errors import AddressDenied
from gateway.protocols.fields import TOKEN, Items, values
from gateway.protocols.networks import Admission, Networks

# A longer chain of proxies is a loop, or forged.
_LONGEST_CHAIN = 32
# What is read of ``Forwarded``, at its end. Each address costs a search of it: 1 ms for so many bytes.
_MOST_FORWARDED_BYTES = 4096
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_PAIR = rb"(?:" + TOKEN + rb")=(?:" + TOKEN + rb"|" + _QUOTED + rb")"
_ELEMENT = _PAIR + rb"(?:[ \t]*;[ \t]*" + _PAIR + rb")*+"
_FORWARDED = re.compile(_ELEMENT + rb"(?:[ \t]*,[ \t]*" + _ELEMENT + rb")*+")
# The longest well-formed element at the end of a list, whatever precedes it.
_LAST_ELEMENT = re.compile(rb"(?:^|,)[ \t]*(" + _ELEMENT + rb")[ \t]*$")
_FOR = re.compile(rb"(?:^|;)[ \t]*for=(?:\"([^\"]*)\"|([^;, \t]*))", re.IGNORECASE)
_NODE = re.compile(
    rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)"
)
_IN_LIST = re.compile(rb"[ \t]*[0-9A-Za-z._:\[\]-]+[ \t]*")


@frozen
class Proxies:
    """The HTTP proxies that a listener trusts, and its access rules for their clients."""

    trusted: Networks
    admission: Admission

    def client_of(self, items: Items, peer: str) -> str:
        """The address of the client whose request the trusted proxy ``peer`` has forwarded.

        Raises AddressDenied if the listener's access rules deny it.
        """
        client = client_address(items, peer, self.trusted)
        if not self.admission.permits(client):
            raise AddressDenied(f"{client or 'a local client'} is denied")
        return client


def client_address(items: Items, peer: str, trusted: Networks) -> str:
    """The client's address according to the trusted proxies; ``peer`` is the last of them."""
    client = peer
    for hops, address in enumerate(_chain(items)):
        if not address or hops == _LONGEST_CHAIN:
            break
        client = address
        if not trusted.holds(address):
            break
    return client


def trusted_lists(items: Items) -> tuple[list[bytes], list[bytes]]:
    """The values of ``X-Forwarded-For`` and ``Forwarded``; an empty list for a malformed one."""
    clients = b", ".join(filter(None, values(items, b"x-forwarded-for")))
    forwarded = b", ".join(filter(None, values(items, b"forwarded")))
    return (
        [clients] if all(map(_IN_LIST.fullmatch, clients.split(b","))) else [],
        [forwarded] if _is_well_formed(forwarded) else [],
    )


def _chain(items: Items) -> Iterator[str]:
    """The addresses of the chain, the last proxy's first; "" for an element without one."""
    clients = values(items, b"x-forwarded-for")
    if clients:
        return map(_address_of, reversed(b",".join(clients).split(b",")))
    return _forwarded_chain(_end_of(b",".join(values(items, b"forwarded"))))


def _is_well_formed(forwarded: bytes) -> bool:
    """Whether it can be passed on, which one that is too long to be read cannot."""
    is_short = len(forwarded) <= _MOST_FORWARDED_BYTES
    return is_short and _FORWARDED.fullmatch(forwarded) is not None


def _end_of(listed: bytes) -> bytes:
    """The part of ``Forwarded`` that is read."""
    if len(listed) <= _MOST_FORWARDED_BYTES:
        return listed
    # No element has this byte, so that the rest of the one that was cut is none.
    return b"\0" + listed[-_MOST_FORWARDED_BYTES:]


def _forwarded_chain(listed: bytes) -> Iterator[str]:
    while match := _LAST_ELEMENT.search(listed):
        node = _FOR.search(match[1])
        yield _address_of(node[1] or node[2] or b"") if node else ""
        listed = listed[: match.start()]


def _address_of(node: bytes) -> str:
    """The IP address of a node, without its port; "" if it has none."""
    match = _NODE.fullmatch(node.strip(b" \t"))
    if match is None:
        return ""
    try:
        address = ip_address((match[1] or match[2] or match[3]).decode("ascii"))
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
