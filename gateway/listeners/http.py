"""An HTTP connection of a client or proxy: parses requests, and writes responses in their order.

Requests are processed one at a time. A command that can be answered immediately is answered with one
write. A command whose response is pending (a held idle, an out-of-order command, an open) is added to
``_pending``; later requests are still processed, up to a limit, because the missing command may be among
them. Additional bytes end a hold (DESIGN.md, Rules of a session).

A request that is not a tunnel command is forwarded to the website, if one is configured, after all
earlier responses have been written. The forwarding then receives the connection's bytes, and no later
request is processed until it has finished.

While the transport's write buffer is not empty, nothing is read and no request is processed: a client
that does not read its responses takes up one response of memory. Every phase has an absolute deadline
(``deadline``), which the worker's sweep checks.

This module does not interpret the RTMP bytes of a session, and never ends one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, Protocol, final

from attrs import define, field
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import (
    AddressDenied,
    BodiesFull,
    BodyTooLarge,
    NotFound,
    NothingTakesIt,
    RequestRefused,
    UnknownSession,
)
from gateway.listeners.answers import (
    CLOSES,
    CONTINUE,
    LAST_CHUNK,
    STAYS,
    Answers,
    answers_to,
    next_chunk,
    streamed_head,
)
from gateway.listeners.closed_transport import ClosedTransport
from gateway.logs import debugging
from gateway.protocols.client_address import Proxies
from gateway.protocols.commands import Command, Kind, command_of
from gateway.protocols.forwarding import Request
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.ingress import Ingress
from gateway.protocols.interfaces import Reply
from gateway.protocols.limits import LEAST_BYTES_A_S, Limits
from gateway.protocols.session import Session
from gateway.transport import JOIN_BYTES, has_vanished
from gateway.tunnels.ids import PREFIX_BYTES

_log = Logger()

# Looking a member up in its Enum costs as much as a call.
_IDENT, _OPEN = Kind.IDENT, Kind.OPEN
_OF_NO_SESSION = frozenset((_IDENT, _OPEN))
# A body of such a size is awaited, whoever it is for.
_SMALL_BYTES = 1024

# How long a connection of ours that is closed may still be sent to; nginx's lingering_timeout is 5 s.
_LINGER_S = 2.0
# What may wait in the reader behind requests that wait themselves; one read may come on top.
_AHEAD_BYTES = 64 * 1024


class Opening(Protocol):
    """A session that is being opened."""

    def abandon(self) -> None:
        """The client's connection was lost: discard the session."""


class Tunnels(Protocol):
    """The table of sessions."""

    def open(self, address: str, fields: Fields, reply: Reply, ingress: Ingress) -> Opening:
        """Open a session; ``reply`` receives its id. Raises RequestRefused."""

    def find(self, session_id: bytes) -> Session:
        """Raises UnknownSession."""


class BytesHandler(Protocol):
    """Receives a connection's bytes and events while a website request or an upgrade uses it."""

    def client_data(self, data: bytes) -> None: ...

    def client_full(self) -> None:
        """The transport's write buffer is full."""

    def client_drained(self) -> None: ...

    def client_ended(self) -> None:
        """The client has ended its stream (half-close)."""

    def client_lost(self) -> None: ...

    def expire(self, now: float) -> None:
        """The connection's ``deadline``, which the handler sets, has passed."""


class Forwarding(BytesHandler, Protocol):
    """A request that is forwarded to the website."""

    def start(self) -> None:
        """Start forwarding. Called once, after the connection's bytes have been handed over."""


class Website(Protocol):
    """Forwards HTTP requests that are not tunnel commands."""

    def forward(
        self, client: HTTPConnection, reader: RequestReader, transport: Any, request: Request
    ) -> Forwarding:
        """Forward a request whose head has been read. Raises BadRequest."""


class Connections(Protocol):
    """The set of the worker's connections."""

    def add(self, connection: HTTPConnection) -> None: ...

    def remove(self, connection: HTTPConnection) -> None: ...


@define
class HTTPService:
    """State shared by all HTTP connections."""

    limits: Limits
    tunnels: Tunnels
    connections: Connections
    clock: Callable[[], float]
    later: Callable[[Callable[[], None]], object]
    website: Website | None = None
    # Limit on the incomplete request bodies of all connections together.
    bodies_bytes: int = 1 << 30
    waiting_bytes: int = 0
    serials: Iterator[int] = field(factory=count)


