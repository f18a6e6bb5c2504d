"""The servers of one ``[[upstream]]``, and the order in which they are tried for a new session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from gateway.addresses import ServerAddress
from gateway.upstreams.dial import Server
from gateway.upstreams.tls_client import ClientTLS

# As ``[[upstream]] choose`` has them.
Choice = Literal["first", "round_robin", "fewest_sessions"]
# As ``[[upstream]] proxy_protocol`` has them.
ProxyProtocol = Literal["off", "v1", "v2"]


@final
class Group:
    """``proxy_protocol``: which header tells the servers the client's address. ``tls``: for those with
    "rtmps://". ``source_address``: from which they are connected to; empty if the system chooses it.
    """

    def __init__(
        self,
        addresses: Sequence[ServerAddress],
        choose: Choice = "first",
        proxy_protocol: ProxyProtocol = "off",
        tls: ClientTLS | None = None,
        source_address: str = "",
    ) -> None:
        self.servers = [
            Server(address, "upstream", proxy_protocol, tls, source_address)
            for address in addresses
        ]
        self._choose = choose
        self._turn = 0

    def in_order(self) -> list[Server]:
        """All servers, those to be tried first in front."""
        if self._choose == "first":
            return self.servers
        self._turn = (self._turn + 1) % len(self.servers)
        rotated = self.servers[self._turn :] + self.servers[: self._turn]
        if self._choose == "round_robin":
            return rotated
        # Of those with equally many, another one each time.
        return sorted(rotated, key=lambda server: server.connections)
