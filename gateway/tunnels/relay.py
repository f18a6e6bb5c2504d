"""A client that speaks RTMP or RTMPE itself, joined to an upstream connection: bytes pass as they are.

    dialling    the client is not read; what it has said already waits here
    joined      both sides are read and written (relay_connection.py)
    half ended  one side says no more, the other may, for as long as it does say something
    ended       for one reason, told once; what was read is still written, within bounds

The side that ends first gives the reason. Bounds: a handshake that does not come, a side that takes nothing
for too long, and half a relay that is silent. A viewer who says nothing for an hour is no fault here:
keep-alive probes find those who are gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Protocol, final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import RequestRefused, ResourcesExhausted
from gateway.protocols.ingress import RTMP, Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.tunnels.admission import Admission
from gateway.tunnels.relay_connection import Reasons, RelayConnection

_log = Logger()

# C0 and C1, or their like in RTMPE: fewer bytes than this and nobody has begun a handshake.
_HANDSHAKE_BYTES = 1537

_OF_CLIENT = Reasons(
    EndReason.CLIENT_CLOSED,
    EndReason.CLIENT_LOST,
    EndReason.CLIENT_VANISHED,
    EndReason.CLIENT_STALLED,
)
_OF_UPSTREAM = Reasons(
    EndReason.UPSTREAM_CLOSED,
    EndReason.UPSTREAM_LOST,
    EndReason.UPSTREAM_VANISHED,
    EndReason.UPSTREAM_STALLED,
)
# Nobody has anything to come then.
_AT_ONCE = frozenset(
    (
        *(EndReason.ABANDONED, EndReason.UPSTREAM_UNAVAILABLE, EndReason.FAULT),
        EndReason.RESOURCES_EXHAUSTED,
        # The media server is to let the publisher in who returns.
        *(EndReason.CLIENT_VANISHED, EndReason.REPLACED),
    )
)


class Telemetry(Protocol):
    """Who is told of relays."""

    def session_opened(self, session: Relay) -> None: ...

    def session_ended(self, session: Relay, reason: EndReason) -> None: ...

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None: ...


def _nobody() -> None:
    """Who need not be told."""


@final
class Relay:
    """One relayed client. ``alias`` names it for people, as a tunnel's does; ``left`` is called when the
    client's connection is gone."""

    __slots__ = (
        "_first_end",
        "_left",
        "_limits",
        "_quiet_bytes",
        "_quiet_since",
        "_table",
        "address",
        "alias",
        "client",
        "clock",
        "ended",
        "figures",
        "ingress",
        "opened_at",
        "reading",
        "server",
        "unused_until",
        "upstream",
    )

    # What a tunnel's session counts and a relay has none of.
    sends = idles = closes = holds = empty_answers = filled_answers = repeats = early = 0
    streamed_answers = streamed_bytes = 0
    streamed_s = 0.0
    streaming = ""

    def __init__(
        self,
        table: RelayTable,
        alias: str,
        address: str,
        limits: Limits,
        ingress: Ingress = RTMP,
        figures: Any = None,
        left: Callable[[], None] = _nobody,
    ) -> None:
        self._table = table
        self._limits = limits
        self._left = left
        self.alias = alias
        self.address = address
        self.ingress = ingress
        self.figures = figures
        self.reading: Any = figures.take_reading() if figures is not None else None
        self.server = ""
        self.clock = table.clock
        self.opened_at = table.clock()
        self.unused_until = self.opened_at + limits.unused_session_s
        self.ended: EndReason | None = None
        self._first_end: EndReason | None = None
        # Of half a relay: since when, and at how many bytes, nothing has been said.
        self._quiet_since = inf
        self._quiet_bytes = 0
        self.client = RelayConnection(self, _OF_CLIENT)
        self.upstream = RelayConnection(self, _OF_UPSTREAM)
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

    def read(self, side: RelayConnection, data: bytes) -> None:
        """Let whoever reads the stream as it passes see ``data`` of one side."""
        if side is self.client:
            self.reading = self.reading.up(data, self.clock())
        else:
            self.reading = self.reading.down(data, self.clock())

    def taken_late(self, side: RelayConnection) -> None:
        """What was read last from the other side has been taken by this one only now."""
        if self.figures is None or side.full_since == inf:
            return
        late_s = self.clock() - side.full_since
        if side is self.client:
            self.figures.downstream_wait.add_late(late_s, self.upstream.reads)
        else:
            self.figures.upstream_delayed(late_s, self.client.reads)

    def side_ended(self, side: RelayConnection) -> None:
        if self.ended:
            side.close()
            return
        self._first_end = self._first_end or side.reasons.closed
        self._quiet_since = self.clock()
        if side.other.ended:
            self.end(self._first_end)
        elif side.other.transport is not None:
            side.other.end_writing()

    def side_lost(self, side: RelayConnection, reason: EndReason) -> None:
        self.end(self._first_end or reason)
        if side is self.client:
            self._left()
        if self.client.transport is None and self.upstream.transport is None:
            self._table.forget(self)

    # The table calls

    def join(self, first: bytes) -> None:
        """Both sides stand; the client has said ``first`` so far."""
        self.upstream.transport.write(first)
        if self.client.ended:
            self.upstream.end_writing()
        self.client.transport.startReading()

    def end(self, reason: EndReason) -> None:
        """End the relay, once."""
        if self.ended:
            return
        self.ended = reason
        self.reading = None
        for side in (self.client, self.upstream):
            if reason in _AT_ONCE or reason is side.reasons.stalled:
                side.abort()
            else:
                side.close()
        self._table.ended(self, reason)

    def sweep(self, now: float) -> None:
        """End the relay when one of its deadlines has passed; once it has ended, its connections."""
        if self.ended:
            for side in (self.client, self.upstream):
                side.sweep_closed(now, self._limits.stalled_write_s)
            return
        if now >= self.unused_until:
            if self.bytes_up < _HANDSHAKE_BYTES:
                self.end(EndReason.ABANDONED)
                return
            self.unused_until = inf
        for side in (self.client, self.upstream):
            if side.is_stalled(now, self._limits.stalled_write_s):
                self.end(side.reasons.stalled)
                return
        if self._first_end is not None:
            self._sweep_half(self._first_end, now)

    def _sweep_half(self, reason: EndReason, now: float) -> None:
        moved = self.bytes_up + self.bytes_down
        if moved != self._quiet_bytes or self.client.is_owed(now) or self.upstream.is_owed(now):
            self._quiet_bytes = moved
            self._quiet_since = now
        elif now - self._quiet_since >= self._limits.silent_session_s:
            self.end(reason)