@final
class Exchange:
    """A pending response, at its position among the responses of the connection."""

    __slots__ = (
        "_answers",
        "_chunked",
        "_connection",
        "_transport",
        "blocks",
        "opening",
        "output",
        "session",
    )

    def __init__(self, connection: HTTPConnection, answers: Answers) -> None:
        self._connection = connection
        self._answers = answers
        # Of a streamed answer.
        self._chunked = False
        self._transport: Any = None
        # Whether later requests have to wait for this response.
        self.blocks = False
        self.session: Session | None = None
        self.opening: Opening | None = None
        self.output: tuple[bytes, bytes] | None = None

    def answer(self, body: bytes) -> None:
        if len(body) == 1:
            self.output = self._answers.one_byte[body[0]], b""
        else:
            self.output = self._answers.head(len(body)), body
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
        transport = self._transport
        if not self._chunked:
            transport.write(data)
        elif len(data) <= JOIN_BYTES:
            transport.write(b"\r\n%x\r\n%b" % (len(data), data))
        else:
            transport.write_two(next_chunk(len(data)), data)
        return not self._connection.is_full

    def finish(self, is_whole: bool) -> None:
        self._connection.finish_stream(LAST_CHUNK if self._chunked else b"", is_whole)

    def mark_idle(self) -> None:
        self._transport.mark_idle()

    def abandon(self, now: float) -> None:
        """The connection was lost."""
        if self.session is not None:
            self.session.forget(self, now)
        if self.opening is not None and self.output is None:
            self.opening.abandon()


