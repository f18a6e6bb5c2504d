"""Whom a listener takes, and which proxies it believes: addresses against networks.

Rules:

- IPv4 and IPv4 in IPv6's clothes (``::ffff:192.0.2.1``) are the same, in networks and in addresses: which
  of the two a client comes in as depends only on how the listener was opened.
- An address that is none (a UNIX socket's peer has "") is in no network.
- ``deny`` wins over ``allow``; an empty ``allow`` lets in everyone.

Networks become masks once, since every accepted connection is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from attrs import frozen

Network = IPv4Network | IPv6Network

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@frozen
class _Masked:
    """Networks of one version of IP: each a mask and what is left of an address under it."""

    pairs: tuple[tuple[int, int], ...]

    def holds(self, address: int) -> bool:
        return any(address & mask == left for mask, left in self.pairs)


@frozen
class Networks:
    """Networks of both versions, to be asked about addresses; none hold no address."""

    v4: _Masked
    v6: _Masked

    @classmethod
    def of(cls, networks: Iterable[Network]) -> Networks:
        plain = [_unmapped_network(network) for network in networks]
        return cls(_masked(plain, 4), _masked(plain, 6))

    def __bool__(self) -> bool:
        return bool(self.v4.pairs or self.v6.pairs)

    def holds(self, address: str) -> bool:
        """Whether ``address`` is in one of them."""
        if not self:
            return False
        try:
            parsed = _unmapped(ip_address(address))
        except ValueError:
            return False
        return (self.v4 if parsed.version == 4 else self.v6).holds(int(parsed))


@frozen
class Admission:
    """Whose connections a listener takes."""

    allow: Networks
    deny: Networks

    @classmethod
    def of(cls, allow: Iterable[Network], deny: Iterable[Network]) -> Admission:
        return cls(Networks.of(allow), Networks.of(deny))

    def permits(self, address: str) -> bool:
        """Whether a client of this address may come in."""
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
