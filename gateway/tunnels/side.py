"""One of a relay's two connections. Both are alike: what one reads is written to the other.

Back-pressure is Twisted's: the side that is written to pauses the other's reading. Rules:

- A side that ends its stream has it ended on the other, behind all that the other is still owed.
- A relay that has ended closes what is left of it in the same way, and reads on a little: closing over
  unread bytes would reset the connection, and its peer might never see the last of ours.
- Whoever takes next to nothing of what it is owed for too long is cut (``LEAST_BYTES_A_S``); who takes it
  slowly is not. What counts is what the peer's kernel acknowledges, since a buffer that stays full does
  not tell.

When the relay ends, and why, is the relay's to say.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol, final

from attrs import frozen
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.protocols.limits import LEAST_BYTES_A_S
from gateway.protocols.reasons import EndReason
from gateway.transport import has_vanished

# What may be unsent to a side before the other is paused: enough for 0.1 s at 10 Mbit/s, little enough
# for thousands of relays.
_HIGH_WATER_BYTES = 128 * 1024
# How long a side that owes us its end may still speak; nginx's lingering_timeout is 5 s.
_LINGER_S = 2.0


@frozen
class Reasons:
    """How it is called when a side ends."""

    closed: EndReason
    lost: EndReason
    vanished: EndReason
    stalled: EndReason


class Relaying(Protocol):
    """The relay, as far as its sides need it."""

    reading: Any
    ended: EndReason | None

    def clock(self) -> float: ...

    def read(self, side: Side, data: bytes) -> None:
        """Called with what a side has read, while ``reading`` is not None."""

    def taken_late(self, side: Side) -> None:
        """A side that was full has taken everything."""

    def side_ended(self, side: Side) -> None:
        """A side says no more."""

    def side_lost(self, side: Side, reason: EndReason) -> None:
        """A side's connection is gone."""


@final
@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Side:
    """``other`` is set by the relay. ``ended`` says whether its peer's stream has ended, ``full_since``
    since when the other side is paused for it."""

    __slots__ = (
        "_left",
        "_relay",
        "_taken",
        "_taken_at",
        "_write_ended",
        "bytes_read",
        "ended",
        "full_since",
        "other",
        "reads",
        "reasons",
        "transport",
    )

    def __init__(self, relay: Relaying, reasons: Reasons) -> None:
        self._relay = relay
        self.reasons = reasons
        self.transport: Any = None
        self.other: Side = self
        self.bytes_read = self.reads = 0
        self.ended = False
        self.full_since = inf
        self._write_ended = False
        # What it was owed when that was last looked at, when it was last seen to have taken enough, and
        # what it has taken since.
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
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        if self._relay.ended:
            return
        self.bytes_read += len(data)
        self.reads += 1
        if self._relay.reading is not None:
            self._relay.read(self, data)
        self.other.transport.write(data)

    def pauseProducing(self) -> None:
        """This side takes no more for now: read nothing for it from the other."""
        self.full_since = self._relay.clock()
        self._watch()
        self.other.transport.stopReading()

    def resumeProducing(self) -> None:
        self._relay.taken_late(self)
        self.full_since = inf
        if self.other.transport is not None and not self.other.ended:
            self.other.transport.startReading()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does what there is to do."""

    def readConnectionLost(self) -> None:
        if not self.ended:
            self.ended = True
            self._relay.side_ended(self)

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol; we asked for it."""

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        ended = self.reasons.lost
        if has_vanished(reason):
            ended = self.reasons.vanished
        elif reason.check(ConnectionDone):
            ended = self.reasons.closed
        self._relay.side_lost(self, ended)

    # The relay calls

    def end_writing(self) -> None:
        """End our stream to it, behind what it is still owed."""
        if self._write_ended:
            return
        self._write_ended = True
        self.full_since = inf
        self._watch()
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """The relay has ended: let it take what it is owed, and end in its turn."""
        if self.transport is None:
            return
        self.end_writing()
        self._watch()
        if self.ended:
            self.transport.loseConnection()
        else:
            self.transport.startReading()

    def abort(self) -> None:
        """The relay has ended, and this side has nothing more to come."""
        if self.transport is not None:
            self.transport.unregisterProducer()
            self.transport.abort_now()

    def is_stalled(self, now: float, patience_s: float) -> bool:
        """Whether it has taken next to nothing for so long, of all that it is owed."""
        if self.transport is None or not (self._write_ended or self.full_since < inf):
            return False
        return self._look(now) > 0 and self._takes_too_little(now, patience_s)

    def is_owed(self, now: float) -> bool:
        """Whether it has not taken everything yet."""
        return self.transport is not None and self._look(now) > 0

    def sweep_closed(self, now: float, patience_s: float) -> None:
        """Cut what lasts too long; to be called once the relay has ended."""
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
        """How many bytes it is owed; notes how much less that is than at the last look."""
        left: int = self.transport.unacknowledged
        self._taken += max(0, self._left - left)
        if self._left and not left:
            self._taken_at = now
        self._left = left
        return left

    def _takes_too_little(self, now: float, patience_s: float) -> bool:
        if self._taken >= LEAST_BYTES_A_S * patience_s:
            self._taken_at, self._taken = now, 0
        return now - self._taken_at >= patience_s
