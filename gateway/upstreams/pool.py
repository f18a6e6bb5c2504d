"""The pool of upstream servers, with failover to the next server.

The servers of the first group are tried first, in the order that the group gives. A server that failed is
tried last for a while, so that only one client, not every client, waits for its connect timeout. After that
it is tried as before again, but it is reported as down until it accepts a connection. A server that is down
by its health checks, which the supervisor makes, is tried last until it is up again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, final

from attrs import frozen
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from gateway.errors import (
    ConfigurationError,
    ResourcesExhausted,
    ServiceUnavailable,
    UpstreamUnavailable,
)
from gateway.logs import debugging
from gateway.protocols.limits import Limits
from gateway.upstreams.dial import Server, connect, warn_exhausted
from gateway.upstreams.group import Group

_log = Logger()

# Longer: a restarted server is not used for longer. Shorter: more clients wait for a dead server's timeout.
_AVOIDED_S = 10.0


class Telemetry(Protocol):
    """Observer of connection attempts."""

    def connected(self, server: str, seconds: float) -> None: ...

    def failed(self, server: str) -> None: ...


@frozen
class Health:
    """The health of a server. ``up``: it accepted the last connection, or has had none yet. ``due``: it is
    not tried last. ``tried_at``: when it was last connected to, by the clock; 0.0 for never. ``drained``:
    whether the operator has new sessions kept from it.
    """

    name: str
    up: bool
    due: bool
    tried_at: float = 0.0
    drained: bool = False


@final
class Pool:
    """``reactor`` is Twisted's; ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        reactor: Any,
        groups: Sequence[Group],
        limits: Limits,
        clock: Callable[[], float],
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._reactor = reactor
        self._groups = groups
        self.servers = [server for group in groups for server in group.servers]
        self._limits = limits
        self._clock = clock
        # Servers whose last connection failed, and the time until which they are tried last.
        self._down_until: dict[Server, float] = {}
        self._tried_at: dict[Server, float] = {}
        # The names of servers that are down by their health checks.
        self._down: set[str] = set()
        # The names of servers from which the operator has new sessions kept.
        self.drained: frozenset[str] = frozenset()

    async def look_up(self) -> None:
        """Resolve all names. Raises ConfigurationError for the first that is unknown."""
        for server in self.servers:
            await server.look_up(self._reactor)

    async def look_up_again(self) -> None:
        """Resolve all names again. A name that cannot be resolved keeps its addresses."""
        for server in self.servers:
            try:
                await server.look_up(self._reactor)
            except ConfigurationError as error:
                _log.warn("{error}", error=error)

    async def connect(self, protocol: IProtocol, client: str = "") -> str:
        """Connect ``protocol`` to the first server that accepts; returns the server's name. ``client``: the
        IP address of the client, or empty.

        Raises UpstreamUnavailable if no server accepted in time, and ResourcesExhausted if local resources
        are used up.
        """
        refusal: ServiceUnavailable = UpstreamUnavailable(
            "no upstream server accepted the connection"
        )
        for server in self._in_order():
            began = self._clock()
            try:
                await connect(
                    self._reactor,
                    server,
                    protocol,
                    self._limits.upstream_connect_s,
                    self._limits.vanished_s,
                    client,
                    partial(_count, server, -1),
                )
            except ConnectError as error:
                self._failed(server, error)
            except ResourcesExhausted as error:
                refusal = error
                warn_exhausted(error, server)
            else:
                _count(server, 1)
                self._connected(server, self._clock() - began)
                return server.name
        raise refusal

    def note_checks(self, states: Mapping[str, bool]) -> None:
        """The results of health checks: whether each server is up, by its name. Others are as before."""
        now = self._clock()
        before = self._down
        self._down = (before - states.keys()) | {name for name in states if not states[name]}
        for server in self.servers:
            # A failure that was short is over as well, although no client has shown that.
            is_over = self._down_until.get(server, now) <= now
            if states.get(server.name) and (server.name in before or is_over):
                self._down_until.pop(server, None)

    def health(self) -> list[Health]:
        """The health of each server."""
        now = self._clock()
        return [
            Health(
                server.name,
                server not in self._down_until and server.name not in self._down,
                not self._is_avoided(server, now),
                self._tried_at.get(server, 0.0),
                server.name in self.drained,
            )
            for server in self.servers
        ]

    def _in_order(self) -> list[Server]:
        """The servers in the order in which they are tried; recently failed servers are last."""
        ordered = [
            server
            for group in self._groups
            for server in group.in_order()
            if server.name not in self.drained
        ]
        now = self._clock()
        return sorted(ordered, key=lambda server: self._is_avoided(server, now))

    def _is_avoided(self, server: Server, now: float) -> bool:
        return server.name in self._down or self._down_until.get(server, now) > now

    def _connected(self, server: Server, seconds: float) -> None:
        self._tried_at[server] = self._clock()
        if self._telemetry is not None:
            self._telemetry.connected(server.name, seconds)
        if debugging.enabled:
            _log.debug(
                "upstream {server} connected in {seconds:.4f} s",
                server=server.name,
                seconds=seconds,
            )
        if self._down_until.pop(server, None) is not None:
            _log.info("upstream {server} accepts connections again", server=server.name)

    def _failed(self, server: Server, error: Exception) -> None:
        if self._telemetry is not None:
            self._telemetry.failed(server.name)
        if debugging.enabled:
            _log.debug("upstream {server} failed: {error}", server=server.name, error=error)
        # One line for each outage, not for each client.
        if server not in self._down_until:
            _log.warn("upstream {server} is down: {error}", server=server.name, error=error)
        now = self._tried_at[server] = self._clock()
        self._down_until[server] = now + _AVOIDED_S


def _count(server: Server, number: int) -> None:
    server.connections += number
