"""A client that speaks RTMP or RTMPE itself, joined to an upstream connection: bytes pass as they are.

Both sides are alike: what one reads is written to the other, which pauses it while more than a mark is
unsent (Twisted's producers do that). A side that ends its stream has it ended on the other, and the relay
ends when both have. Bounds: a handshake that does not come, and a side that takes nothing for too long.
A viewer who says nothing for an hour is no fault here: keep-alive probes find those who are gone.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Protocol, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RequestRefused
from gateway.protocols.limits import Limits
from gateway.protocols.origin import RTMP, Origin
from gateway.protocols.reasons import EndReason
from gateway.tunnels.admission import Admission

_log = Logger()

# C0 and C1, or their like in RTMPE: fewer bytes than this and nobody has begun a handshake.
_HANDSHAKE_BYTES = 1537
# Per side: enough for 80 ms at 10 Mbit/s, little enough that a slow client drains it before it counts
# as stalled.
_HIGH_WATER_BYTES = 128 * 1024
# tcp(7): probes after a minute, six of them ten seconds apart.
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))


class Telemetry(Protocol):
    """Who is told of relays."""

    def session_opened(self, session: Relay) -> None: ...

    def session_ended(self, session: Relay, reason: EndReason) -> None: ...

    def open_refused(self, error: RequestRefused) -> None: ...


@final
@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Side:
    """One of a relay's two connections, and the protocol of its transport."""

    __slots__ = (
        "_relay",
        "bytes_read",
        "ended",
        "full_since",
        "other",
        "reads",
        "reasons",
        "transport",
    )

    def __init__(self, relay: Relay, reasons: _Reasons) -> None:
        self._relay = relay
        self.reasons = reasons
        self.transport: Any = None
        self.other: Side = self
        self.bytes_read = self.reads = 0
        self.ended = False
        self.full_since = inf

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        transport.high_water_bytes = _HIGH_WATER_BYTES
        transport.registerProducer(self, True)
        _keep_alive(transport)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        self.bytes_read += len(data)
        self.reads += 1
        if self._relay.reading is not None:
            self._relay.read(self, data)
        self.other.transport.write(data)

    def pauseProducing(self) -> None:
        """This side takes no more for now: read nothing for it from the other."""
        self.full_since = self._relay.clock()
        if self.other.transport is not None:
            self.other.transport.stopReading()

    def resumeProducing(self) -> None:
        self._relay.taken_late(self)
        self.full_since = inf
        if self.other.transport is not None and not self.other.ended:
            self.other.transport.startReading()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does what there is to do."""

    def readConnectionLost(self) -> None:
        """This side says no more."""
        self.ended = True
        if self.other.ended or self.other.transport is None:
            self._relay.end(self.reasons.closed)
        else:
            self.other.transport.unregisterProducer()
            self.other.transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """What the other side had said is written, and the end of it."""

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        clean = reason.check(ConnectionDone) is not None
        self._relay.end(self.reasons.closed if clean else self.reasons.lost)


class _Reasons:
    """How it is called when a side ends."""

    def __init__(self, closed: EndReason, lost: EndReason, stalled: EndReason) -> None:
        self.closed = closed
        self.lost = lost
        self.stalled = stalled


_OF_CLIENT = _Reasons(EndReason.CLIENT_CLOSED, EndReason.CLIENT_LOST, EndReason.CLIENT_STALLED)
_OF_UPSTREAM = _Reasons(
    EndReason.UPSTREAM_CLOSED, EndReason.UPSTREAM_LOST, EndReason.UPSTREAM_STALLED
)


@final
class Relay:
    """One relayed client. ``alias`` names it for people, as a tunnel's does."""

    __slots__ = (
        "_stalled_write_s",
        "_table",
        "address",
        "alias",
        "client",
        "clock",
        "ended",
        "figures",
        "opened_at",
        "origin",
        "reading",
        "server",
        "unused_until",
        "upstream",
    )

    # What a tunnel's session counts and a relay has none of.
    sends = idles = closes = holds = empty_answers = filled_answers = repeats = early = 0

    def __init__(
        self,
        table: RelayTable,
        alias: str,
        address: str,
        limits: Limits,
        origin: Origin = RTMP,
        figures: Any = None,
    ) -> None:
        self._table = table
        self._stalled_write_s = limits.stalled_write_s
        self.alias = alias
        self.address = address
        self.origin = origin
        self.figures = figures
        self.reading: Any = figures.take_reading() if figures is not None else None
        self.server = ""
        self.clock = table.clock
        self.opened_at = table.clock()
        self.unused_until = self.opened_at + limits.unused_session_s
        self.ended: EndReason | None = None
        self.client = Side(self, _OF_CLIENT)
        self.upstream = Side(self, _OF_UPSTREAM)
        self.client.other, self.upstream.other = self.upstream, self.client

    @property
    def bytes_up(self) -> int:
        return self.client.bytes_read

    @property
    def bytes_down(self) -> int:
        return self.upstream.bytes_read

    # Telemetry and the operator call

    @property
    def opening_fields(self) -> None:
        """No request opened it."""

    @property
    def counted(self) -> Relay:
        """Who keeps the counts."""
        return self

    @property
    def moments(self) -> tuple[int, int]:
        """How many pieces were read of each side: what can be late."""
        return self.client.reads, self.upstream.reads

    @property
    def position(self) -> str:
        """As a session's; a relay knows two."""
        return "ended" if self.ended else "ordinary"

    @property
    def buffered_bytes(self) -> int:
        """What was read from one side and not taken by the other yet."""
        sides = (self.client, self.upstream)
        return sum(side.transport.unsent for side in sides if side.transport is not None)

    def dismiss(self, reason: EndReason) -> None:
        """End the relay."""
        self.end(reason)

    # The sides call

    def read(self, side: Side, data: bytes) -> None:
        """Let whoever reads the stream as it passes see ``data`` of one side."""
        if side is self.client:
            self.reading = self.reading.up(data, self.clock())
        else:
            self.reading = self.reading.down(data, self.clock())

    def taken_late(self, side: Side) -> None:
        """What was read last from the other side has been taken by this one only now."""
        if self.figures is None or side.full_since == inf:
            return
        late_s = self.clock() - side.full_since
        if side is self.client:
            self.figures.downstream_wait.add_late(late_s, self.upstream.reads)
        else:
            self.figures.upstream_delayed(late_s, self.client.reads)

    def end(self, reason: EndReason) -> None:
        """End the relay, once; what was read from a side that closed is still written to the other."""
        if self.ended:
            return
        self.ended = reason
        self.reading = None
        orderly = reason in (EndReason.CLIENT_CLOSED, EndReason.UPSTREAM_CLOSED)
        for side in (self.client, self.upstream):
            if side.transport is None:
                continue
            side.transport.unregisterProducer()
            if orderly:
                side.transport.loseConnection()
            else:
                side.transport.abortConnection()
        self._table.forget(self, reason)

    def sweep(self, now: float) -> None:
        """End the relay when one of its deadlines has passed."""
        if now >= self.unused_until:
            if self.bytes_up < _HANDSHAKE_BYTES:
                self.end(EndReason.ABANDONED)
                return
            self.unused_until = inf
        for side in (self.client, self.upstream):
            if now - side.full_since >= self._stalled_write_s:
                self.end(side.reasons.stalled)


