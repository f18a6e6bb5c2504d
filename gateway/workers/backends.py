"""The servers behind the gateway: media servers, or the embedded origin, and the website's web server.

``start`` resolves all host names and refuses servers that are the gateway's own listeners. After that,
``look_up_again`` resolves those whose time is up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, time
from typing import Any, final

from attrs import evolve
from twisted.logger import Logger

from gateway.addresses import ListenAddress, ServerAddress
from gateway.configuration.sections import (
    Config,
)
from gateway.configuration.upstream_sections import (
    Upstream,
    UpstreamServer,
)
from gateway.errors import UpstreamUnavailable
from gateway.listeners.ports import address_of
from gateway.tunnels.terminations import NOT_KNOWN_YET, Terminations
from gateway.upstreams.dial import Server
from gateway.upstreams.dns import DNS
from gateway.upstreams.group import Group
from gateway.upstreams.member import Member, SessionCount
from gateway.upstreams.names import Names
from gateway.upstreams.origin import listen_origin
from gateway.upstreams.pool import Pool, Ready, Telemetry
from gateway.upstreams.services import Service
from gateway.upstreams.tls_client import ClientTLS
from gateway.upstreams.waiting import WaitingQueue
from gateway.upstreams.website_connections import WebsiteConnections
from gateway.workers import proxy_loops
from gateway.workers.place import Place
from gateway.workers.upstream_tls import client_tls, read_context

_log = Logger()


@final
class Backends:
    """``pool`` is None until ``start``; ``web`` is None without a website. ``terminate``: terminates RTMPE
    for servers that do not get the client's. ``forget`` is called with the name of a server that a service
    no longer has, nor ``has_sessions``.
    """

    def __init__(
        self,
        configuration: Config,
        reactor: Any,
        telemetry: Telemetry,
        place: Place,
        forget: Callable[[str], object] = lambda _: None,
        has_sessions: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._forget_figures = forget
        self._has_sessions = has_sessions
        self._configuration = configuration
        self._reactor = reactor
        self._telemetry = telemetry
        self._place = place
        self.pool: Pool | None = None
        # The TLS settings of each upstream; None for those without "rtmps://".
        self._tls: list[ClientTLS | None] = []
        self.web: WebsiteConnections | None = None
        # The servers and services of all upstreams. The same server can be in several.
        self._sources: list[Member | Service] = []
        self._terminations = _terminations(configuration)
        self.terminate = self._terminations.create
        self.names = Names(reactor, DNS(reactor))
        website, limits = configuration.website, configuration.limits
        if website is not None:
            self.web = WebsiteConnections(
                reactor, website.server, limits, monotonic, names=self.names
            )
        # Twisted's port of the embedded origin, if it is used.
        self.ports: list[Any] = []

    async def start(self, listening: Sequence[ListenAddress]) -> Pool:
        """Read the files for TLS, and resolve the names. Raises ConfigurationError for a file that cannot
        be used, and for a name that is unknown, or that of a listener.
        """
        configuration = self._configuration
        self._tls = [
            client_tls(configuration, index, time())
            for index in range(len(configuration.upstreams))
        ]
        pool = Pool(
            self._reactor,
            self._groups_or_origin(),
            self._configuration.limits,
            monotonic,
            self._telemetry,
            self.names,
        )
        await pool.look_up()
        _refuse_loops(pool.servers, listening)
        self.pool = pool
        _log.info(
            "media servers: {servers}", servers=", ".join(each.name for each in pool.health())
        )
        if self._configuration.upstreams:
            _warn_of_loopback(each for each in pool.servers if each.proxy_protocol == "off")
        if self.web is not None:
            await self.web.look_up()
            _refuse_loops([self.web.server], listening)
            _log.info(
                "other HTTP requests are forwarded to {server}", server=self.web.name.decode()
            )
        return pool

    async def look_up_again(self) -> None:
        """Resolve names whose time is up. Those that cannot be resolved keep their addresses."""
        for each in (self.pool, self.web):
            if each is not None:
                await each.look_up_again()

    async def connect_mirror(self, protocol: Any, name: str) -> str:
        """Connect ``protocol`` to a server of the upstream ``name``. Raises ServiceUnavailable."""
        return await self.connect(protocol, "", (name,))

    async def connect(
        self,
        tunnel: Any,
        client: str,
        upstreams: Sequence[str] = (),
        key: str = "",
        is_ready: Ready | None = None,
        stream_key: str = "",
    ) -> str:
        """Connect ``tunnel``, of the client at the address ``client``, to a media server, as
        ``Pool.connect`` does. Returns the server's name. Raises ServiceUnavailable.
        """
        if self.pool is None:
            raise UpstreamUnavailable("the gateway is starting")
        return await self.pool.connect(tunnel, client, upstreams, key, is_ready, stream_key)

    def reload_certificates(self) -> None:
        """Read the files for TLS to media servers again. Raises ConfigurationError, after which the old
        ones stay in use.
        """
        read = [
            (tls, read_context(self._configuration, index, time()))
            for index, tls in enumerate(self._tls)
            if tls is not None
        ]
        for tls, context in read:
            tls.context = context

    def close(self) -> None:
        """Close the connections to the website."""
        if self.web is not None:
            self.web.close()

    def _groups_or_origin(self) -> list[Group]:
        """The configured groups, and one for the embedded origin if there is none for sessions."""
        groups = self._groups()
        if all(group.is_named_only for group in groups):
            groups.append(Group([Member(Server(self._start_origin()), monotonic)], name="origin"))
        return groups

    def _groups(self) -> list[Group]:
        of_mirrors = {mirror.upstream for mirror in self._configuration.mirrors}
        return [
            Group(
                [self._source(each, upstream, tls) for each in upstream.servers],
                upstream.choose,
                upstream.name or str(number),
                upstream.balance_factor,
                self._queue(upstream),
                upstream.name in of_mirrors,
                upstream.hash_by,
            )
            for number, (upstream, tls) in enumerate(
                zip(self._configuration.upstreams, self._tls, strict=True), 1
            )
        ]

    def _source(
        self, server: UpstreamServer, upstream: Upstream, tls: ClientTLS | None
    ) -> Member | Service:
        made = self._make_source(server, upstream, tls)
        self._sources.append(made)
        return made

    def _make_source(
        self, server: UpstreamServer, upstream: Upstream, tls: ClientTLS | None
    ) -> Member | Service:
        if not server.address.is_service:
            return self._member(server, upstream, tls, count=self._count(str(server)))

        def make_member(address: ServerAddress) -> Member:
            found = evolve(server, address=address)
            if upstream.decrypts(found):
                self._terminations.servers.add(str(address))
            count = self._count(str(address)) or self._place.counts.found_servers.take(str(address))
            if count is None:
                # This worker counts alone, and has an equal share of the limit.
                most = -(-server.max_sessions // self._place.workers)
                found = evolve(found, max_sessions=most)
            return self._member(found, upstream, tls, server.address.domain, count)

        return Service(server.address, make_member, self._forget, self._has_sessions)

    def _forget(self, server: str) -> None:
        """A service no longer has the server."""
        if self._count(server) is None:
            self._place.counts.found_servers.leave(server)
        if any(_has(source, server) for source in self._sources):
            return
        self._terminations.servers.discard(server)
        self._forget_figures(server)

    def _count(self, server: str) -> SessionCount | None:
        """Of a server to which the supervisor has given a number. One of an earlier version gives none."""
        number = self._place.servers.get(server)
        return None if number is None else self._place.counts.server(number)

    def _member(
        self,
        server: UpstreamServer,
        upstream: Upstream,
        tls: ClientTLS | None,
        tls_host: str = "",
        count: SessionCount | None = None,
    ) -> Member:
        return Member(
            Server(
                *(server.address, "upstream", upstream.proxy_protocol, tls),
                *(upstream.source_address or "", tls_host),
            ),
            monotonic,
            server.weight,
            server.backup,
            server.max_sessions,
            upstream.slow_start_s,
            count,
        )

    def _queue(self, upstream: Upstream) -> WaitingQueue:
        """The queue of this worker, which has an equal share of the upstream's places."""
        most = -(-upstream.queue // self._place.workers)
        return WaitingQueue(self._reactor, monotonic, most, upstream.queue_s)

    def _start_origin(self) -> ServerAddress:
        replaces = self._configuration.origin.second_publisher == "replace"
        port = listen_origin(self._reactor, replaces_publishers=replaces)
        self.ports.append(port)
        address = address_of(port)
        _log.info("no upstream is configured: the embedded origin serves on {at}", at=address)
        return ServerAddress(address.host, address.port)


def _terminations(configuration: Config) -> Terminations:
    servers = {
        str(server)
        for upstream in configuration.upstreams
        for server in upstream.servers
        if upstream.decrypts(server)
    }
    if configuration.decrypts_all:
        servers.add(NOT_KNOWN_YET)
    return Terminations(servers, monotonic, os.urandom)


def _has(source: Member | Service, server: str) -> bool:
    return source.knows(server) if isinstance(source, Service) else source.name == server


def _refuse_loops(servers: Iterable[Server], listening: Sequence[ListenAddress]) -> None:
    for server in servers:
        proxy_loops.refuse_loop(server.address, server.hosts, listening, server.role)


def _warn_of_loopback(servers: Iterable[Server]) -> None:
    """Log that a media server on this machine cannot distinguish publishers by address."""
    names = [server.name for server in servers if any(map(proxy_loops.is_loopback, server.hosts))]
    if names:
        _log.info(
            "publishers reach {servers} from a loopback address, such as 127.0.0.1: a rule of the media"
            " server that lets 127.0.0.1 publish lets all clients publish",
            servers=", ".join(names),
        )
