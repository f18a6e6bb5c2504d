"""One process's share of the gateway, put together: its sessions, its listeners, and its one timer.

The order of a worker's life: ``bind`` while the process may still be root, ``start`` once the reactor
runs, ``stop`` at the end, which ``hurry`` makes short.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from time import monotonic, time
from typing import Any, final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gateway.addresses import ListenAddress, ServerAddress, TcpAddress
from gateway.admin.time_slices import TimeSlices
from gateway.configuration.sections import Config
from gateway.configuration.sections import Listener as ListenerConfig
from gateway.errors import UpstreamUnavailable
from gateway.listeners.certificates import CertificateStore
from gateway.listeners.connections import ConnectionSet
from gateway.listeners.http import HTTPConnection
from gateway.listeners.http_service import HTTPService
from gateway.listeners.ports import SocketOptions, address_of, listen, places_of
from gateway.listeners.protocol_detection import Listener, ListenerState
from gateway.listeners.tls import TLSConnection
from gateway.listeners.website import Website
from gateway.logs import repeated
from gateway.protocols.client_address import Proxies
from gateway.protocols.ingress import Ingress
from gateway.protocols.networks import Admission as AddressRules
from gateway.protocols.networks import Networks
from gateway.protocols.reasons import EndReason
from gateway.telemetry.levels import Threshold
from gateway.telemetry.sessions import TURN_S
from gateway.transport import dispatch_directly
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.relay import RelayTable
from gateway.tunnels.table import SessionTable
from gateway.upstreams.dial import Server
from gateway.upstreams.origin import listen_origin
from gateway.upstreams.pool import Pool
from gateway.upstreams.website import WebServer
from gateway.workers import admin, files, open_files, own_listeners
from gateway.workers.figures import WorkerFigures
from gateway.workers.heap import Heap, find_trim, resident_bytes
from gateway.workers.view import WorkerView

_log = Logger()

# The one coarse timer. A hold is longer by half of this on average, which no client notices; a sweep of
# 5,000 sessions takes some 0.3 ms.
_SWEEP_S = 0.05
# What need not be so exact: buffers' shares, and relays that are stalled or unused.
_SLOW_SWEEP_S = 1.0
_LOOK_UP_S = 60.0
# How often certificate files are looked at: a stat of each.
_RENEWAL_S = 60.0
# Of what sessions may buffer: as much more may be on its way to them in bodies that are not whole.
_BODIES_SHARE = 0.25


@final
class Worker:
    """``reactor`` is Twisted's; ``environment`` is where systemd says what it handed over; ``threshold`` is
    the log's, where that is the gateway's own."""

    def __init__(
        self,
        configuration: Config,
        reactor: Any,
        environment: dict[str, str],
        threshold: Threshold | None = None,
    ) -> None:
        self._configuration = configuration
        self._reactor = reactor
        self._environment = environment
        limits = configuration.limits
        self._connections = ConnectionSet(limits)
        self._listener_states: dict[str, ListenerState] = {}
        self._pool: Pool | None = None
        buffers_bytes = _memory_bytes(limits.buffers_share)
        self._admission = Admission(limits, buffers_bytes)
        # What telemetry knows, for whoever shows it.
        self.figures = WorkerFigures(
            configuration, _SWEEP_S, buffers_bytes, self._connections, self._listener_states
        )
        telemetry = self.figures.sessions
        ids = SessionIds(configuration.node.id, 0, os.urandom)
        self._sessions = SessionTable(
            limits,
            configuration.tunnel.hold_s,
            self._admission,
            ids,
            self._connect,
            monotonic,
            telemetry,
            telemetry.measure,
            configuration.tunnel.streamed_answers,
            configuration.tunnel.answer_s,
        )
        self._http = HTTPService(
            limits,
            self._sessions,
            self._connections,
            monotonic,
            self._call_soon,
            bodies_bytes=int(buffers_bytes * _BODIES_SHARE),
        )
        self._relays = RelayTable(
            limits,
            self._admission,
            ids.next_alias,
            self._connect,
            monotonic,
            telemetry,
            telemetry.measure,
        )
        self._certificates = files.certificates(configuration, time())
        self.figures.certificates = self._certificates
        self._view = WorkerView(
            self.figures, self._admission, threshold, partial(TimeSlices, reactor, monotonic)
        )
        self._web = self._make_website()
        self._heap = Heap(resident_bytes, find_trim())
        self._ports: list[Any] = []
        # What the listeners listen on, with the ports that the system chose.
        self._listening: list[ListenAddress] = []
        self._timers: list[LoopingCall] = []
        # While sessions may end by themselves: who waits for the last one.
        self._drained: Deferred[None] | None = None

    def bind(self) -> None:
        """Open the listening sockets. Raises ConfigurationError."""
        for warning in files.warnings(self._configuration):
            _log.warn("{warning}", warning=warning)
        open_files.raise_limit(self._configuration.limits)
        source, limits = self._configuration.source, self._configuration.limits
        for index, listener in enumerate(self._configuration.listeners):
            listener_state = self._listener_states[str(listener.address)] = self._listener_state(
                listener
            )
            factory = Listener(listener_state)
            with source.at("listener", index, "address"):
                port = listen(
                    self._reactor,
                    listener.address,
                    factory,
                    self._environment,
                    options=SocketOptions(limits.vanished_s, listener.congestion_control),
                )
            # Until the start is done, who comes waits in the kernel and is not sent away.
            port.stopReading()
            self._ports.append(port)
            is_tcp = isinstance(listener.address, TcpAddress)
            address = address_of(port) if is_tcp else listener.address
            self._listening += places_of(port)
            _log.info("listening on {address}", address=address)
        settings = self._configuration.admin
        if settings is not None:
            self._ports.append(
                admin.bind(settings, source, self._view, self._reactor, self._environment)
            )

    async def start(self) -> None:
        """Know the servers, then run.

        Raises ConfigurationError when a server's name is unknown, or a log cannot be opened.
        """
        self.figures.open_logs()
        pool = Pool(
            self._reactor,
            await self._server_addresses(),
            self._configuration.limits,
            monotonic,
            self.figures.upstreams,
        )
        await pool.look_up()
        self._refuse_own(pool.servers)
        self._pool = self.figures.pool = pool
        _log.info(
            "media servers: {servers}", servers=", ".join(each.name for each in pool.health())
        )
        if self._configuration.upstreams:
            _warn_of_loopback(pool.servers)
        if self._web is not None:
            await self._web.look_up()
            self._refuse_own([self._web.server])
            _log.info("other HTTP goes to {server}", server=self._web.name.decode())
            self._every(_LOOK_UP_S, partial(_run, self._web.look_up_again))
        dispatch_directly(self._reactor)
        self._every(_SWEEP_S, self._sweep)
        self._every(_SLOW_SWEEP_S, self._sweep_slowly)
        self._every(TURN_S, self.figures.sessions.turn)
        self._every(_LOOK_UP_S, partial(_run, pool.look_up_again))
        if self._certificates is not None:
            self._every(_RENEWAL_S, partial(_renew, self._certificates))
        for port in self._ports:
            port.startReading()

    async def stop(self) -> None:
        """Take no more sessions, let those that live end by themselves for ``drain_s``, and end the rest.

        Connections are taken all the while: the living sessions' commands may come on new ones.
        """
        self._admission.close()
        if not self._is_drained():
            await self._drain()
        for timer in self._timers:
            timer.stop()
        ports, self._ports = self._ports, []
        await DeferredList([port.stopListening() for port in ports if port.connected])
        self._sessions.end_all(EndReason.DRAINED)
        self._relays.end_all(EndReason.DRAINED)
        self.figures.close()
        if self._web is not None:
            self._web.close()

    def hurry(self) -> None:
        """Wait for no session to end by itself, or no longer."""
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def _is_drained(self) -> bool:
        """Whether nothing would be cut short."""
        return not self._admission.living and not self._sessions.owes

    async def _drain(self) -> None:
        seconds = self._configuration.limits.drain_s
        _log.info(
            "stopping: {sessions} sessions may end by themselves for {seconds:g} s; "
            "a second signal ends them at once",
            sessions=self._admission.living,
            seconds=seconds,
        )
        drained: Deferred[None] = Deferred()
        self._drained = drained
        deadline = self._reactor.callLater(seconds, self.hurry)
        await drained
        if deadline.active():
            deadline.cancel()

    def reload(self) -> list[str]:
        """Read the certificates again, and begin anew the logs whose files were moved away; what that was.

        Raises ConfigurationError, and the old certificates stay in use.
        """
        done = []
        if self.figures.reopen_logs():
            done.append("access log")
        if self._certificates is not None:
            self._certificates.reload(time())
            done.append("certificates")
        return done

    def _listener_state(self, listener: ListenerConfig) -> ListenerState:
        certificates = self._certificates if listener.tls else None
        proxies = Proxies(
            Networks.of(listener.trusted), AddressRules.of(listener.allow, listener.deny)
        )
        return ListenerState(
            self._configuration.limits,
            self._connections,
            partial(self._speak_http, str(listener.address), proxies),
            partial(self._relay, str(listener.address)),
            monotonic,
            proxies.admission,
            proxies.trusted,
            listener.proxy_protocol,
            None if certificates is None else certificates.context,
            name=str(listener.address),
        )

    def _speak_http(
        self, listener: str, proxies: Proxies, address: str, secure: bool
    ) -> HTTPConnection:
        is_trusted = proxies.trusted.holds(address)
        return HTTPConnection(
            self._http, address, secure, listener, proxies if is_trusted else None
        )

    def _relay(
        self, listener: str, address: str, transport: Any, first: bytes, left: Callable[[], None]
    ) -> None:
        protocol = "rtmps" if isinstance(transport, TLSConnection) else "rtmp"
        self._relays.open(address, transport, first, Ingress(protocol, listener), left)

    async def _connect(self, tunnel: Any) -> str:
        if self._pool is None:
            raise UpstreamUnavailable("the gateway is starting")
        return await self._pool.connect(tunnel)

    def _make_website(self) -> WebServer | None:
        website, limits = self._configuration.website, self._configuration.limits
        if website is None:
            return None
        server = WebServer(self._reactor, website.server, limits, monotonic)
        self._http.website = Website(server, limits, monotonic)
        return server

    async def _server_addresses(self) -> list[ServerAddress]:
        servers = [
            server for upstream in self._configuration.upstreams for server in upstream.servers
        ]
        if servers:
            return servers
        replaces = self._configuration.origin.second_publisher == "replace"
        port = listen_origin(self._reactor, replaces_publishers=replaces)
        self._ports.append(port)
        address = address_of(port)
        _log.info("no upstream is configured: the embedded origin serves on {at}", at=address)
        return [ServerAddress(address.host, address.port)]

    def _refuse_own(self, servers: Iterable[Server]) -> None:
        """Raises ConfigurationError if one of the servers is a listener of the gateway."""
        for server in servers:
            own_listeners.refuse(server.address, server.hosts, self._listening, server.role)

    def _sweep_slowly(self) -> None:
        self._sessions.share_buffers()
        self._relays.sweep(monotonic())
        repeated.flush()
        self._heap.sweep(monotonic())

    def _sweep(self) -> None:
        now = monotonic()
        self.figures.loop.sample(now)
        self._sessions.sweep(now)
        self._connections.sweep(now)
        if self._drained is not None and self._is_drained():
            self.hurry()

    def _call_soon(self, call: Callable[[], None]) -> None:
        self._reactor.callLater(0, call)

    def _every(self, seconds: float, call: Callable[[], object]) -> None:
        timer = LoopingCall(call)
        timer.clock = self._reactor
        timer.start(seconds, now=False).addErrback(
            lambda failure: _log.failure("a timer ended", failure)
        )
        self._timers.append(timer)


def _run(call: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> Deferred[None]:
    return Deferred.fromCoroutine(call())


def _warn_of_loopback(servers: Iterable[Server]) -> None:
    """Say what a media server on this machine cannot tell apart."""
    names = [server.name for server in servers if any(map(own_listeners.is_loopback, server.hosts))]
    if names:
        _log.info(
            "publishers reach {servers} from a loopback address, such as 127.0.0.1: a rule of the media"
            " server that lets 127.0.0.1 publish lets all clients publish",
            servers=", ".join(names),
        )


def _renew(certificates: CertificateStore) -> None:
    """Take certificates whose files were replaced."""
    renewal = certificates.renew(time())
    if renewal.renewed:
        _log.info("certificates renewed: {files}", files=", ".join(renewal.renewed))
    if renewal.faults:
        _log.warn(
            "renewed certificates cannot be used: {faults}; the old ones stay in use, and the files are"
            " read again every minute",
            faults="; ".join(renewal.faults),
        )


def _memory_bytes(share: float) -> int:
    """That share of the machine's memory."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * share)
