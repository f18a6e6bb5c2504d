"""The settings of the tunnel client, and their defaults."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from attrs import field, frozen

from gateway.addresses import ListenAddress, TcpAddress
from gateway.http_proxies import NO_PROXIES, Proxies
from gateway.port_test.ways import DEFAULT_PORTS, Protocol, Way

DEFAULT_LISTEN: Final = "127.0.0.1:1935"
# The order of the race: plain RTMP has the least delay, and a tunnel gets through most firewalls.
WAYS: Final = tuple(Way(protocol, DEFAULT_PORTS[protocol]) for protocol in Protocol)
# A program publishes and plays a few streams. Each takes up to a megabyte while the gateway does not read.
MOST_CONNECTIONS: Final = 32
# Encoders give up a server after 10 s or more.
TIMEOUT_S: Final = 10.0


@frozen
class Settings:
    """``host``: the gateway's name or IP address. ``ways``: to try, in this order.

    ``proxies``: of those ways that are proxied. ``context``: verifies the gateway's certificate.
    ``state_file``: the memory of ways; None for none. ``metrics``: where they are served; None for nowhere.
    ``timeout_s``: until a way must have answered.
    ``allows_remote``: whether programs of other machines may connect.
    """

    host: str
    ways: tuple[Way, ...]
    context: ssl.SSLContext = field(repr=False)
    listen: tuple[ListenAddress, ...]
    proxies: Proxies = NO_PROXIES
    state_file: Path | None = None
    metrics: TcpAddress | None = None
    most_connections: int = MOST_CONNECTIONS
    timeout_s: float = TIMEOUT_S
    allows_remote: bool = False
    log_level: str = "info"
