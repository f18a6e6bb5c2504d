"""An RTMPT session seen from its client: written data becomes sends, and answers become received data.

    state     commands                              ends by
    opening   open                                  its answer
    open      sends; idles while nothing is sent    ``close``; the server's refusal, which follows its data
    closing   the rest of the sends, then a close   the close's answer
    ended     none

One command is always under way in an open session. Servers that hold answer it when they have data; the
others are polled at the pace that they ask for (``pacing``). A session that is paused is not polled, except
often enough to stay alive. A server that resumes is polled again while much data arrives, before the answer
is complete: the next one then begins without a pause, and the server can forget what has arrived.

Pure: the time is a parameter, connections and user are interfaces (``interfaces``). How commands get to the
server, and what happens if a connection is lost, is decided in ``exchange``.
"""

from __future__ import annotations

import re
from enum import Enum
from math import inf
from typing import Final, final

from gateway.protocols.backlog import Backlog
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.responses import Response
from gateway.protocols.tunnel_client.buffering import Buffering
from gateway.protocols.tunnel_client.exchange import Exchange
from gateway.protocols.tunnel_client.interfaces import End, Links, Receiver
from gateway.protocols.tunnel_client.lane import Command
from gateway.protocols.tunnel_client.pacing import Pacing
from gateway.protocols.tunnel_client.requests import ONE_BYTE, Requests
from gateway.protocols.tunnel_options import ClientFigures, agreed, idle_body

# The most data of one send. Every server accepts FFmpeg's, of up to 27 kB. The 128 commands that a gateway
# allows carry 4 MiB, as much as the kernel buffers for one connection (tcp(7), tcp_wmem).
SEND_BYTES: Final = 32 * 1024
# Longer than the ids of all servers; librtmp takes up to 63 bytes.
_SESSION_ID: Final = re.compile(rb"([!-.0-9:;=@-~]{1,128})\r?\n?")
_MOST_ID_BYTES: Final = 130
# RTMP's clients speak first. Until then, there is nothing to poll for.
_FIRST_POLL_S: Final = 1.0
# A paused session is polled at this part of the time after which servers end a silent one.
_ALIVE: Final = 3
# After as much data, or for as long as it arrives, an idle tells the server which answers have arrived.
# With more, a server would have to keep more than it does for 10 Mbit/s over a round trip of 0.1 s; with
# less, polls would cost more. Streamed answers last longer than this time and a round trip.
_AHEAD_BYTES: Final = 32 * 1024
_AHEAD_S: Final = 0.2


