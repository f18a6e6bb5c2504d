"""One request of the port test, which has its client's connection until it is answered.

    state      activity                                       deadline, and the consequence
    RECEIVING  the body is read                               body_s: close
    HOLDING    the answer to a long poll is held              its time: the answer
    PIECES     an answer is sent piece by piece               the time of the next piece
    WAITING    the loopback's tunnel has no answer yet       silent_session_s: close
    DONE       the request is answered, or its client gone

Requests of one connection are handled one at a time. An upload is not stored: only its checksum is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, final
from zlib import crc32

from gateway.errors import BodyTooLarge, RateExceeded, RequestRefused
from gateway.listeners.forwarding_deadlines import Client
from gateway.listeners.http_service import Opening, TunnelSession
from gateway.listeners.response_heads import CONTINUE
from gateway.protocols.commands import Command, Kind
from gateway.protocols.forwarding import Request
from gateway.protocols.http import RequestReader
from gateway.protocols.ingress import Ingress
from gateway.protocols.port_test.answers import SMALL, TUNNEL, Heads, upload_body
from gateway.protocols.port_test.origins import sharing_fields
from gateway.protocols.port_test.resources import (
    PIECE_S,
    PIECES,
    PONG,
    Name,
    Resource,
    resource_of,
)

if TYPE_CHECKING:
    from gateway.listeners.port_test.service import PortTest

# What may wait behind the request; one read may come on top.
_AHEAD_BYTES: Final = 64 * 1024


class State(Enum):
    """The states, as described at the head of this module."""

    RECEIVING = "receiving"
    HOLDING = "holding"
    PIECES = "pieces"
    WAITING = "waiting"
    DONE = "done"


@final
class Exchange:
    """The handler of one request (``http_service.Forwarding``), and the ``Reply`` of a tunnel's command."""

    def __init__(
        self,
        test: PortTest,
        client: Client,
        reader: RequestReader,
        transport: Any,
        request: Request,
    ) -> None:
        self._test = test
        self._client = client
        self._reader = reader
        self._transport = transport
        self._request = request
        self._resource: Resource | None = None
        self._heads = Heads(request.fields.version, closes=not request.fields.persistent)
        self._state = State.RECEIVING
        self._pieces = 0
        # The request's body: its size, and its checksum or its content.
        self._size = 0
        self._checksum = 0
        self._body = b""
        self._opening: Opening | None = None
        self._session: TunnelSession | None = None

    # The client's connection calls

    def start(self) -> None:
        """Start. ``forwarded`` may be called before this returns."""
        self._set_deadline(self._test.limits.body_s)
        try:
            self._admit()
        except RequestRefused as error:
            self._refuse(error)
            return
        if self._request.waits_for_continue and not self._reader.body_begun:
            self._transport.write(CONTINUE)
        self._advance()

    def client_data(self, data: bytes) -> None:
        self._reader.receive(data)
        if self._state is State.RECEIVING:
            self._advance()
        elif len(self._reader.buffer) >= _AHEAD_BYTES:
            self._transport.stopReading()

    def client_full(self) -> None:
        """Answers are small: what does not fit now is left to the transport's buffer."""

    def client_drained(self) -> None:
        """See ``client_full``."""

    def client_ended(self) -> None:
        """The client has half-closed, which browsers do only when they leave."""
        self.client_lost()
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def client_lost(self) -> None:
        self._leave()
        if self._session is not None:
            self._session.forget(self, self._test.clock())
        elif self._opening is not None:
            self._opening.abandon()

    def expire(self, now: float) -> None:
        """The client's deadline has passed."""
        _EXPIRE[self._state](self)

    # The session calls (``interfaces.Reply``)

    may_stream = False
    round_trip_s = 0.0

    def answer(self, body: bytes) -> None:
        if self._state is not State.DONE:
            self._answer(TUNNEL, body)

    def refuse(self, error: RequestRefused) -> None:
        if self._state is not State.DONE:
            self._refuse(error)

    def begin(self, first: bytes, length: int | None, is_direct: bool = False) -> bool:
        raise NotImplementedError("answers of the loopback are not streamed")

    def more(self, data: bytes) -> bool:
        raise NotImplementedError

    def finish(self, is_whole: bool, last: bytes = b"") -> None:
        raise NotImplementedError

    def mark_idle(self) -> None:
        """Only after ``finish``."""

    # The request

    def _admit(self) -> None:
        """Raises RequestRefused."""
        request = self._request
        sharing = sharing_fields(request.fields)
        self._heads = Heads(request.fields.version, sharing, self._heads.closes)
        resource = self._resource = resource_of(request.method, request.target)
        self._test.enter(self, request.client)
        most = 0 if request.method == b"OPTIONS" else resource.body_bytes
        if request.fields.content_length > most or (request.fields.chunked and not most):
            raise BodyTooLarge("more than the resource accepts")

    def _advance(self) -> None:
        """Read the received part of the body, and answer once it is complete."""
        try:
            self._read_body()
            if not self._reader.in_body:
                self._answer_request()
        except RequestRefused as error:
            self._refuse(error)

    def _read_body(self) -> None:
        resource = self._resource
        while resource is not None and (piece := self._reader.next_piece()):
            self._size += len(piece)
            if self._size > resource.body_bytes:
                raise BodyTooLarge("more than the resource accepts")
            if resource.name is Name.UPLOAD:
                self._checksum = crc32(piece, self._checksum)
            else:
                self._body += piece

    def _answer_request(self) -> None:
        resource = self._resource
        assert resource is not None
        if self._request.method == b"OPTIONS":
            self._end(self._heads.preflight())
        elif resource.command is not None:
            self._execute(resource.command)
        else:
            _ANSWERS[resource.name](self)

    def _send_page(self) -> None:
        page = self._test.page
        host = self._request.fields.value(b"host") or b""
        self._end(self._heads.whole(page.fields_for(host), page.body))

    def _send_pong(self) -> None:
        self._answer(SMALL, PONG)

    def _hold(self) -> None:
        assert self._resource is not None
        self._state = State.HOLDING
        self._set_deadline(self._resource.hold_s)

    def _answer_upload(self) -> None:
        self._answer(SMALL, upload_body(self._size, self._checksum))

    def _begin_pieces(self) -> None:
        self._state = State.PIECES
        if not self._request.fields.version:
            # Only the end of the connection ends it.
            self._heads = Heads(0, self._heads.sharing, closes=True)
        self._transport.write(self._heads.pieces())
        self._send_piece()

    def _send_piece(self) -> None:
        piece = self._heads.piece(self._pieces)
        self._pieces += 1
        if self._pieces == PIECES:
            self._end(piece)
            return
        self._transport.write(piece)
        self._set_deadline(PIECE_S)

    # Tunnels

    def _execute(self, command: Command) -> None:
        kind, session_id, number = command
        self._state = State.WAITING
        self._set_deadline(self._test.limits.silent_session_s)
        request = self._request
        if kind is Kind.OPEN:
            ingress = Ingress("rtmpts" if request.secure else "rtmpt")
            self._opening = self._test.tunnels.open(request.client, request.fields, self, ingress)
            return
        now = self._test.clock()
        session = self._test.tunnels.find(session_id)
        if number is None:
            answer = session.close(now)
        else:
            answer = session.receive(kind, number, self._body, now, True, 0)
        if answer is not None:
            self._answer(TUNNEL, answer)
        else:
            self._session = session
            session.wait(number or 0, self, now)

    # The answer

    def _answer(self, fields: bytes, body: bytes) -> None:
        self._end(self._heads.whole(fields, body))

    def _refuse(self, error: RequestRefused) -> None:
        if self._reader.in_body or error.closes:
            self._heads = Heads(self._heads.version, self._heads.sharing, closes=True)
        outcome = "limited" if isinstance(error, RateExceeded) else "refused"
        self._end(self._heads.refusal(error.status), outcome)

    def _end(self, last: bytes, outcome: str = "answered") -> None:
        self._leave()
        # Refused before it was known.
        name = "other" if self._resource is None else self._resource.name.value
        self._test.counts[name, outcome] += 1
        self._transport.write(last)
        self._client.forwarded(None, self._heads.closes)

    def _leave(self) -> None:
        self._state = State.DONE
        self._test.leave(self)

    def _set_deadline(self, seconds: float) -> None:
        self._client.deadline = self._test.clock() + seconds

    def _abort(self) -> None:
        self.client_lost()
        self._transport.abortConnection()


_ANSWERS: Final[dict[Name, Callable[[Exchange], None]]] = {
    Name.PAGE: Exchange._send_page,
    Name.PING: Exchange._send_pong,
    Name.HOLD: Exchange._hold,
    Name.PIECES: Exchange._begin_pieces,
    Name.UPLOAD: Exchange._answer_upload,
}
_EXPIRE: Final[dict[State, Callable[[Exchange], None]]] = {
    State.RECEIVING: Exchange._abort,
    State.HOLDING: Exchange._send_pong,
    State.PIECES: Exchange._send_piece,
    State.WAITING: Exchange._abort,
    State.DONE: Exchange._abort,
}
