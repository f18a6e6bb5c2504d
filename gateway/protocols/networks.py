"""Access rules by client address: a listener's allowed and denied networks, and its trusted proxies.

Rules:

- IPv4 addresses and IPv4-mapped IPv6 addresses (``::ffff:192.0.2.1``) are equal, in networks and addresses:
  which of them a client has depends only on how the listener was opened.
- A string that is not an IP address (the peer of a UNIX socket has "") is in no network.
- ``deny`` takes precedence over ``allow``; an empty ``allow`` permits all clients.

Networks are converted to masks once, because every accepted connection is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from attrs import frozen

Network = IPv4Network | IPv6Network

# An IPv6 client has at least a /64 (RFC 6177), so limits on single addresses would have no effect.
_CLIENT_BITS: Final = 64
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@frozen
class _Masked:
    """Networks of one IP version, as pairs of a mask and a network number."""

    pairs: tuple[tuple[int, int], ...]

    def holds(self, address: int) -> bool:
        return any(address & mask == left for mask, left in self.pairs)


@frozen
class Networks:
    """A set of IPv4 and IPv6 networks. An empty set holds no address."""

    v4: _Masked
    v6: _Masked

    @classmethod
    def of(cls, networks: Iterable[Network]) -> Networks:
        plain = [_unmapped_network(network) for network in networks]
        return cls(_masked(plain, 4), _masked(plain, 6))

    def __bool__(self) -> bool:
        return bool(self.v4.pairs or self.v6.pairs)

    def holds(self, address: str) -> bool:
        """Whether ``address`` is in one of the networks."""
        if not self:
            return False
        try:
            parsed = _unmapped(ip_address(address))
        except ValueError:
            return False
        return (self.v4 if parsed.version == 4 else self.v6).holds(int(parsed))


def client_network(address: str) -> str:
    """The part of a client's address by which clients are counted: an IPv4 address, also if it is mapped,
    or the /64 network of an IPv6 address. A string that is not an IP address stays as it is.
    """
    try:
        parsed = _unmapped(ip_address(address))
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Address(int(parsed) >> _CLIENT_BITS << _CLIENT_BITS))


NO_NETWORKS: Final = Networks(_Masked(()), _Masked(()))


@frozen
class Admission:
    """The access rules of a listener."""

    allow: Networks
    deny: Networks

    @classmethod
    def of(cls, allow: Iterable[Network], deny: Iterable[Network]) -> Admission:
        return cls(Networks.of(allow), Networks.of(deny))

    def permits(self, address: str) -> bool:
        """Whether the rules permit a client with this address."""
        if self.deny.holds(address):
            return False
        return not self.allow or self.allow.holds(address)


def _masked(networks: Iterable[Network], version: int) -> _Masked:
    return _Masked(
        tuple(
            (int(network.netmask), int(network.network_address))
            for network in networks
            if network.version == version
        )
    )


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _unmapped_network(network: Network) -> Network:
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    left = int(network.network_address) & 0xFFFFFFFF
    return IPv4Network((left, network.prefixlen - _MAPPED.prefixlen))
