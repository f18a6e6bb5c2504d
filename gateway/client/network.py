"""A key for the network that this machine is in, from the source address towards the gateway and the
default routes.

Two networks with the same addresses have the same key. Then the remembered way of one is tried first in the
other, which costs its head start if it does not get through.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Final

# The part of the source address that is used: the usual size of a local network, and of an IPv6 subnet.
_PREFIX_BITS: Final = {socket.AF_INET: 24, socket.AF_INET6: 64}
_ROUTES: Final = (Path("/proc/net/route"), Path("/proc/net/ipv6_route"))
# The tables of a router can be larger; the rest is not read.
_MOST_BYTES: Final = 64 * 1024
_KEY_DIGITS: Final = 32
# A connect of UDP sends nothing.
_ANY_PORT: Final = 9


def network_key(gateway: str, hosts: Iterable[str], proxy: str = "") -> str:
    """The key of the current network for connections to ``gateway``, whose addresses are ``hosts``, through
    ``proxy``, if there is one. It is a digest, which does not show where the machine has been.
    """
    sources = sorted({_source_network(host) for host in hosts})
    routes = sorted(route for path in _ROUTES for route in default_routes(_read(path)))
    text = "\n".join((gateway, proxy, *sources, *routes))
    return sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def default_routes(table: str) -> list[str]:
    """The gateways of the default routes in a table of Linux (proc(5): net/route, net/ipv6_route)."""
    found = []
    for line in table.splitlines():
        words = line.split()
        if len(words) > 7 and words[1] == words[7] == "0" * 8:
            found.append(words[2])
        elif len(words) > 4 and words[0] == "0" * 32 and words[1] == "00":
            found.append(words[4])
    return found


def _source_network(host: str) -> str:
    """The network of the source address of connections to ``host``; empty without a route."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host.partition("%")[0], _ANY_PORT))
            source = str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""
    return str(ip_network(f"{source}/{_PREFIX_BITS[family]}", strict=False))


def _read(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return ""
