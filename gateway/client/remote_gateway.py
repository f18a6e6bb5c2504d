"""The gateway as seen by the client: the addresses of its name, and connections to it by each way.

The name is resolved for each local connection, since a laptop changes networks. If that fails, the
addresses of the last resolution are used.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar, final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from gateway.addresses import ServerAddress
from gateway.port_test.ways import Way
from gateway.protocols.tunnel_client.requests import Requests
from gateway.upstreams.attempt import Attempt, Settings
from gateway.upstreams.dial import Server
from gateway.upstreams.names import addresses_of
from gateway.upstreams.race import Contender, Race
from gateway.upstreams.tls_client import ClientTLS
from gateway.upstreams.tunnel_transport import TunnelTransport

# Longer than a resolver's time-out for one of its servers, 5 s (resolv.conf(5)), would leave no time to
# connect.
_LOOK_UP_S: Final = 5.0

_Result = TypeVar("_Result")


class Opening(Protocol):
    """A connection that is being established. ``done`` fires when its protocol has a transport, or fails
    with ConnectError; it does not fire after ``cancel``.
    """

    @property
    def done(self) -> Deferred[Any]: ...

    def cancel(self) -> None: ...


@final
class RemoteGateway:
    """``agent``: the name of this program for the gateway."""

    def __init__(
        self, reactor: Any, host: str, ways: Sequence[Way], context: ssl.SSLContext, agent: str
    ) -> None:
        self._reactor = reactor
        self._agent = agent
        self.host = host
        tls = ClientTLS(context)
        self._servers = {
            way: Server(ServerAddress(host, way.port, way.protocol.value), "gateway", tls=tls)
            for way in ways
        }

    @property
    def hosts(self) -> list[str]:
        """The addresses of the last resolution."""
        return next(iter(self._servers.values())).hosts

    async def look_up(self) -> list[str]:
        """The addresses of the gateway's name, the preferred one first; none if it is unknown."""
        finding = Deferred.fromCoroutine(addresses_of(self._reactor, self.host))
        finding.addTimeout(_LOOK_UP_S, self._reactor)
        try:
            hosts = await finding
        except DeferredTimeout:
            hosts = []
        for server in self._servers.values():
            # Those that have failed are tried last, as long as the name has the same addresses.
            if hosts and set(hosts) != set(server.hosts):
                server.use(hosts)
        return self.hosts

    def open(self, way: Way, protocol: Any, timeout_s: float) -> Opening:
        """Begin to connect ``protocol`` by this way, to one of the addresses. There must be one."""
        server = self._servers[way]
        begin = partial(self._begin, server, protocol)
        race = Race(self._reactor, server.hosts_in_order(), begin, timeout_s)
        race.done.addBoth(partial(_note, server, race))
        race.start()
        return race

    def _begin(
        self,
        server: Server,
        protocol: Any,
        host: str,
        left_s: float,
        won: Callable[[], object],
    ) -> Contender:
        settings = Settings(server.address.port, left_s, tls=server.tls)
        attempt: Attempt | TunnelTransport
        if server.address.is_tunnel:
            requests = Requests(server.address.authority, agent=self._agent)
            attempt = TunnelTransport(self._reactor, protocol, settings, requests, won=won)
        else:
            attempt = Attempt(self._reactor, protocol, settings, won=won)
        attempt.connect(host)
        return attempt


def _note(server: Server, race: Race, result: _Result) -> _Result:
    """Have the addresses that were beaten tried last from now on."""
    server.note_beaten(race.beaten)
    return result
