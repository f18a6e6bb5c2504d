"""A connection to a mirror's server, over which one stream is published.

Its states:

    connecting   it is being established, and the server's acceptance of the publish is awaited, for 10 s
    publishing   messages are sent as the server takes them; others are left out, up to a keyframe
    stalled      the transport has been full for [limits] stalled_write_s: the connection is aborted
    ending       the stream has ended: what is queued is sent, for 5 s
"""

from __future__ import annotations

import os
from typing import Any, Final, Protocol, final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.publisher import Destination, Publisher
from gateway.protocols.rtmp.relay import LiveStream, Player
from gateway.transport import join_unsent

# From connecting to the server's acceptance of the publish.
_ACCEPT_S: Final = 10.0
# How long the server has to take the end of the stream, and to close.
_CLOSE_S: Final = 5.0
# As in the embedded origin: the unsent writes of a transport are joined after this many.
_JOIN_WRITES: Final = 256


class Owner(Protocol):
    """The stream at the mirror. ``has_ended``: whether its publish has."""

    live: LiveStream
    destination: Destination
    has_ended: bool

    def accepted(self) -> None:
        """The server has accepted the publish."""

    def lost(self, was_published: bool, cause: str) -> None:
        """The connection has ended."""


@final
@implementer(IProtocol, IPushProducer)
class MirrorConnection:
    """The connection to a mirror's server, and the ``Wire`` of its publisher."""

    def __init__(self, reactor: Any, memory: ServerMemory, mirroring: Owner) -> None:
        self._mirroring = mirroring
        self._reactor = reactor
        handshake = ClientHandshake(int(self._reactor.seconds() * 1000), os.urandom(RANDOM_BYTES))
        self._publisher = Publisher(
            *(self, memory, mirroring.destination, handshake, self._accepted)
        )
        self._transport: Any = None
        self._timer: Any = None
        self._cause = ""
        self._writes = 0
        self._is_closing = False
        # Since when the transport is full; None if it is not.
        self._full_since: float | None = None
        self.is_published = False

    @property
    def queued_bytes(self) -> int:
        """The size of the messages that wait for room in the transport."""
        return self._publisher.queued_bytes

    @property
    def left_out(self) -> int:
        """How many messages of the stream the server was not sent, since it accepted the publish."""
        player = self._publisher.player
        return 0 if player is None else player.left_out

    def sweep(self, now: float, stalled_s: float) -> None:
        """Abort the connection if the transport has been full for ``stalled_s``."""
        if self._full_since is not None and now - self._full_since >= stalled_s:
            self.close("the server does not read")

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        if self._mirroring.has_ended:
            transport.abortConnection()
            return
        self._transport = transport
        self._timer = self._reactor.callLater(_ACCEPT_S, self.close, "no answer to the publish")
        transport.registerProducer(self, True)
        self._publisher.begin()

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._is_closing:
            return
        try:
            self._publisher.receive(data, self._reactor.seconds())
        except RTMPError as error:
            self.close(str(error))

    def connectionLost(self, reason: Failure) -> None:
        self._transport = self._full_since = None
        self._cancel_timer()
        self._publisher.end()
        if self._publisher.player is not None:
            self._mirroring.live.players.pop(self._publisher.player, None)
        cause = self._cause or "the server has closed the connection"
        self._mirroring.lost(self.is_published, cause)

    def pauseProducing(self) -> None:
        self._full_since = self._reactor.seconds()
        self._publisher.hold()

    def resumeProducing(self) -> None:
        self._full_since = None
        self._publisher.release()
        if self._is_closing:
            self._close_after_all()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does the work."""

    # The publisher calls

    def write(self, data: bytes) -> None:
        """Part of ``Wire``."""
        if self._transport is None:
            return
        self._transport.write(data)
        self._writes += 1
        if self._writes >= _JOIN_WRITES:
            self._writes = 0
            join_unsent(self._transport)

    def _accepted(self, player: Player) -> None:
        self._cancel_timer()
        self.is_published = True
        self._mirroring.live.players[player] = None
        self._mirroring.accepted()

    # The mirroring, and the memory of all mirrors, call

    def close(self, cause: str = "") -> None:
        """Close: after pending data if the stream has ended, else at once for this cause."""
        self._cause = self._cause or cause
        self._cancel_timer()
        if self._transport is None:
            return
        if cause:
            self._transport.abortConnection()
            return
        self._is_closing = True
        self._timer = self._reactor.callLater(_CLOSE_S, self._transport.abortConnection)
        self._close_after_all()

    def _close_after_all(self) -> None:
        """Close, unless messages are still queued."""
        if not self._publisher.is_waiting:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
