"""The system resolver's settings, resolv.conf(5): name servers and the search list."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from attrs import frozen

DNS_PORT: Final = 53
# The limits of resolv.conf(5): MAXNS, MAXDNSRCH with older libraries, and RES_MAXNDOTS.
_MOST_SERVERS: Final = 3
_MOST_DOMAINS: Final = 6
_MOST_NDOTS: Final = 15


@frozen
class ResolverSettings:
    """``servers``: addresses and ports. ``ndots``: names with at least so many dots are looked up as they
    are first, and others with each domain of ``search`` first.
    """

    servers: tuple[tuple[str, int], ...] = (("127.0.0.1", DNS_PORT),)
    search: tuple[str, ...] = ()
    ndots: int = 1

    def candidates(self, host: str) -> tuple[str, ...]:
        """The complete names that ``host`` can stand for, in the order of the look-ups."""
        if host.endswith("."):
            return (host.rstrip("."),)
        searched = tuple(f"{host}.{domain}" for domain in self.search)
        return (host, *searched) if host.count(".") >= self.ndots else (*searched, host)


def parse_resolver_settings(text: str) -> ResolverSettings:
    """Unknown and malformed lines are ignored, as the system's resolver does."""
    servers: list[tuple[str, int]] = []
    search: tuple[str, ...] = ()
    ndots = 1
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword == "nameserver" and values and _is_address(values[0]):
            servers.append((values[0], DNS_PORT))
        elif keyword in ("search", "domain") and values:
            search = tuple(each.strip(".") for each in values[:_MOST_DOMAINS])
        elif keyword == "options":
            for value in values:
                name, _, number = value.partition(":")
                if name == "ndots" and number.isascii() and number.isdecimal():
                    ndots = min(int(number), _MOST_NDOTS)
    chosen = tuple(servers[:_MOST_SERVERS]) or ResolverSettings().servers
    return ResolverSettings(chosen, tuple(filter(None, search)), ndots)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
