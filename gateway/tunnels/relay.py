"""Relays of RTMP and RTMPE connections to an upstream server, byte for byte unless RTMPE is terminated.

    dialling    connecting to the upstream; the client is not read, its first bytes are kept here
    joined      both connections are read and written (relay_connection.py)
    half ended  one peer has ended its stream; the other can send, unless it is silent for too long
    ended       the end reason is set; pending data is still written, within limits

The end reason is that of the connection that ends first. Timeouts: a client that sends no handshake, a
terminated handshake that is not complete, a peer that accepts no data, and a half-closed relay without
data. A silent viewer is not disconnected: keep-alive probes detect peers that have vanished.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Protocol, final

from gateway.protocols.ingress import RTMP, Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.rtmp.mirroring import MirrorReader
from gateway.tunnels.access_control import AccessControl
from gateway.tunnels.losses import OF_CLIENT, OF_UPSTREAM
from gateway.tunnels.relay_connection import RelayConnection
from gateway.tunnels.terminated_relay import RelayTermination

# The size of C0 and C1, in RTMPE too. With fewer bytes, no handshake has begun.
_HANDSHAKE_BYTES = 1537

# End reasons of a client that got no upstream connection.
_REFUSALS = frozenset((EndReason.UPSTREAM_UNAVAILABLE, EndReason.RESOURCES_EXHAUSTED))
# End reasons after which neither peer gets further data.
_AT_ONCE = frozenset(
    (
        *(EndReason.ABANDONED, EndReason.FAULT, EndReason.BAD_HANDSHAKE),
        # The media server must accept the publisher that reconnects.
        *(EndReason.CLIENT_VANISHED, EndReason.REPLACED),
    )
)


class Table(Protocol):
    """The part of the table that its relays use."""

    def clock(self) -> float: ...

    def ended(self, relay: Relay, reason: EndReason) -> None:
        """A relay has ended."""

    def forget(self, relay: Relay) -> None:
        """Both connections of an ended relay have been lost."""


def ignore() -> None:
    """The callback of a relay that needs none."""


@final
class Relay:
    """One relayed client. ``alias`` is its name in logs and on the status page. ``left`` is called when the
    client's connection has been lost."""

    __slots__ = (
        "_first_end",
        "_left",
        "_limits",
        "_quiet_bytes",
        "_quiet_since",
        "_table",
        "access",
        "address",
        "alias",
        "client",
        "clock",
        "ended",
        "figures",
        "ingress",
        "is_read",
        "mirroring",
        "opened_at",
        "reading",
        "server",
        "termination",
        "unused_until",
        "upstream",
    )

    # Counters of a tunnel's session that a relay does not have.
    sends = idles = closes = holds = empty_answers = filled_answers = repeats = early = 0
    streamed_answers = streamed_bytes = 0
    streamed_s = 0.0
    streaming = ""

    def __init__(
        self,
        table: Table,
        alias: str,
        address: str,
        limits: Limits,
        ingress: Ingress = RTMP,
        figures: Any = None,
        left: Callable[[], None] = ignore,
        mirroring: MirrorReader | None = None,
    ) -> None:
        self._table = table
        self._limits = limits
        self._left = left
        self.alias = alias
        self.address = address
        self.ingress = ingress
        self.figures = figures
        self.reading: Any = figures.take_reading() if figures is not None else None
        self.termination: RelayTermination | None = None
        # None without access control.
        self.access: AccessControl | None = None
        # None if nothing can be mirrored, or no longer.
        self.mirroring = mirroring
        self.is_read = self.reading is not None or mirroring is not None
        self.server = ""
        self.clock = table.clock
        self.opened_at = table.clock()
        self.unused_until = self.opened_at + limits.unused_session_s
        self.ended: EndReason | None = None
        self._first_end: EndReason | None = None
        # For a half-closed relay: the time of the last data, and the byte count then.
        self._quiet_since = inf
        self._quiet_bytes = 0
        self.client = RelayConnection(self, OF_CLIENT)
        self.upstream = RelayConnection(self, OF_UPSTREAM)
        self.client.other, self.upstream.other = self.upstream, self.client

    @property
    def bytes_up(self) -> int:
        return self.client.bytes_read

    @property
    def bytes_down(self) -> int:
        return self.upstream.bytes_read

    # Called by telemetry and the admin server

    @property
    def opening_fields(self) -> None:
        """None: a relay is not opened by an HTTP request."""

    @property
    def counted(self) -> Relay:
        """The object with the counters: the relay itself."""
        return self

    @property
    def moments(self) -> tuple[int, int]:
        """The number of reads from each connection: the events whose delay is measured."""
        return self.client.reads, self.upstream.reads

    @property
    def position(self) -> str:
        """As a session's state: "ordinary" or "ended"."""
        return "ended" if self.ended else "ordinary"

    @property
    def buffered_bytes(self) -> int:
        """Bytes read from one connection that the other's socket has not accepted yet."""
        sides = (self.client, self.upstream)
        return sum(side.transport.unsent for side in sides if side.transport is not None)

    def hold_upstream(self, on: bool) -> None:
        """Hold back data for the upstream, or send what was held back."""
        if self.upstream.transport is not None:
            self.upstream.transport.hold_writes(on)

    def dismiss(self, reason: EndReason) -> None:
        """End the relay."""
        self.end(reason)

    # Called by the connections

    def read(self, side: RelayConnection, data: bytes) -> None:
        """Pass ``data`` read from ``side`` to the readers."""
        now, is_up = self.clock(), side is self.client
        if self.reading is not None:
            self.reading = self.reading.up(data, now) if is_up else self.reading.down(data, now)
        if self.mirroring is not None:
            mirroring = self.mirroring
            self.mirroring = mirroring.up(data, now) if is_up else mirroring.down(data, now)
        self.is_read = self.reading is not None or self.mirroring is not None

    def checked(self, side: RelayConnection, data: bytes) -> bytes:
        """The bytes to write of those read from ``side``. Called while ``access`` is not None."""
        if self.access is None:
            return data
        if side is self.client:
            return self.access.up(data, self.clock())
        self.access.down(data)
        return data

    def taken_late(self, side: RelayConnection) -> None:
        """The write buffer of ``side`` has drained: record the delay of the data in it."""
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
        if side is self.client and self.access is not None and self.access.is_waiting:
            # What waits for a verdict would be written after the end of the stream.
            self.end(side.reasons.closed)
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

    def send_up(self, data: bytes) -> None:
        """Check bytes of the client, and write those that pass."""
        self.pass_up(data if self.access is None else self.access.up(data, self.clock()))

    # Called by access control

    def pass_up(self, data: bytes) -> None:
        """Write bytes of the client that have been checked."""
        if data and self.upstream.transport is not None:
            if self.is_read:
                self.read(self.client, data)
            self.upstream.transport.write(data)

    def hold_client(self, on: bool) -> None:
        """Stop reading from the client, or continue."""
        self.client.held = on
        if not on:
            self.client.continue_reading()
        elif self.client.transport is not None:
            self.client.transport.stopReading()

    def deny(self, answer: bytes) -> None:
        """End the relay after ``answer``."""
        if answer and self.termination is not None:
            answer = self.termination.encrypted(answer)
        if self.client.transport is not None:
            self.client.transport.write(answer)
        self.end(EndReason.DENIED)

    # Called by the table

    def join(self, first: bytes) -> None:
        """Both connections are established; ``first`` is what the client has sent so far."""
        if self.termination is not None:
            self.termination.pass_on(self.client, first)
        else:
            self.send_up(first)
        if self.client.ended and self.access is not None and self.access.is_waiting:
            # As in ``side_ended``.
            self.end(self.client.reasons.closed)
        if self.ended:
            return
        if self.client.ended:
            self.upstream.end_writing()
        self.client.continue_reading()

    def end(self, reason: EndReason) -> None:
        """End the relay, once."""
        if self.ended:
            return
        self.ended = reason
        self.reading = self.termination = None
        if self.access is not None:
            self.access.end()
        if self.mirroring is not None:
            self.mirroring.end()
            self.mirroring = None
        self.is_read = False
        # A client that has spoken RTMP with the gateway gets its answer.
        at_once = reason in _AT_ONCE or (reason in _REFUSALS and not self.bytes_down)
        for side in (self.client, self.upstream):
            if at_once or reason is side.reasons.stalled:
                side.abort()
            else:
                side.close()
        self._table.ended(self, reason)

    def sweep(self, now: float) -> None:
        """End the relay if a deadline has passed; after its end, close lingering connections."""
        if self.ended:
            for side in (self.client, self.upstream):
                side.sweep_closed(now, self._limits.stalled_write_s)
            return
        if now >= self.unused_until:
            if self.bytes_up < _HANDSHAKE_BYTES:
                self.end(EndReason.ABANDONED)
                return
            if self.termination is not None and not self.termination.is_complete:
                self.end(EndReason.BAD_HANDSHAKE)
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
