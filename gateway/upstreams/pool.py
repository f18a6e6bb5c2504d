"""The servers of one upstream, which stand in for each other: taken in turn, the next one on failure.

A server that failed is tried last for a while, so that its dead address costs one client its connect
timeout and not every client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from gateway.addresses import ServerAddress
from gateway.errors import ConfigurationError, UpstreamUnavailable
from gateway.protocols.limits import Limits
from gateway.upstreams.dial import Server, dial

_log = Logger()

# Long enough that a dead server costs few clients, short enough that a restarted one is soon back.
_AVOIDED_S = 10.0


class Telemetry(Protocol):
    """Who is told what connecting to each server came to."""

    def connected(self, server: str, seconds: float) -> None: ...

    def failed(self, server: str) -> None: ...


@final
class Pool:
    """``reactor`` dials and looks names up; ``clock`` gives seconds that never go back."""

    def __init__(
        self,
        reactor: Any,
        addresses: Sequence[ServerAddress],
        limits: Limits,
        clock: Callable[[], float],
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._reactor = reactor
        self._servers = [Server(address) for address in addresses]
        self._limits = limits
        self._clock = clock
        self._turn = 0
        self._avoided_until: dict[Server, float] = {}

    async def look_up(self) -> None:
        """Look all names up. Raises ConfigurationError for the first that is unknown."""
        for server in self._servers:
            await server.look_up(self._reactor)

    async def look_up_again(self) -> None:
        """Look all names up, and keep what was known of those that cannot be had now."""
        for server in self._servers:
            try:
                await server.look_up(self._reactor)
            except ConfigurationError as error:
                _log.warn("{error}", error=error)

    async def connect(self, protocol: IProtocol) -> str:
        """Connect ``protocol`` to the first server that takes it; the server's name.

        Raises UpstreamUnavailable when none did, each within its time.
        """
        for server in self._in_turn():
            began = self._clock()
            try:
                await dial(
                    self._reactor,
                    server.next_host(),
                    server.address.port,
                    protocol,
                    self._limits.upstream_connect_s,
                )
            except ConnectError as error:
                self._avoid(server, error)
            else:
                self._avoided_until.pop(server, None)
                if self._telemetry is not None:
                    self._telemetry.connected(server.name, self._clock() - began)
                return server.name
        raise UpstreamUnavailable("no upstream server took the connection")

    def health(self) -> list[tuple[str, bool]]:
        """Each server's name, and whether it is tried in its turn: it did not fail lately."""
        now = self._clock()
        return [
            (server.name, self._avoided_until.get(server, 0.0) <= now) for server in self._servers
        ]

    def _in_turn(self) -> list[Server]:
        """All servers, beginning with the next; those that failed lately at the end."""
        self._turn = (self._turn + 1) % len(self._servers)
        rotated = self._servers[self._turn :] + self._servers[: self._turn]
        now = self._clock()
        return sorted(rotated, key=lambda server: self._avoided_until.get(server, 0.0) > now)

    def _avoid(self, server: Server, error: Exception) -> None:
        now = self._clock()
        if self._telemetry is not None:
            self._telemetry.failed(server.name)
        # One line an outage, not one a client.
        if self._avoided_until.get(server, 0.0) <= now:
            _log.warn("upstream {server}: {error}", server=server.name, error=error)
        self._avoided_until[server] = now + _AVOIDED_S
