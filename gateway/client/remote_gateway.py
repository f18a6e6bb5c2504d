"""The gateway as seen by the client: addresses, and connections to it by each way.

The name is resolved for each local connection, since a laptop changes networks. If that fails, the
addresses of the last resolution are used.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar, final

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from gateway.addresses import ServerAddress
from gateway.client.proxied_ways import ProxiedWay, proxy_of
from gateway.client.refused_certificate import note_issuer, reading_tls
from gateway.http_proxies import NO_PROXIES, Proxies
from gateway.port_test.ways import Way
from gateway.upstreams.dial import Server, attempt
from gateway.upstreams.http_proxy import HTTPProxy
from gateway.upstreams.names import addresses_of
from gateway.upstreams.race import Contender, Race, Stage
from gateway.upstreams.tls_client import ClientTLS, TLSFailed

# Longer than a resolver's timeout for one of its servers, 5 s (resolv.conf(5)), would leave no time to
# connect.
_LOOK_UP_S: Final = 5.0
# For the gateway's name beside that of a proxy. Where a proxy is the only way out, name servers may not
# answer for other names.
_BESIDE_PROXY_S: Final = 0.25

_Result = TypeVar("_Result")


class Opening(Protocol):
    """A connection that is being established. ``done`` fires when its protocol has a transport, or fails
    with ConnectError; it does not fire after ``cancel``.
    """

    @property
    def done(self) -> Deferred[Any]: ...

    @property
    def stage(self) -> Stage: ...

    def cancel(self) -> None: ...


@final
class _Watched:
    """An attempt; if it is given up, ``endings`` has its end until that fires."""

    def __init__(self, attempt: Contender, endings: set[Deferred[None]]) -> None:
        self._attempt = attempt
        self._endings = endings
        self.done = attempt.done

    @property
    def stage(self) -> Stage:
        return self._attempt.stage

    def cancel(self) -> Deferred[None]:
        ending = self._attempt.cancel()
        self._endings.add(ending)
        return ending.addCallback(lambda _: self._endings.discard(ending))


@final
class RemoteGateway:
    """``ways``: those that are used, in their order; ``ProxiedWay``s go through ``proxies``. ``agent``: the
    name of this program for the gateway.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        ways: Sequence[Way],
        context: ssl.SSLContext,
        agent: str,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self._reactor = reactor
        self._agent = agent
        self.host = host
        self._urls = proxies
        # One for each URL: the connections share what the proxy has asked for.
        self._proxies = {
            url: HTTPProxy(url.server, url.credentials)
            for url in (proxies.plain, proxies.secure)
            if url is not None
        }
        tls = ClientTLS(context)
        self._servers = {way: self._server(way, tls) for way in ways}
        # The ends of attempts that were given up: a tunnel whose open was sent is closed when its answer
        # arrives.
        self._endings: set[Deferred[None]] = set()

    @property
    def hosts(self) -> list[str]:
        """The addresses of the last resolution, of the gateway and of proxies."""
        found = (host for server in self._servers.values() for host in server.hosts)
        return list(dict.fromkeys(found))

    @property
    def name(self) -> str:
        """The host as users write it: an IPv6 address is in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def proxy(self) -> str:
        """The names of the proxies; empty without any."""
        return ", ".join(proxy.name for proxy in self._proxies.values())

    def knows(self, way: Way) -> bool:
        """Whether there is an address to connect to."""
        return bool(self._servers[way].hosts)

    async def look_up(self) -> None:
        """Resolve the names of the gateway and of the proxies."""
        names: dict[str, list[Server]] = {}
        for server in self._servers.values():
            names.setdefault(server.first_hop.host, []).append(server)
        await gatherResults(
            [Deferred.fromCoroutine(self._look_up(*each)) for each in names.items()]
        )

    def open(self, way: Way, protocol: Any, timeout_s: float) -> Opening:
        """Begin to connect ``protocol`` by this way, to one of the addresses. There must be one."""
        server = self._servers[way]
        begin = partial(self._begin, server, protocol)
        race = Race(self._reactor, server.hosts_in_order(), begin, timeout_s)
        race.done.addBoth(partial(_note, server, race))
        race.start()
        race.done.addErrback(self._explain, way)
        return race

    async def close_given_up(self, timeout_s: float) -> None:
        """Wait for the end of attempts that were given up, so that the gateway keeps none of their
        sessions; no longer than ``timeout_s``.
        """
        ended = DeferredList(list(self._endings), consumeErrors=True)
        ended.addTimeout(timeout_s, self._reactor)
        with suppress(DeferredTimeout):
            await ended

    def _begin(
        self,
        server: Server,
        protocol: Any,
        host: str,
        left_s: float,
        won: Callable[[], object],
    ) -> Contender:
        begun = attempt(self._reactor, server, protocol, host, left_s, agent=self._agent, won=won)
        return _Watched(begun, self._endings)

    async def _look_up(self, name: str, servers: Sequence[Server]) -> None:
        finding = Deferred.fromCoroutine(addresses_of(self._reactor, name))
        is_optional = bool(self._proxies) and name == self.host
        finding.addTimeout(_BESIDE_PROXY_S if is_optional else _LOOK_UP_S, self._reactor)
        try:
            hosts = await finding
        except DeferredTimeout:
            return
        for server in servers:
            # Those that have failed are tried last, as long as the name has the same addresses.
            if hosts and set(hosts) != set(server.hosts):
                server.use(hosts)

    def _explain(self, failure: Failure, way: Way) -> Failure | Deferred[None]:
        """The same failure, perhaps later, with the issuer of a refused certificate."""
        if not isinstance(failure.value, TLSFailed):
            return failure
        server = self._server(way, reading_tls())
        server.use(self._servers[way].hosts)
        reading = Deferred.fromCoroutine(note_issuer(self._reactor, server, failure.value))
        return reading.addBoth(lambda _: failure)

    def _server(self, way: Way, tls: ClientTLS) -> Server:
        url = proxy_of(way, self._urls) if isinstance(way, ProxiedWay) else None
        address = ServerAddress(self.host, way.port, way.protocol.value)
        return Server(address, "gateway", tls=tls, proxy=self._proxies[url] if url else None)


def _note(server: Server, race: Race, result: _Result) -> _Result:
    """Have the addresses that were beaten tried last from now on."""
    server.note_beaten(race.beaten)
    return result
