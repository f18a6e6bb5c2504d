"""One of the two connections of a relay. Data read from one is written to the other.

Twisted's producer interface provides back-pressure: a full connection pauses reading on the other. Rules:

- End of stream is passed on after all data read before it.
- When the relay ends, each connection is closed after its pending data, and read for a little longer:
  closing a socket with unread data resets the connection, and the peer could lose the last data sent.
- A peer that acknowledges too few bytes a second (``limits.is_slow``) is disconnected. The kernel's count
  of acknowledged bytes is used, because a buffer that stays full does not show progress.

The relay decides when it ends, and for which reason.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol, final

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.protocols.limits import is_slow
from gateway.protocols.reasons import EndReason
from gateway.tunnels.losses import Reasons

# The write buffer size at which the other connection is paused: 0.1 s at 10 Mbit/s, and acceptable for
# thousands of relays.
_HIGH_WATER_BYTES = 128 * 1024
# How long a connection is read after the end of the relay; nginx's lingering_timeout is 5 s.
_LINGER_S = 2.0


class Relaying(Protocol):
    """The part of the relay that its connections use."""

    is_read: bool
    access: Any
    termination: Any
    ended: EndReason | None

    def clock(self) -> float: ...

    def read(self, side: RelayConnection, data: bytes) -> None:
        """Data was read from ``side``. Called while ``is_read`` is set."""

    def checked(self, side: RelayConnection, data: bytes) -> bytes:
        """The bytes to write of those read from ``side``. Called while ``access`` is not None."""

    def taken_late(self, side: RelayConnection) -> None:
        """The write buffer of ``side`` has drained."""

    def side_ended(self, side: RelayConnection) -> None:
        """The peer of ``side`` has ended its stream."""

    def side_lost(self, side: RelayConnection, reason: EndReason) -> None:
        """The connection of ``side`` was lost."""


@final
@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class RelayConnection:
    """``other`` is set by the relay. ``ended``: the peer has ended its stream. ``full_since``: when
    reading on ``other`` was paused for this connection's write buffer; infinite while it is not. ``held``:
    the relay has stopped reading on this connection.
    """

    __slots__ = (
        "_left",
        "_relay",
        "_taken",
        "_taken_at",
        "_write_ended",
        "bytes_read",
        "ended",
        "full_since",
        "held",
        "other",
        "reads",
        "reasons",
        "transport",
    )

    def __init__(self, relay: Relaying, reasons: Reasons) -> None:
        self._relay = relay
        self.reasons = reasons
        self.transport: Any = None
        self.other: RelayConnection = self
        self.bytes_read = self.reads = 0
        self.ended = self.held = False
        self.full_since = inf
        self._write_ended = False
        # Unacknowledged bytes at the last check; the time of the last sufficient progress, and the bytes
        # acknowledged since then.
        self._left = 0
        self._taken_at = 0.0
        self._taken = 0

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        if self._relay.ended:
            transport.abortConnection()
            return
        transport.high_water_bytes = _HIGH_WATER_BYTES
        transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._relay.ended:
            return
        self.bytes_read += len(data)
        self.reads += 1
        if self._relay.termination is not None:
            self._relay.termination.pass_on(self, data)
            return
        if self._relay.access is not None:
            data = self._relay.checked(self, data)
            if not data:
                return
        if self._relay.is_read:
            self._relay.read(self, data)
        self.other.transport.write(data)

    def pauseProducing(self) -> None:
        """The write buffer is full: pause reading on the other connection."""
        self.full_since = self._relay.clock()
        self._watch()
        self.other.transport.stopReading()

    def resumeProducing(self) -> None:
        self._relay.taken_late(self)
        self.full_since = inf
        self.other.continue_reading()

    def continue_reading(self) -> None:
        """Read again, unless the relay or a full write buffer is against it."""
        if not (self.transport is None or self.ended or self.held or self.other.full_since < inf):
            self.transport.startReading()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does the work."""

    def readConnectionLost(self) -> None:
        if not self.ended:
            self.ended = True
            self._relay.side_ended(self)

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol; we asked for it."""

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        self._relay.side_lost(self, self.reasons.of_loss(reason))

    # The relay calls

    def end_writing(self) -> None:
        """Half-close after all pending data."""
        if self._write_ended:
            return
        self._write_ended = True
        self.full_since = inf
        self._watch()
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """The relay has ended: close after all pending data."""
        if self.transport is None:
            return
        self.end_writing()
        self._watch()
        if self.ended:
            self.transport.loseConnection()
        else:
            self.transport.startReading()

    def abort(self) -> None:
        """The relay has ended: abort the connection."""
        if self.transport is not None:
            self.transport.unregisterProducer()
            self.transport.abort_now()

    def is_stalled(self, now: float, patience_s: float) -> bool:
        """Whether pending data has made insufficient progress for ``patience_s`` seconds."""
        if self.transport is None or not (self._write_ended or self.full_since < inf):
            return False
        return self._look(now) > 0 and self._takes_too_little(now, patience_s)

    def is_owed(self, now: float) -> bool:
        """Whether there is unacknowledged data."""
        return self.transport is not None and self._look(now) > 0

    def sweep_closed(self, now: float, patience_s: float) -> None:
        """Close a connection that lingers too long after the end of the relay."""
        if self.transport is None:
            return
        if self._look(now):
            if self._takes_too_little(now, patience_s):
                self.transport.abortConnection()
        elif now - self._taken_at >= _LINGER_S:
            self.transport.loseConnection()

    def _watch(self) -> None:
        self._taken_at = self._relay.clock()
        self._left = self._taken = 0

    def _look(self, now: float) -> int:
        """The number of unacknowledged bytes; updates the progress made since the last check."""
        left: int = self.transport.unacknowledged
        self._taken += max(0, self._left - left)
        if self._left and not left:
            self._taken_at = now
        self._left = left
        return left

    def _takes_too_little(self, now: float, patience_s: float) -> bool:
        if not is_slow(self._taken, patience_s):
            self._taken_at, self._taken = now, 0
        return now - self._taken_at >= patience_s
