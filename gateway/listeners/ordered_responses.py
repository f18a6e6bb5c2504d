"""The responses of an HTTP connection, written in the order of their requests.

A response that is available immediately is one write. A response that is not (a held idle, an out-of-order
command, an open) is added to ``_pending``; responses that are complete behind it wait there too. The first
pending response can be streamed: its head is written at once, and its body piece by piece.

While the transport's write buffer is not empty, a client that reads too slowly is disconnected
(``limits.is_slow``).
"""

from __future__ import annotations

from typing import Any, final

from gateway.errors import RequestRefused
from gateway.listeners.closed_transport import ClosedTransport
from gateway.listeners.http_service import HTTPService, Opening, TunnelSession
from gateway.listeners.response_heads import (
    LAST_CHUNK,
    STAYS,
    ResponseHeads,
    next_chunk,
    streamed_head,
)
from gateway.protocols.limits import is_slow
from gateway.transport import JOIN_BYTES

# How long a connection that the gateway has closed may still receive data; nginx's lingering_timeout is 5
# s.
LINGER_S = 2.0


@final
class PendingResponse:
    """A response at its position among the responses of the connection (``interfaces.Reply``)."""

    __slots__ = (
        "_answers",
        "_chunked",
        "_connection",
        "_transport",
        "blocks",
        "field",
        "opening",
        "output",
        "session",
    )

    def __init__(self, connection: OrderedResponses, answers: ResponseHeads) -> None:
        self._connection = connection
        self._answers = answers
        # For a streamed answer: its framing and transport.
        self._chunked = False
        self._transport: Any = None
        # Whether later requests have to wait for this response.
        self.blocks = False
        # A further field line of the answer to an open request.
        self.field = b""
        self.session: TunnelSession | None = None
        self.opening: Opening | None = None
        self.output: tuple[bytes, bytes] | None = None

    def answer(self, body: bytes) -> None:
        if len(body) == 1:
            self.output = self._answers.one_byte[body[0]], b""
        else:
            self.output = self._answers.head(len(body), self.field), body
        self._connection.flush()

    def refuse(self, error: RequestRefused) -> None:
        self.output = self._answers.refusal(error), b""
        self._connection.flush()

    @property
    def may_stream(self) -> bool:
        """Whether it is the next response of a persistent connection whose write buffer is not full."""
        return self._answers is STAYS and self._connection.may_stream(self)

    @property
    def round_trip_s(self) -> float:
        return self._connection.round_trip_s

    def begin(self, first: bytes, length: int | None, is_direct: bool = False) -> bool:
        self._chunked = length is None
        head = streamed_head(length, len(first), is_direct)
        self._transport = self._connection.begin_stream(head, first)
        return not self._connection.is_full

    def more(self, data: bytes) -> bool:
        size = len(data)
        if not self._chunked:
            self._transport.write(data)
        elif size <= JOIN_BYTES:
            self._transport.write(b"\r\n%x\r\n%b" % (size, data))
        else:
            self._transport.write_two(next_chunk(size), data)
        return not self._connection.is_full

    def finish(self, is_whole: bool, last: bytes = b"") -> None:
        if self._chunked:
            last = b"%b%b%b" % (next_chunk(len(last)), last, LAST_CHUNK) if last else LAST_CHUNK
        self._connection.finish_stream(last, is_whole)

    def mark_idle(self) -> None:
        self._transport.mark_idle()

    def abandon(self, now: float) -> None:
        """The connection was lost."""
        if self.session is not None:
            self.session.forget(self, now)
        if self.opening is not None and self.output is None:
            self.opening.abandon()