@final
class RelayTable:
    """All relays of a worker. ``connect`` is as the session table's, for a relay's upstream side."""

    def __init__(
        self,
        limits: Limits,
        admission: Admission,
        next_alias: Callable[[], str],
        connect: Callable[[RelayConnection], Awaitable[str]],
        clock: Callable[[], float],
        telemetry: Telemetry,
        measure: Callable[[Ingress], Any] = lambda ingress: None,
    ) -> None:
        self._limits = limits
        self._admission = admission
        self._next_alias = next_alias
        self._connect = connect
        self._telemetry = telemetry
        self._measure = measure
        # Those that have ended too, until their connections are gone.
        self._relays: set[Relay] = set()
        self.clock = clock

    def open(
        self,
        address: str,
        transport: Any,
        first: bytes,
        ingress: Ingress = RTMP,
        left: Callable[[], None] = _nobody,
    ) -> None:
        """Relay the client at ``transport``, whose ``first`` bytes have been read already.

        ``left`` is called when its connection is gone, unless it is refused here: then its protocol
        stays what it was.
        """
        try:
            self._admission.enter(address)
        except RequestRefused as error:
            self._telemetry.open_refused(error, address, ingress)
            transport.abortConnection()
            return
        figures = self._measure(ingress)
        relay = Relay(self, self._next_alias(), address, self._limits, ingress, figures, left)
        relay.client.bytes_read = len(first)
        if figures is not None:
            figures.carried_by(transport, None)
        if relay.reading is not None:
            relay.read(relay.client, first)
        self._relays.add(relay)
        transport.protocol = relay.client
        # Nothing is read until there is somebody to write it to.
        transport.stopReading()
        relay.client.makeConnection(transport)
        Deferred.fromCoroutine(self._join(relay, first)).addErrback(self._fail, relay)

    def sweep(self, now: float) -> None:
        """Do what is due at ``now`` in every relay."""
        for relay in tuple(self._relays):
            try:
                relay.sweep(now)
            except Exception:
                # It must not keep the others from their deadlines.
                _log.failure("Relay {alias} failed and ends", alias=relay.alias)
                relay.end(EndReason.FAULT)

    def end_all(self, reason: EndReason) -> None:
        """End every relay."""
        for relay in tuple(self._relays):
            relay.end(reason)

    # The relays call

    def ended(self, relay: Relay, reason: EndReason) -> None:
        """A relay has ended."""
        self._admission.leave(relay.address)
        self._telemetry.session_ended(relay, reason)

    def forget(self, relay: Relay) -> None:
        """Both of an ended relay's connections are gone."""
        self._relays.discard(relay)

    async def _join(self, relay: Relay, first: bytes) -> None:
        try:
            relay.server = await self._connect(relay.upstream)
        except RequestRefused as error:
            if not relay.ended:
                self._telemetry.open_refused(error, relay.address, relay.ingress)
            is_own = isinstance(error, ResourcesExhausted)
            relay.end(EndReason.RESOURCES_EXHAUSTED if is_own else EndReason.UPSTREAM_UNAVAILABLE)
            return
        if not relay.ended:
            self._telemetry.session_opened(relay)
            relay.join(first)

    def _fail(self, failure: Failure, relay: Relay) -> None:
        _log.failure("A relay failed", failure)
        relay.end(EndReason.FAULT)