@final
class RelayTable:
    """All relays of a worker. ``connect`` is as the session table's, for a relay's upstream side."""

    def __init__(
        self,
        limits: Limits,
        admission: Admission,
        next_alias: Callable[[], str],
        connect: Callable[[Side], Awaitable[str]],
        clock: Callable[[], float],
        telemetry: Telemetry,
        measure: Callable[[Origin], Any] = lambda origin: None,
    ) -> None:
        self._limits = limits
        self._admission = admission
        self._next_alias = next_alias
        self._connect = connect
        self._telemetry = telemetry
        self._measure = measure
        self._relays: set[Relay] = set()
        self.clock = clock

    def open(
        self, address: str, transport: Any, first: bytes, origin: Origin = RTMP
    ) -> None:
        """Relay the client at ``transport``, whose ``first`` bytes have been read already."""
        try:
            self._admission.enter(address)
        except RequestRefused as error:
            self._refuse(transport, error)
            return
        figures = self._measure(origin)
        relay = Relay(self, self._next_alias(), address, self._limits, origin, figures)
        relay.client.bytes_read = len(first)
        if figures is not None:
            figures.carried_by(transport, None)
            relay.read(relay.client, first)
        self._relays.add(relay)
        transport.protocol = relay.client
        # Nothing is read until there is somebody to write it to.
        transport.stopReading()
        relay.client.makeConnection(transport)
        Deferred.fromCoroutine(self._join(relay, first)).addErrback(
            lambda failure: _log.failure("A relay failed", failure)
        )

    def sweep(self, now: float) -> None:
        """Do what is due at ``now`` in every relay."""
        for relay in tuple(self._relays):
            relay.sweep(now)

    def end_all(self, reason: EndReason) -> None:
        """End every relay."""
        for relay in tuple(self._relays):
            relay.end(reason)

    def forget(self, relay: Relay, reason: EndReason) -> None:
        """Part of ``Relay.end``."""
        self._relays.discard(relay)
        self._admission.leave(relay.address)
        self._telemetry.session_ended(relay, reason)

    async def _join(self, relay: Relay, first: bytes) -> None:
        try:
            relay.server = await self._connect(relay.upstream)
        except RequestRefused as error:
            self._telemetry.open_refused(error)
            relay.end(EndReason.UPSTREAM_UNAVAILABLE)
            return
        if relay.ended:
            relay.upstream.transport.abortConnection()
            return
        self._telemetry.session_opened(relay)
        relay.upstream.transport.write(first)
        relay.client.transport.startReading()

    def _refuse(self, transport: Any, error: RequestRefused) -> None:
        self._telemetry.open_refused(error)
        transport.abortConnection()


def _keep_alive(transport: Any) -> None:
    transport.setTcpKeepAlive(True)
    for option, value in _KEEP_ALIVE:
        transport.socket.setsockopt(socket.IPPROTO_TCP, option, value)