class OrderedResponses:
    """The base of ``HTTPConnection`` that writes responses.

    ``is_full``: whether the transport's write buffer is not empty. ``deadline``: the time of the next call
    of ``expire``.
    """

    __slots__ = (
        "_answers",
        "_broken_off",
        "_last",
        "_left",
        "_owed_until",
        "_pending",
        "_service",
        "_streaming",
        "_transport",
        "deadline",
        "is_full",
    )

    def __init__(self, service: HTTPService) -> None:
        self._service = service
        self._transport: Any = None
        # The response heads for the request that is being processed.
        self._answers = STAYS
        # The pending responses, and the complete ones behind them, in order.
        self._pending: list[PendingResponse] = []
        self.is_full = False
        # Whether the first pending response is being streamed; and whether one ended before its declared
        # length, so that nothing can be written after it.
        self._streaming = self._broken_off = False
        # Whether the connection is closed after the pending responses.
        self._last = False
        # By when the client must have received the last response.
        self._owed_until = 0.0
        # Unacknowledged bytes at the last check of a slow client.
        self._left = 0
        self.deadline = service.clock() + service.limits.first_bytes_s

    def _process_waiting_requests(self) -> None:
        """Process requests that were received behind the responses just written."""
        raise NotImplementedError

    # Whole responses

    def _respond(self, first: bytes, second: bytes = b"") -> None:
        """Write a response, or queue it behind the pending ones."""
        if self._pending:
            self._later_response().output = first, second
        elif second:
            self._transport.write_two(first, second)
        else:
            self._transport.write(first)
        if self._last and not self._pending:
            self._close()

    def _answer(self, body: bytes) -> None:
        if len(body) == 1:
            self._respond(self._answers.one_byte[body[0]])
        else:
            self._respond(self._answers.head(len(body)), body)

    def _later_response(self) -> PendingResponse:
        response = PendingResponse(self, self._answers)
        self._pending.append(response)
        return response

    def flush(self) -> None:
        """Write the complete responses at the head of ``_pending``."""
        while (
            self._pending and not self.is_full and (output := self._pending[0].output) is not None
        ):
            del self._pending[0]
            self._transport.write_two(*output)
        if self._last and not self._pending:
            self._close()
        elif not self.is_full:
            self._process_waiting_requests()

    def _is_blocked(self) -> bool:
        """Whether the number of pending responses has reached its limit. There must be one."""
        last = self._pending[-1]
        is_kept = last.blocks and last.output is None
        return is_kept or len(self._pending) >= self._service.limits.pipelined_requests

    def _end_holds(self, now: float) -> None:
        for response in tuple(self._pending):
            if response.session is not None:
                response.session.release(now)

    def _abandon(self, now: float) -> None:
        pending, self._pending = self._pending, []
        for response in pending:
            response.abandon(now)

    # Streamed responses

    @property
    def round_trip_s(self) -> float:
        """The round trip time of the connection; 0.0 if it is not known."""
        return float(self._transport.round_trip_s)

    def may_stream(self, response: PendingResponse) -> bool:
        """Whether ``response`` can be streamed now."""
        is_next = bool(self._pending) and self._pending[0] is response
        takes_more = not (self.is_full or self._last)
        return is_next and takes_more and not isinstance(self._transport, ClosedTransport)

    def begin_stream(self, head: bytes, first: bytes) -> Any:
        """Begin to stream the first pending response. Returns the transport for the rest of it."""
        self._streaming = True
        self._transport.write_two(head, first)
        return self._transport

    def finish_stream(self, last: bytes, is_whole: bool) -> None:
        """End the streamed response with ``last``, or by closing the connection if it is incomplete."""
        if not is_whole:
            self._last = self._broken_off = True
            self._close()
            return
        if last:
            self._transport.write(last)
        self._streaming = False
        if self.is_full:
            # Commands behind a streamed answer were read nevertheless.
            self._transport.stopReading()
        del self._pending[0]
        self.flush()

    # Slow clients, and the end

    def _await_room(self) -> None:
        """Wait until the write buffer has drained."""
        if not self._streaming:
            # Commands behind a streamed answer are processed, a close in particular.
            self._transport.stopReading()
        self._set_stalled_deadline(self._service.clock())

    def _set_stalled_deadline(self, now: float) -> None:
        self._left = self._transport.unacknowledged
        self.deadline = now + self._service.limits.stalled_write_s

    def _is_slow(self) -> bool:
        """Whether a client has made too little progress since the last check."""
        taken_bytes = self._left - self._transport.unacknowledged
        return is_slow(taken_bytes, self._service.limits.stalled_write_s)

    def _close(self) -> None:
        """Half-close, and read for a little longer: closing a socket with unread data resets the
        connection, and the client could lose the last response.
        """
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()
        now = self._service.clock()
        # The deadline for the peer's kernel to receive the rest.
        self._owed_until = now + self._service.limits.stalled_write_s
        self.deadline = self._owed_until if self.is_full else now + LINGER_S