@final
@implementer(IProtocol, IHalfCloseableProtocol)
class HTTPConnection:
    """The protocol of an HTTP connection.

    ``address``: the client's address, or "". ``secure``: whether the connection is TLS. ``listener``: the
    listener's address as configured. ``proxies`` is set if ``address`` is a trusted proxy's, whose requests
    name their clients. ``is_full``: whether the transport's write buffer is not empty.
    """

    __slots__ = (
        "_answers",
        "_broken_off",
        "_command",
        "_fields",
        "_handler",
        "_last",
        "_left",
        "_listener",
        "_owed_until",
        "_pending",
        "_phase_deadline",
        "_proxies",
        "_reader",
        "_secure",
        "_seen",
        "_serial",
        "_service",
        "_streaming",
        "_transport",
        "_waiting_bytes",
        "address",
        "deadline",
        "is_full",
    )

    def __init__(
        self,
        service: HTTPService,
        address: str,
        secure: bool = False,
        listener: str = "",
        proxies: Proxies | None = None,
    ) -> None:
        self._service = service
        self._secure = secure
        self._listener = listener
        self._proxies = proxies
        # The id of the session whose command came last.
        self._seen = b""
        self._reader = RequestReader(service.limits)
        # Identifies this connection, for sessions whose client changes connections.
        self._serial = next(service.serials)
        self._transport: Any = None
        self._fields: Fields | None = None
        self._command: Command | None = None
        self._answers = STAYS
        # The pending responses, and the complete ones behind them, in order.
        self._pending: list[Exchange] = []
        self._handler: BytesHandler | None = None
        self.is_full = False
        # Whether the first pending response is being streamed; and whether one ended before its declared
        # length, so that nothing can be written after it.
        self._streaming = self._broken_off = False
        # When the head or body that is being received must be complete; 0 if there is none.
        self._phase_deadline = 0.0
        self._last = False
        # By when the client must have received the last response.
        self._owed_until = 0.0
        # Unacknowledged bytes at the last check of a slow client.
        self._left = 0
        # This connection's part of the service's ``waiting_bytes``.
        self._waiting_bytes = 0
        self.address = address
        self.deadline = service.clock() + service.limits.first_bytes_s

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        transport.high_water_bytes = 0
        transport.registerProducer(self, True)
        self._service.connections.add(self)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        now = self._service.clock()
        if self._last:
            return
        if self._handler is not None:
            self._handler.client_data(data)
            return
        self._reader.receive(data)
        if self._pending:
            self._reader.skip_line_end()
            if self._reader.buffer:
                self._end_holds(now)
        self._proceed(now)
        if self._pending and len(self._reader.buffer) >= _AHEAD_BYTES and self._must_wait():
            self._transport.stopReading()

    def readConnectionLost(self) -> None:
        """The client has half-closed the connection, which only WebSockets support
        (IHalfCloseableProtocol).
        """
        self._notify_lost()
        if self._handler is not None:
            self._handler.client_ended()
        else:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol; we asked for it."""

    def connectionLost(self, reason: Failure) -> None:
        self._service.connections.remove(self)
        self._notify_lost()
        now = self._service.clock()
        self._abandon(now)
        if has_vanished(reason):
            self._notify_vanished(now)
        if self._handler is not None:
            self._handler.client_lost()
        elif (self.is_full or self._streaming) and not self._last:
            self._process_remaining_requests(now)
        self.is_full = self._last = True
        self._count_waiting(0)

    def _process_remaining_requests(self, now: float) -> None:
        """Process the commands received before the connection was lost; their answers are discarded."""
        self._transport = ClosedTransport()
        self.is_full = self._streaming = False
        self._proceed(now)
        while self._pending:
            self._abandon(now)
            self._proceed(now)

    def _abandon(self, now: float) -> None:
        pending, self._pending = self._pending, []
        for exchange in pending:
            exchange.abandon(now)

    def _notify_lost(self) -> None:
        """Notify the session of the last command that the peer has closed this connection. Not called for a
        connection that the gateway closes."""
        if self._seen and not self._last:
            with suppress(UnknownSession):
                self._service.tunnels.find(self._seen).source_lost(self._serial)

    def _notify_vanished(self, now: float) -> None:
        """End the session of the last command, unless it has used another connection since."""
        with suppress(UnknownSession):
            self._service.tunnels.find(self._seen).client_vanished(self._serial, now)

    def pauseProducing(self) -> None:
        """The write buffer is not empty. Called again with every further write."""
        if self.is_full:
            return
        self.is_full = True
        if self._handler is not None:
            self._handler.client_full()
        else:
            self._await_room()

    def resumeProducing(self) -> None:
        self.is_full = False
        if self._handler is not None:
            self._handler.client_drained()
            return
        now = self._service.clock()
        self.deadline = self._phase_deadline or now + self._service.limits.keep_alive_s
        if self._streaming and (session := self._pending[0].session) is not None:
            session.stream_drained(now)
        self.flush()
        if not self._last and not self.is_full:
            self._transport.startReading()
            self._proceed(now)

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does what there is to do."""

    # Called by the sweep, the exchanges and the handler

    def expire(self, now: float) -> None:
        """``deadline`` has passed."""
        if self._handler is not None:
            self._handler.expire(now)
        elif (
            self._pending and not self.is_full and not self._phase_deadline and not self._broken_off
        ):
            self._set_idle_deadline(now)
        elif now < self._owed_until and self._transport.unacknowledged:
            self.deadline = now + _LINGER_S
        elif self.is_full and self._takes():
            self._set_stalled_deadline(now)
        else:
            self._last = True
            self._transport.abortConnection()

    def flush(self) -> None:
        """Write the complete responses at the head of ``_pending``."""
        while (
            self._pending and not self.is_full and (output := self._pending[0].output) is not None
        ):
            del self._pending[0]
            self._transport.write_two(*output)
        if self._last and not self._pending:
            self._close()
        elif (self._reader.buffer or self._fields is not None) and not self.is_full:
            # Later, because this is called by a session, which must not be called back.
            self._service.later(self._proceed_later)

    # A streamed answer calls

    @property
    def round_trip_s(self) -> float:
        """The round trip time of the connection; 0.0 if it is not known."""
        return float(self._transport.round_trip_s)

    def may_stream(self, exchange: Exchange) -> bool:
        """Whether the response of ``exchange`` can be streamed now."""
        is_next = bool(self._pending) and self._pending[0] is exchange
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
        del self._pending[0]
        self.flush()

    def forwarded(self, error: RequestRefused | None, closes: bool) -> None:
        """The forwarding has finished: the website's response was written, or ``error`` is the response."""
        self._handler = None
        self._last = closes or self._answers.closes
        self._set_idle_deadline(self._service.clock())
        if error is not None:
            self._transport.write((CLOSES if self._last else self._answers).refusal(error))
        if self._last:
            self._close()
        elif self.is_full:
            self._await_room()
        else:
            self._service.later(self._proceed_later)

    def upgraded(self, relay: BytesHandler) -> None:
        """The connection was upgraded: ``relay`` handles its bytes until its end."""
        self._handler = relay

    def _proceed_later(self) -> None:
        if self._handler is None and not self.is_full and not self._last:
            self._transport.startReading()
            self._proceed(self._service.clock())

    def _await_room(self) -> None:
        if not self._streaming:
            # Behind a streamed answer commands take effect, and a close above all.
            self._transport.stopReading()
        self._set_stalled_deadline(self._service.clock())

    def _set_stalled_deadline(self, now: float) -> None:
        self._left = self._transport.unacknowledged
        self.deadline = now + self._service.limits.stalled_write_s

    def _takes(self) -> bool:
        """Whether a slow client has made sufficient progress since the last check."""
        taken = self._left - self._transport.unacknowledged
        return bool(taken >= LEAST_BYTES_A_S * self._service.limits.stalled_write_s)

    def _must_wait(self) -> bool:
        """Whether the next request can only be processed after a pending response."""
        if self._is_blocked():
            return True
        is_known = self._fields is not None and self._command is None
        return is_known and self._service.website is not None

    def _is_blocked(self) -> bool:
        """Whether the number of pending responses has reached its limit. There must be one."""
        last = self._pending[-1]
        is_kept = last.blocks and last.output is None
        return is_kept or len(self._pending) >= self._service.limits.pipelined_requests

    # Requests

    def _proceed(self, now: float) -> None:
        try:
            while (
                (self._reader.buffer or self._fields is not None)
                and (self._streaming or not self.is_full)
                and not self._last
                and not (self._pending and self._is_blocked())
                and self._take_request(now)
            ):
                pass
        except RequestRefused as error:
            self._last = True
            if debugging.enabled:
                _debug(self.address, error, None)
            self._respond(CLOSES.refusal(error))
        except Exception:
            _log.failure("A request failed; its connection is closed")
            self._last = True
            self._transport.abortConnection()

    def _take_request(self, now: float) -> bool:
        """Process the next request. Returns False if it is incomplete."""
        fields = self._fields
        if fields is None:
            fields = self._reader.next_head()
            if fields is None:
                self._await_head(now)
                return False
            self._fields = fields
            self._phase_deadline = 0.0
            self._command = command_of(self._reader.method, self._reader.target)
            self._answers = answers_to(fields.version, fields.persistent)
        website = self._service.website
        if self._command is None and website is not None:
            if not self._pending and not isinstance(self._transport, ClosedTransport):
                self._forward(website, fields)
            return False
        body = self._reader.whole_body()
        if body is None:
            self._await_body(fields, now)
            return False
        if self._waiting_bytes:
            self._count_waiting(0)
        self._fields = None
        self._phase_deadline = 0.0
        # Longer than any answer can take (hold, gap, stalled upstream), so it need not be set again
        # when the answer leaves.
        self.deadline = now + self._service.limits.keep_alive_s
        self._last = self._answers.closes
        try:
            self._serve(fields, body, now)
        except RequestRefused as error:
            if error.closes:
                raise
            if debugging.enabled:
                _debug(self.address, error, self._command)
            self._respond(self._answers.refusal(error))
        return True

    def _forward(self, website: Website, fields: Fields) -> None:
        self._fields = None
        self._phase_deadline = 0.0
        is_trusted = self._proxies is not None
        request = Request(
            self._reader.method, self._reader.target, fields, self.address, self._secure, is_trusted
        )
        try:
            self._client_of(fields)
        except AddressDenied as error:
            self.forwarded(error, self._reader.in_body)
            return
        forwarding = website.forward(self, self._reader, self._transport, request)
        self._handler = forwarding
        forwarding.start()

    def _await_head(self, now: float) -> None:
        self._reader.skip_line_end()
        if self._reader.buffer and not self._phase_deadline:
            self._phase_deadline = self.deadline = now + self._service.limits.head_s

    def _await_body(self, fields: Fields, now: float) -> None:
        held_bytes = self._reader.held_bytes
        if held_bytes:
            self._count_waiting(held_bytes)
        if self._phase_deadline:
            return
        if fields.chunked or fields.content_length > _SMALL_BYTES:
            self._expect_body(fields)
        self._phase_deadline = self.deadline = now + self._service.limits.body_s
        if self._reader.body_begun:
            return
        if fields.expects_continue:
            self._respond(CONTINUE)
        else:
            # FFmpeg sends head and body in two segments, and its kernel the second one only when the
            # first is acknowledged: without this each of its requests takes 40 ms more.
            self._transport.acknowledge_now()

    def _expect_body(self, fields: Fields) -> None:
        """Refuse a body that no session would accept, and close the connection, before it is received."""
        if self._command is None:
            raise NothingTakesIt("no tunnel command")
        kind, session_id, _ = self._command
        if kind in _OF_NO_SESSION:
            if not fields.chunked:
                raise BodyTooLarge("clients send one byte here, or none")
            return
        try:
            self._service.tunnels.find(session_id)
        except UnknownSession as error:
            raise NothingTakesIt(str(error)) from None

    def _count_waiting(self, held_bytes: int) -> None:
        """Account for the bytes of this connection's incomplete request body."""
        service = self._service
        service.waiting_bytes += held_bytes - self._waiting_bytes
        self._waiting_bytes = held_bytes
        if held_bytes and service.waiting_bytes > service.bodies_bytes:
            raise BodiesFull("the bound on all bodies is reached")

    def _set_idle_deadline(self, now: float) -> None:
        self.deadline = now + self._service.limits.keep_alive_s

    # Commands

    def _serve(self, fields: Fields, body: bytes, now: float) -> None:
        if self._command is None:
            raise NotFound("no tunnel command")
        kind, session_id, number = self._command
        if kind is _IDENT:
            raise NotFound("go on with open")
        if kind is _OPEN:
            self._open(fields)
            return
        session = self._service.tunnels.find(session_id)
        if session_id != self._seen:
            session.carried_by(self._transport, fields, is_shared=bool(self._seen))
            self._seen = session_id
        if number is None:
            answer: bytes | None = session.close(now)
        else:
            if self._reader.buffer:
                self._reader.skip_line_end()
            may_hold = not self._reader.buffer
            answer = session.receive(kind, number, body, now, may_hold, self._serial)
        if answer is not None:
            if len(answer) == 1 and not self._pending and not self._last:
                # The same as ``_answer``, which nine of ten polls need not ask.
                self._transport.write(self._answers.one_byte[answer[0]])
            else:
                self._answer(answer)
        elif number is not None:
            exchange = self._later_answer()
            exchange.session = session
            exchange.blocks = session.is_keeping
            session.wait(number, exchange, now)

    def _client_of(self, fields: Fields) -> str:
        """The address of the client that has sent a request. Raises AddressDenied."""
        if self._proxies is None:
            return self.address
        return self._proxies.client_of(fields.items, self.address)

    def _open(self, fields: Fields) -> None:
        exchange = self._later_answer()
        try:
            exchange.opening = self._service.tunnels.open(
                self._client_of(fields), fields, exchange, self._ingress()
            )
        except RequestRefused as error:
            exchange.refuse(error)

    def _ingress(self) -> Ingress:
        return Ingress("rtmpts" if self._secure else "rtmpt", self._listener)

    def _later_answer(self) -> Exchange:
        exchange = Exchange(self, self._answers)
        self._pending.append(exchange)
        return exchange

    def _answer(self, body: bytes) -> None:
        if len(body) == 1:
            self._respond(self._answers.one_byte[body[0]])
        else:
            self._respond(self._answers.head(len(body)), body)

    def _respond(self, first: bytes, second: bytes = b"") -> None:
        """Write a response, or queue it behind the pending ones."""
        if self._pending:
            self._later_answer().output = first, second
        elif second:
            self._transport.write_two(first, second)
        else:
            self._transport.write(first)
        if self._last and not self._pending:
            self._close()

    def _end_holds(self, now: float) -> None:
        for exchange in tuple(self._pending):
            if exchange.session is not None:
                exchange.session.release(now)

    def _close(self) -> None:
        """Half-close, and read for a little longer: closing a socket with unread data resets the
        connection, and the client could lose the last response.
        """
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()
        now = self._service.clock()
        # What its kernel has not got yet is still owed to it.
        self._owed_until = now + self._service.limits.stalled_write_s
        self.deadline = self._owed_until if self.is_full else now + _LINGER_S


def _debug(address: str, error: RequestRefused, command: Command | None) -> None:
    """Log a refused request, with the non-secret prefix of the session id."""
    of = ""
    if command is not None and command[1]:
        kind, session_id, number = command
        prefix = session_id[:PREFIX_BYTES].decode("latin-1")
        of = f": {kind.value} of a session {prefix}..., number {number}"
    _log.debug(
        "request from {address} refused with {status}, {cause}{log_of}",
        address=address or "a local client",
        status=error.status,
        cause=str(error) or type(error).__name__,
        log_of=of,
    )
