"""A client connection in memory, with real sessions and an upstream played by the test.

``Wire`` behaves towards its protocol as ``gateway.transport.EagerServer`` does: a write is accepted at once
as far as there is room; the producer is paused if data remains, and resumed when all is sent; no data is
delivered while reading is stopped; a half-closed side still reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from gateway.errors import UpstreamUnavailable
from gateway.listeners.connections import ConnectionSet
from gateway.listeners.http import HTTPConnection
from gateway.listeners.http_service import HTTPService
from gateway.protocols.limits import Limits
from gateway.telemetry.sessions import Sessions
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.table import SessionTable
from gateway.tunnels.tunnel import Tunnel
from tests.helpers.own_count import OwnCount

HOLD_S = 0.5


class Clock:
    """A clock in seconds that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Upstream:
    """The transport of a tunnel's upstream connection."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel
        self.received: list[bytes] = []
        self.unsent = 0
        self.reading = True
        self.ended = ""
        tunnel.makeConnection(self)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert (producer, streaming) == (self.tunnel, True)

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.received.append(data)

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    @property
    def unacknowledged(self) -> int:
        return self.unsent

    def loseWriteConnection(self) -> None:
        self.ended = self.ended or "closed"

    def abortConnection(self) -> None:
        self.ended = "aborted"

    def says(self, data: bytes) -> None:
        assert self.reading
        self.tunnel.dataReceived(data)

    def closes(self) -> None:
        self.tunnel.connectionLost(Failure(ConnectionDone()))


class Wire:
    """The transport of a client's connection. ``room`` is how many bytes the kernel still takes, and
    ``acknowledged_late`` how many of those it took the client's has not got yet."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.writes: list[bytes] = []
        self.room: float = float("inf")
        self.unsent = b""
        self.high_water_bytes = 65536
        self.round_trip_s = 0.0
        self.acknowledged = 0
        self.idle_marks = 0
        self.acknowledged_late = 0
        self.reading = True
        self.write_closed = False
        self.closing = False
        self.aborted = False
        self.lost = False
        self._arrived = b""
        self._producer: Any = None
        self._paused = False
        self._half_closing = False

    # What the connection calls

    @property
    def unacknowledged(self) -> int:
        return len(self.unsent) + self.acknowledged_late

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        assert self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        assert not self.lost
        assert not self.write_closed
        if self.aborted:
            return
        taken = 0 if self.unsent else int(min(self.room, len(data)))
        self.room -= taken
        if not self.unsent:
            self.writes.append(data[:taken])
        self.unsent += data[taken:]
        if self._producer is not None and len(self.unsent) > self.high_water_bytes:
            self._paused = True
            self._producer.pauseProducing()

    def write_two(self, first: bytes, second: bytes) -> None:
        self.write(first + second)

    def acknowledge_now(self) -> None:
        assert not self.lost
        self.acknowledged += 1

    def mark_idle(self) -> None:
        self.idle_marks += 1

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        assert not self.aborted
        self.reading = True

    def loseWriteConnection(self) -> None:
        self._half_closing = True
        if not self.unsent:
            self.write_closed = True

    def loseConnection(self) -> None:
        self.closing = True
        self.reading = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.reading = False

    # What the client and the kernel do

    def arrive(self, data: bytes) -> None:
        """Bytes arrive; they wait in the kernel while reading is stopped."""
        self._arrived += data
        self.turn()

    @property
    def unread(self) -> int:
        """The number of bytes that wait in the kernel."""
        return len(self._arrived)

    def turn(self) -> None:
        """A turn of the reactor: deliver the received data unless reading is stopped."""
        if self.reading and self._arrived and not self.lost:
            data, self._arrived = self._arrived, b""
            self.protocol.dataReceived(data)

    def drain(self, room: float = float("inf")) -> None:
        """The client reads: all unsent data is sent, and ``room`` bytes are free afterwards."""
        assert not self.aborted
        if self.unsent:
            self.writes.append(self.unsent)
            self.unsent = b""
        self.room = room
        if self._producer is not None and self._paused:
            self._paused = False
            self._producer.resumeProducing()
        elif self._half_closing:
            self.write_closed = True
        self.turn()

    def end(self) -> None:
        """The client half-closes, and continues to read."""
        self.turn()
        self.protocol.readConnectionLost()

    def lose(self) -> None:
        """Report the loss of the connection, once."""
        assert not self.lost
        self.lost = True
        reason = ConnectionAborted() if self.aborted else ConnectionDone()
        self.protocol.connectionLost(Failure(reason))


class Gateway:
    """A worker's parts without its reactor. An open waits for ``connects`` when ``dialling`` is set."""

    def __init__(self, limits: Limits = Limits(), hold_s: float = HOLD_S) -> None:
        self.limits = limits
        self.clock = Clock()
        self.records = Sessions(self.clock, self.clock)
        self.connections = ConnectionSet(limits, OwnCount())
        self.upstreams: list[Upstream] = []
        self.refuses = False
        self.dialling = False
        self.dials: list[Deferred[None]] = []
        self.soon: list[Callable[[], None]] = []
        self._made = 0
        self.admission = Admission(limits, 1 << 30, OwnCount())
        self.sessions = SessionTable(
            limits,
            hold_s,
            self.admission,
            SessionIds("aa", 0, self._random),
            self._connect,
            self.clock,
            self.records,
            self.records.measure,
        )
        self.service = HTTPService(
            limits, self.sessions, self.connections, self.clock, self.soon.append
        )

    def _random(self, size: int) -> bytes:
        self._made += 1
        return self._made.to_bytes(size, "big")

    async def _connect(self, tunnel: Tunnel, session: Tunnel) -> str:
        if self.dialling:
            dial: Deferred[None] = Deferred()
            self.dials.append(dial)
            await dial
        if self.refuses:
            raise UpstreamUnavailable("no server")
        self.upstreams.append(Upstream(tunnel))
        return "upstream:1935"

    def accept(self, address: str = "192.0.2.1") -> Wire:
        wire = Wire()
        wire.protocol = HTTPConnection(self.service, address)
        wire.protocol.makeConnection(wire)
        return wire

    def turn(self) -> None:
        """Run the deferred calls."""
        while self.soon:
            calls, self.soon[:] = list(self.soon), []
            for call in calls:
                call()

    def passes(self, seconds: float) -> None:
        """Advance the clock, and sweep."""
        self.clock.now += seconds
        self.sessions.sweep(self.clock.now)
        self.connections.sweep(self.clock.now)
        self.turn()

    def connects(self) -> None:
        """Complete or fail the oldest pending connect."""
        self.dials.pop(0).callback(None)
        self.turn()
