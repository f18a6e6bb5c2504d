"""The embedded origin: a small live RTMP server, so that the gateway can be tried with nothing else.

It is an upstream like any other, reached over a loopback connection. What RTMP means is decided in
``gateway.protocols.rtmp.server``; here are the transport, its back-pressure, the random bytes of the
handshake and one coarse timer, no more. It records nothing and asks nobody for a password: it belongs
on a loopback address.

Bounds: ``OriginLimits`` here; messages, chunk streams and chunks a second in ``chunks.ChunkLimits``, where
commands and pings count by their cost (``server``); streams in ``relay``; what waits for a slow player in
``outbox``; what all connections keep together in ``memory``.
"""

from __future__ import annotations

import os
from typing import Any, Final

from attrs import frozen
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from gateway.transport import join_unsent

# How often deadlines are looked at, and so how late they can be.
SWEEP_S: Final = 1.0
# A transport's unsent writes are joined after every so many writes: 14 KiB of objects for a client that
# does not read. Fewer would copy its buffer of up to 64 KiB more often.
JOIN_WRITES: Final = 256


@frozen
class OriginLimits:
    """The origin's own bounds."""

    # From the connection's first moment until RTMP's connect is answered.
    handshake_s: float = 10.0
    # A client that takes none of what is written to it.
    stalled_write_s: float = 15.0
    connections: int = 2_000


DEFAULT_LIMITS: Final = OriginLimits()


@implementer(IPushProducer)
class OriginConnection(Protocol):
    """One client of the origin: a wire to the server's connection, and a producer to the transport."""

    factory: OriginFactory
    # ITCPTransport, IConsumer and IPushProducer at once, for which Twisted has no one name.
    transport: Any
    _log = Logger()

    def __init__(self, factory: OriginFactory) -> None:
        self.factory = factory
        random = os.urandom(RANDOM_BYTES)
        handshake = ServerHandshake(int(factory.seconds() * 1000), random)
        self._server = ServerConnection(self, factory.streams, handshake)
        self._held_since: float | None = None
        self._writes = 0

    def connectionMade(self) -> None:
        self._made = self.factory.seconds()
        self.factory.connections.add(self)
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._server.receive(data, self.factory.seconds())
        except RTMPError as error:
            self.close(str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.discard(self)
        self._server.end()

    def write(self, data: bytes) -> None:
        """The server's ``Wire``."""
        self.transport.write(data)
        self._writes += 1
        if self._writes >= JOIN_WRITES:
            self._writes = 0
            join_unsent(self.transport)

    def close(self, cause: str = "") -> None:
        """The server's ``Wire``; Twisted tells of the loss in a later turn of the reactor."""
        if cause:
            self._log.info("origin closes a connection: {cause}", cause=cause)
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """The transport's buffer is full. A client that does not read is not read either."""
        self._held_since = self.factory.seconds()
        self._server.hold()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._held_since = None
        self.transport.resumeProducing()
        self._server.release()

    def stopProducing(self) -> None:
        """The transport is going away, and will say so with ``connectionLost``."""

    def close_if_overdue(self, now: float, limits: OriginLimits) -> None:
        """End the connection if it is still unconnected, or takes nothing, after its deadline."""
        since, limit_s = self._held_since, limits.stalled_write_s
        cause = "the client reads too slowly: its transport has been full for too long"
        if not self._server.connected:
            # No log line: port scans would cause one each.
            since, limit_s, cause = self._made, limits.handshake_s, ""
        if since is not None and now - since >= limit_s:
            self.close(cause)


class OriginFactory(Factory):
    """The origin: its streams, its connections, and one timer for all deadlines while it listens."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        limits: OriginLimits = DEFAULT_LIMITS,
        replaces_publishers: bool = False,
    ) -> None:
        self.streams = StreamTable(replaces=replaces_publishers)
        self.connections: set[OriginConnection] = set()
        self.seconds = reactor.seconds
        self._limits = limits
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def startFactory(self) -> None:
        self._sweeper.start(SWEEP_S, now=False)

    def stopFactory(self) -> None:
        """Nobody listens any more: the deadlines end, and with them every connection."""
        self._sweeper.stop()
        for connection in list(self.connections):
            connection.close()

    def buildProtocol(self, addr: object) -> Any:
        if len(self.connections) >= self._limits.connections:
            return None
        return OriginConnection(self)

    def _sweep(self) -> None:
        now = self.seconds()
        for connection in list(self.connections):
            connection.close_if_overdue(now, self._limits)


def listen_origin(
    reactor: Any,
    interface: str = "127.0.0.1",
    port: int = 0,
    replaces_publishers: bool = False,
) -> IListeningPort:
    """An origin on ``interface``; port 0 leaves the choice to the system, ``getHost`` tells it."""
    factory = OriginFactory(reactor, replaces_publishers=replaces_publishers)
    listening: IListeningPort = reactor.listenTCP(port, factory, interface=interface)
    return listening
