"""One process's share of the gateway, put together: its sessions, its listeners, and its one timer.

The order of a worker's life: ``bind`` while the process may still be root, ``start`` once the reactor
runs, ``stop`` at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import Any, final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gateway.addresses import ServerAddress, TcpAddress
from gateway.config import Config
from gateway.errors import UpstreamUnavailable
from gateway.listeners.http import HTTPConnection, HTTPService
from gateway.listeners.listener import ConnectionSet, Listener
from gateway.listeners.ports import address_of, listen
from gateway.protocols.reasons import EndReason
from gateway.telemetry.ends import SessionRecords
from gateway.transport import dispatch_directly
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.table import SessionTable
from gateway.upstreams.pool import Pool

_log = Logger()

# The one coarse timer. A hold is longer by half of this on average, which no client notices; a sweep of
# 5,000 sessions takes some 0.3 ms.
_SWEEP_S = 0.05
_SHARE_BUFFERS_S = 1.0
_LOOK_UP_S = 60.0


@final
class Worker:
    """``reactor`` is Twisted's; ``environment`` is where systemd says what it handed over."""

    def __init__(self, configuration: Config, reactor: Any, environment: dict[str, str]) -> None:
        self._configuration = configuration
        self._reactor = reactor
        self._environment = environment
        limits = configuration.limits
        self._records = SessionRecords(monotonic)
        self._connections = ConnectionSet(limits)
        self._pool: Pool | None = None
        self._admission = Admission(limits, _memory_bytes(limits.buffers_share))
        self._sessions = SessionTable(
            limits,
            configuration.tunnel.hold_s,
            self._admission,
            SessionIds(configuration.node.id, 0, os.urandom),
            self._connect,
            monotonic,
            self._records,
        )
        self._http = HTTPService(
            limits, self._sessions, self._connections, monotonic, self._call_soon
        )
        self._ports: list[Any] = []
        self._timers: list[LoopingCall] = []

    def bind(self) -> None:
        """Open the listening sockets. Raises CannotListenError, OSError, ConfigurationError."""
        for listener in self._configuration.listeners:
            factory = Listener(self._connections, self._speak)
            port = listen(self._reactor, listener.address, factory, self._environment)
            self._ports.append(port)
            is_tcp = isinstance(listener.address, TcpAddress)
            address = address_of(port) if is_tcp else listener.address
            _log.info("listening on {address}", address=address)

    async def start(self) -> None:
        """Know the upstream, then run. Raises ConfigurationError when a server's name is unknown."""
        pool = Pool(
            self._reactor, await self._server_addresses(), self._configuration.limits, monotonic
        )
        await pool.look_up()
        self._pool = pool
        dispatch_directly(self._reactor)
        self._every(_SWEEP_S, self._sweep)
        self._every(_SHARE_BUFFERS_S, self._sessions.share_buffers)
        self._every(_LOOK_UP_S, lambda: Deferred.fromCoroutine(pool.look_up_again()))

    async def stop(self) -> None:
        """Take no more connections, end all sessions."""
        for timer in self._timers:
            timer.stop()
        ports, self._ports = self._ports, []
        await DeferredList([port.stopListening() for port in ports if port.connected])
        self._admission.close()
        self._sessions.end_all(EndReason.DRAINED)

    def _speak(self, address: str) -> HTTPConnection:
        return HTTPConnection(self._http, address)

    async def _connect(self, tunnel: Any) -> str:
        if self._pool is None:
            raise UpstreamUnavailable("the gateway is starting")
        return await self._pool.connect(tunnel)

    async def _server_addresses(self) -> list[ServerAddress]:
        servers = [
            server for upstream in self._configuration.upstreams for server in upstream.servers
        ]
        if servers:
            return servers
        from gateway.upstreams.origin import listen_origin

        port = listen_origin(self._reactor)
        self._ports.append(port)
        address = address_of(port)
        _log.info("no upstream is configured: the embedded origin serves on {at}", at=address)
        return [ServerAddress(address.host, address.port)]

    def _sweep(self) -> None:
        now = monotonic()
        self._sessions.sweep(now)
        self._connections.sweep(now)

    def _call_soon(self, call: Callable[[], None]) -> None:
        self._reactor.callLater(0, call)

    def _every(self, seconds: float, call: Callable[[], object]) -> None:
        timer = LoopingCall(call)
        timer.clock = self._reactor
        timer.start(seconds, now=False).addErrback(
            lambda failure: _log.failure("a timer ended", failure)
        )
        self._timers.append(timer)


def _memory_bytes(share: float) -> int:
    """That share of the machine's memory."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * share)
