"""The loopback: replaces the media server for sessions of the port test, inside the gateway.

Each session has a ``LoopbackTransport`` instead of an upstream connection. The client's bytes are answered
by ``protocols.port_test.loopback``, in the reactor's next iteration, because a session must not be called
while it writes. No session lasts longer than ``SESSION_S``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, final

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import RTMPError
from gateway.protocols.port_test.loopback import SESSION_S, LoopbackServer
from gateway.protocols.port_test.measuring import BLOCK_BYTES
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake

_log = Logger()

# The name of the server, where sessions have one.
NAME: Final = "port-test"


@final
class Loopback:
    """The loopback's sessions in this worker. ``may_measure``: whether the client at an address may
    measure throughput now. ``later`` calls in the reactor's next iteration.

    ``bytes_up`` and ``bytes_down``: what all sessions have received and sent.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        later: Callable[[Callable[[], None]], object],
        may_measure: Callable[[str], bool],
    ) -> None:
        self.clock = clock
        self.later = later
        self._may_measure = may_measure
        self._noise = os.urandom(BLOCK_BYTES)
        self.transports: set[LoopbackTransport] = set()
        self.bytes_up = self.bytes_down = 0

    async def connect(self, tunnel: Any, session: Any) -> str:
        """Connect ``tunnel``, the upstream side of ``session``. Returns the name of the server."""
        address: str = session.address
        handshake = ServerHandshake(int(self.clock() * 1000), os.urandom(RANDOM_BYTES))
        server = LoopbackServer(handshake, self._noise, lambda: self._may_measure(address))
        transport = LoopbackTransport(self, tunnel, server)
        self.transports.add(transport)
        tunnel.makeConnection(transport)
        return NAME

    def sweep(self, now: float) -> None:
        """Send what is due, and end sessions that last too long."""
        for transport in tuple(self.transports):
            try:
                transport.sweep(now)
            except Exception:
                # Other sessions must still get what is due.
                _log.failure("A session of the port test failed and ends")
                transport.abortConnection()


@final
class LoopbackTransport:
    """The transport of one session."""

    __slots__ = (
        *("_loopback", "_opened_at", "_outgoing", "_protocol", "_server"),
        *("_client_waits", "_is_delivering", "_is_reading", "_lost"),
    )

    # Nothing waits for a socket.
    unsent = 0
    unacknowledged = 0

    def __init__(self, loopback: Loopback, protocol: Any, server: LoopbackServer) -> None:
        self._loopback = loopback
        self._protocol = protocol
        self._server = server
        self._opened_at = loopback.clock()
        self._outgoing = b""
        # Whether the client must wait, and whether it takes data.
        self._client_waits = False
        self._is_reading = True
        self._is_delivering = False
        self._lost = False

    # The tunnel calls

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """The producer is the protocol."""

    def unregisterProducer(self) -> None:
        """The session has ended."""

    def write(self, data: bytes) -> None:
        if self._lost:
            return
        self._loopback.bytes_up += len(data)
        now = self._loopback.clock()
        try:
            self._outgoing += self._server.receive(data, now)
        except RTMPError:
            self.abortConnection()
            return
        self._deliver_later()
        if not self._client_waits and self._server.is_ahead(now):
            self._client_waits = True
            self._protocol.pauseProducing()

    def hold_writes(self, on: bool) -> None:
        """Writes are answered, not sent; nothing is held."""

    def pauseProducing(self) -> None:
        self._is_reading = False

    def resumeProducing(self) -> None:
        self._is_reading = True
        self._deliver_later()

    def loseWriteConnection(self) -> None:
        self._lose(ConnectionDone())

    def abortConnection(self) -> None:
        self._lose(ConnectionAborted())

    abort_now = abortConnection

    # The loopback and its owner call

    @property
    def is_measuring(self) -> bool:
        return self._server.is_measuring

    def sweep(self, now: float) -> None:
        if now - self._opened_at >= SESSION_S:
            self._lose(ConnectionDone())
            return
        if self._client_waits and not self._server.is_ahead(now):
            self._client_waits = False
            self._protocol.resumeProducing()
        if not self._is_reading:
            self._server.end_overdue(now)
        elif self._server.is_measuring:
            self._outgoing += self._server.due(now)
            self._deliver()

    def _deliver_later(self) -> None:
        if self._outgoing and not self._is_delivering:
            self._is_delivering = True
            self._loopback.later(self._deliver)

    def _deliver(self) -> None:
        self._is_delivering = False
        if self._lost or not self._is_reading or not self._outgoing:
            return
        data, self._outgoing = self._outgoing, b""
        self._loopback.bytes_down += len(data)
        self._protocol.dataReceived(data)

    def _lose(self, error: Exception) -> None:
        if self._lost:
            return
        self._lost = True
        self._outgoing = b""
        self._loopback.transports.discard(self)
        self._loopback.later(lambda: self._protocol.connectionLost(Failure(error)))