class State(Enum):
    """The states of the table at the head of this module."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    ENDED = "ended"


class Event(Enum):
    """What changes the state."""

    OPENED = "opened"
    CLOSE = "close"
    END = "end"


_NEXT: Final = {
    (State.OPENING, Event.OPENED): State.OPEN,
    (State.OPEN, Event.CLOSE): State.CLOSING,
    **{(state, Event.END): State.ENDED for state in State},
}
# Looking a member up in its Enum costs as much as a call.
_OPEN, _CLOSING = State.OPEN, State.CLOSING


@final
class TunnelClient:
    """``deadline`` is when ``expire`` must be called. ``start`` begins. ``refusal``: the status with which
    the server has refused a command; 0 if it has not.
    """

    __slots__ = (
        "_buffering",
        "_exchange",
        "_figures",
        "_idle_at",
        "_is_paused",
        "_limits",
        "_next",
        "_pacing",
        "_pending",
        "_polled_at",
        "_receiver",
        "_requests",
        "_said",
        "_state",
        "_unpolled_bytes",
        "refusal",
    )

    def __init__(
        self, limits: Limits, requests: Requests, links: Links, receiver: Receiver
    ) -> None:
        self._limits = limits
        self._requests = requests
        self._receiver = receiver
        self._exchange = Exchange(limits, requests, links, self)
        self._state = State.OPENING
        self._pacing = Pacing()
        self._buffering = Buffering()
        # When an idle was sent last, and the data received since.
        self._polled_at = inf
        self._unpolled_bytes = 0
        self._pending = Backlog()
        self._next = 0
        self._is_paused = False
        # What the next idle acknowledges or asks for.
        self._figures: ClientFigures | None = None
        self.refusal = 0
        # When to poll next; infinite while a command is under way, unless the session is paused.
        self._idle_at = inf
        # The body of the answer to open.
        self._said = b""

    @property
    def unsent(self) -> int:
        """Bytes written that no command carries yet."""
        return self._pending.size_bytes

    @property
    def unacknowledged(self) -> int:
        """Bytes written whose send has not been answered."""
        return self._pending.size_bytes + self._exchange.in_flight_bytes

    @property
    def deadline(self) -> float:
        return min(self._idle_at, self._exchange.deadline)

    # The user calls

    def start(self, now: float) -> None:
        """Open the session."""
        self._exchange.send(Kind.OPEN, -1, ONE_BYTE, now)

    def write(self, data: bytes, now: float) -> None:
        """Send data. Ignored after ``close``."""
        if self._state is _OPEN:
            self._pending.append(data)
            self._advance(now)

    def pause(self, now: float) -> None:
        """Receive no more than what is under way. The connections should not be read until ``resume``."""
        self._is_paused = True
        self._exchange.pause(True, now)
        if self._state is _OPEN:
            self._idle_at = now + self._alive_s

    def resume(self, now: float) -> None:
        """Receive again."""
        self._is_paused = False
        self._exchange.pause(False, now)
        if self._state is _OPEN:
            self._idle_at = inf if self._exchange.in_flight else now
        self._advance(now)

    def tell(self, figures: ClientFigures, now: float) -> None:
        """Send the server what was measured, if it accepts the extensions of ``tunnel_options``."""
        if self._exchange.resumes:
            self._figures = figures
            self._advance(now)

    def close(self, now: float) -> None:
        """Close the session after all written data."""
        if self._state is State.OPENING:
            self.abort()
            return
        self._state = _NEXT.get((self._state, Event.CLOSE), self._state)
        self._idle_at = inf
        self._advance(now)

    def abort(self) -> None:
        """End the session at once. A close is sent, but its answer is not awaited."""
        last = b""
        if self._state is _OPEN or self._state is _CLOSING:
            last = self._requests.close_at_once(self._exchange.session_id)
        self._end(End.ABORTED, "", last)

    # The connections call

    def connected(self, link: int, now: float) -> None:
        """``Links.connect_link`` was successful."""
        self._exchange.connected(link, now)
        self._advance(now)

    def receive(self, link: int, data: bytes, now: float) -> None:
        """Bytes from the server."""
        self._exchange.receive(link, data, now)
        self._advance(now)

    def lost(self, link: int, now: float, end: End = End.LOST, cause: str = "") -> None:
        """A connection was lost, or ``Links.connect_link`` has failed."""
        self._exchange.lost(link, now, end, cause)
        self._advance(now)

    # The clock calls

    def expire(self, now: float) -> None:
        """``deadline`` has passed."""
        self._exchange.expire(now)
        self._advance(now)

    # The exchange calls

    def data(self, command: Command, data: bytes) -> None:
        if command.kind is Kind.OPEN:
            self._said = (self._said + data)[: _MOST_ID_BYTES + 1]
        elif command.kind is not Kind.CLOSE:
            self._unpolled_bytes += len(data)
            self._receiver.received(data)

    def agreed(self, response: Response) -> None:
        self._exchange.agree(agreed(response.items))

    def answered(self, command: Command, now: float) -> None:
        if command.kind is Kind.OPEN:
            self._opened(now)
            return
        if command.kind is Kind.CLOSE:
            self._end(End.CLOSED, "")
            return
        self._buffering.answered(command, now)
        if self._state is _OPEN and not (self._exchange.in_flight or self._is_paused):
            had_data = command.received > 1
            took_s = now - command.sent_at
            self._idle_at = now + self._pacing.pause_s(took_s, command.interval or 0, had_data)

    def refused(self, status: int) -> None:
        self.refusal = status
        if self._state is State.OPENING:
            self._end(End.LOST, f"it answers to open with status {status}")
        else:
            self._end(End.CLOSED, f"it has ended the session, with status {status}")

    def failed(self, end: End, cause: str) -> None:
        self._end(end, cause)

    # Commands

    def _opened(self, now: float) -> None:
        match = _SESSION_ID.fullmatch(self._said)
        if match is None:
            self._end(End.LOST, "its answer to open is not a session id")
            return
        self._exchange.session_id = match[1]
        self._state = _NEXT[self._state, Event.OPENED]
        self._idle_at = now + _FIRST_POLL_S
        self._polled_at = now
        self._receiver.opened()

    def _advance(self, now: float) -> None:
        """Send what can be sent."""
        if self._state is not _OPEN and self._state is not _CLOSING:
            return
        exchange = self._exchange
        if self._pending.size_bytes:
            while self._pending.size_bytes and exchange.has_room:
                self._send(Kind.SEND, self._pending.take(b"", SEND_BYTES), now)
        if not self._pending.size_bytes:
            self._receiver.drained()
        if self._state is _CLOSING:
            if not self._pending.size_bytes and not self._is_closed and exchange.has_room:
                self._send(Kind.CLOSE, ONE_BYTE, now)
        elif (
            now >= self._idle_at
            or (self._unpolled_bytes and self._is_due_ahead(now))
            or (self._figures is not None and exchange.has_room and not self._is_paused)
        ):
            self._poll(now)

    def _is_due_ahead(self, now: float) -> bool:
        """Whether to poll while an answer is arriving."""
        exchange = self._exchange
        if not (exchange.resumes and exchange.in_flight and exchange.has_room) or self._is_paused:
            return False
        is_arriving = exchange.in_flight[0].received > 0 and now - self._polled_at >= _AHEAD_S
        return is_arriving or self._unpolled_bytes >= _AHEAD_BYTES

    def _poll(self, now: float) -> None:
        exchange = self._exchange
        if not exchange.has_room:
            self._idle_at = now + self._alive_s
            return
        self._polled_at, self._unpolled_bytes = now, 0
        unanswered, body = len(exchange.in_flight), ONE_BYTE
        if exchange.resumes:
            body = idle_body(unanswered, self._buffering.is_noticed, self._figures)
            self._figures = None
        self._send(Kind.IDLE, body, now)

    @property
    def _is_closed(self) -> bool:
        """Whether the close has been sent."""
        in_flight = self._exchange.in_flight
        return bool(in_flight) and in_flight[-1].kind is Kind.CLOSE

    @property
    def _alive_s(self) -> float:
        return self._limits.silent_session_s / _ALIVE

    def _send(self, kind: Kind, body: bytes, now: float) -> None:
        number, self._next = self._next, self._next + 1
        self._idle_at = now + self._alive_s if self._is_paused else inf
        self._exchange.send(kind, number, body, now)

    def _end(self, end: End, cause: str, last: bytes = b"") -> None:
        if self._state is State.ENDED:
            return
        self._state = _NEXT[self._state, Event.END]
        self._idle_at = inf
        self._pending.clear()
        self._exchange.stop(last)
        self._receiver.ended(end, cause)
