"""The ways of a race where HTTP proxies are configured.

by --proxy              every way through this proxy, and none past it
by the environment      first each way as programs send it: plain RTMP past the proxy, the others through
                        it; then plain RTMP through it; last the others past it, in a network without the
                        proxy of the usual one
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from gateway.http_proxies import Proxies, ProxyURL
from gateway.port_test.ways import Protocol, Way


@frozen
class ProxiedWay(Way):
    """A way through an HTTP proxy."""

    def __str__(self) -> str:
        return f"{self.protocol.value}:{self.port} by proxy"


def with_proxies(ways: Sequence[Way], proxies: Proxies, is_only: bool) -> tuple[Way, ...]:
    """All ways in their order. ``is_only``: whether none is to go past the proxies."""
    proxied = {way: ProxiedWay(way.protocol, way.port) for way in ways if proxy_of(way, proxies)}
    if is_only:
        return tuple(proxied.values())
    usual = [way if way.protocol is Protocol.RTMP else proxied.get(way, way) for way in ways]
    # Without repetitions, in the order of their first mention.
    return tuple(dict.fromkeys((*usual, *proxied.values(), *ways)))


def proxy_of(way: Way, proxies: Proxies) -> ProxyURL | None:
    """The proxy for a way. CONNECT, for all but RTMPT, is asked of the one for TLS."""
    return proxies.plain if way.protocol is Protocol.RTMPT else proxies.secure
