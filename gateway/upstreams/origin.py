"""The embedded origin: a small live RTMP server, to use the gateway without a media server.

It is an upstream server like any other, reached over loopback TCP. ``gateway.protocols.rtmp.server`` has
the protocol; this module has the transport, back-pressure, the handshake's random bytes and one timer. It
does not record or authenticate, so it must listen on a loopback address.

Limits: ``OriginLimits`` here; messages, chunk streams and chunks a second in ``chunks.ChunkLimits``, where
commands and pings count by their cost (``server``); streams in ``relay``; data waiting for a slow player in
``outbox``; the memory of all connections in ``memory``.
"""

from __future__ import annotations

import os
from typing import Any, Final

from attrs import frozen
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError
from gateway.periodic_calls import periodic_call
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from gateway.transport import join_unsent

# How often deadlines are checked, which is also how late they can be noticed.
SWEEP_S: Final = 1.0
# A transport's unsent writes are joined after this many writes, which bounds their objects to 14 KiB for a
# client that does not read. A smaller number would copy its buffer, of up to 64 KiB, more often.
JOIN_WRITES: Final = 256


@frozen
class OriginLimits:
    """Limits of the origin."""

    # From accepting the connection until RTMP's connect is answered.
    handshake_s: float = 10.0
    # How long a client may accept no data.
    stalled_write_s: float = 15.0
    connections: int = 2_000


DEFAULT_LIMITS: Final = OriginLimits()


@implementer(IPushProducer)
class OriginConnection(Protocol):
    """One client's connection: the ``Wire`` of its ServerConnection, and a producer for its transport."""

    factory: OriginFactory
    # ITCPTransport, IConsumer and IPushProducer at once, for which Twisted has no single type.
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
        """Part of ``Wire``."""
        self.transport.write(data)
        self._writes += 1
        if self._writes >= JOIN_WRITES:
            self._writes = 0
            join_unsent(self.transport)

    def close(self, cause: str = "") -> None:
        """Part of ``Wire``. Twisted calls ``connectionLost`` in a later reactor iteration."""
        if cause:
            self._log.info("origin closes a connection: {cause}", cause=cause)
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """The transport's buffer is full. Also stop reading from this client."""
        self._held_since = self.factory.seconds()
        self._server.hold()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._held_since = None
        self.transport.resumeProducing()
        self._server.release()

    def stopProducing(self) -> None:
        """The transport is closing; ``connectionLost`` follows."""

    def close_if_overdue(self, now: float, limits: OriginLimits) -> None:
        """Close the connection if RTMP's connect, or room in the transport, is overdue."""
        since, limit_s = self._held_since, limits.stalled_write_s
        cause = "the client reads too slowly: its transport has been full for too long"
        if not self._server.connected:
            # Not logged: each port scan would cause a line.
            since, limit_s, cause = self._made, limits.handshake_s, ""
        if since is not None and now - since >= limit_s:
            self.close(cause)


class OriginFactory(Factory):
    """The origin's streams and connections, and one timer for all deadlines while it listens."""

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
        self._sweeper = periodic_call(self._sweep, reactor)

    def startFactory(self) -> None:
        self._sweeper.start(SWEEP_S, now=False)

    def stopFactory(self) -> None:
        """The port was closed: stop the timer and close all connections."""
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
    """Start an origin on ``interface``. With port 0 the system chooses one; ``getHost`` returns it."""
    factory = OriginFactory(reactor, replaces_publishers=replaces_publishers)
    listening: IListeningPort = reactor.listenTCP(port, factory, interface=interface)
    return listening
