"""A TCP connection in memory, whose transport behaves like ``EagerServer``.

The test plays the peer and its kernel: ``says``, ``reads``, ``ends``, ``resets``. ``turn`` does the work of
the reactor's next turn.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, final

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure


class _Socket:
    family: int = socket.AF_INET


@final
class Line:
    """``room`` is how many bytes the kernels between here and the peer hold that the peer has not read."""

    def __init__(self, room: float = float("inf")) -> None:
        self.protocol: Any = None
        self.socket = _Socket()
        self.high_water_bytes = 65536
        self.last_bytes = 0
        self.received = bytearray()
        self.writes: list[int] = []
        self.reading = True
        self.ended = self.closed = self.aborted = False
        self._room = room
        self._in_kernel = bytearray()
        self._unsent = bytearray()
        self._unread = bytearray()
        self._peer_ended = self._end_seen = False
        self._closing = self._write_ending = False
        self._producer: Any = None
        self._paused = self._holds_writes = False
        self._soon: list[Callable[[], None]] = []

    def connect(self, protocol: Any) -> Line:
        self.protocol = protocol
        protocol.makeConnection(self)
        return self

    # What the protocol calls

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    @property
    def unacknowledged(self) -> int:
        return len(self._unsent) + len(self._in_kernel)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        assert self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        if self._is_over or self._write_ending:
            return
        self.writes.append(len(data))
        self._unsent += data
        self._send()
        over = len(self._unsent) > self.high_water_bytes
        if over and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = not self._is_over

    pauseProducing = stopReading
    resumeProducing = startReading

    def hold_writes(self, on: bool) -> None:
        self._holds_writes = on
        if not on:
            self._send()
            self._soon.append(self._flush)

    def loseWriteConnection(self) -> None:
        self._write_ending = True
        self._soon.append(self._flush)

    def loseConnection(self) -> None:
        if self._is_over or self._closing:
            return
        self.reading = False
        if self.ended:
            self._lose(ConnectionDone())
            return
        self._closing = True
        self._soon.append(self._flush)

    def abort_now(self) -> None:
        self.abortConnection()

    def abortConnection(self) -> None:
        if self._is_over:
            return
        self.aborted = True
        self.reading = False
        self._soon.append(lambda: self._lose(ConnectionAborted()))

    # What the peer does

    def says(self, data: bytes) -> None:
        self._unread += data
        self.turn()

    def reads(self, count: float = float("inf")) -> None:
        """The peer reads so many of the bytes sent."""
        while count > 0 and self._in_kernel:
            taken = int(min(count, len(self._in_kernel)))
            self.received += self._in_kernel[:taken]
            del self._in_kernel[:taken]
            count -= taken
            self._send()
            self._flush()
        self.turn()

    def ends(self) -> None:
        """The peer half-closes."""
        self._peer_ended = True
        self.turn()

    def resets(self) -> None:
        self._unsent.clear()
        self._lose(ConnectionLost())

    def turn(self) -> None:
        """Turns of the reactor, until there is no more work."""
        while True:
            soon, self._soon = self._soon, []
            for call in soon:
                call()
            if self.reading and self._unread and not self._is_over:
                data, self._unread = bytes(self._unread), bytearray()
                self.protocol.dataReceived(data)
            elif self.reading and self._peer_ended and not (self._end_seen or self._is_over):
                self._end_seen = True
                self._end_reading()
            elif not self._soon:
                return

    @property
    def is_gone(self) -> bool:
        return self.closed or self.aborted

    # The inside

    @property
    def _is_over(self) -> bool:
        return self.closed or self.aborted

    def _send(self) -> None:
        """The kernel accepts data up to its free space; without a limit the peer reads at once."""
        if self._holds_writes:
            return
        if self._room == float("inf"):
            self.received += self._unsent
            self._unsent.clear()
            return
        taken = int(min(len(self._unsent), max(0, self._room - len(self._in_kernel))))
        self._in_kernel += self._unsent[:taken]
        del self._unsent[:taken]

    def _flush(self) -> None:
        """As Twisted's ``doWrite``, once nothing is left to send."""
        if self._unsent or self._is_over:
            return
        if self._producer is not None and self._paused:
            self._paused = False
            self._producer.resumeProducing()
        elif self._closing:
            self._lose(ConnectionDone())
        elif self._write_ending and not self.ended:
            self.ended = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()

    def _end_reading(self) -> None:
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.reading = False
            self.protocol.readConnectionLost()
        else:
            self._lose(ConnectionDone())

    def _lose(self, error: Exception) -> None:
        if self.closed:
            return
        self.closed = self.ended = True
        self.reading = False
        self._producer = None
        self.protocol.connectionLost(Failure(error))
