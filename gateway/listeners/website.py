"""The website behind the port: one request of a client, its way to the server, and the answer's way back.

While a request is forwarded, its connection's reader and transport are on loan here; ``Client.forwarded``
gives them back. Bytes move as they come, in both directions at once, and each side is paused while the
other takes no more, so that a download of any size costs a read's worth of memory. In order:

    phase        what happens                                 its deadline, and what is done then
    gathering    nothing of the body has come                 body_s: closed
    connecting   a connection to the server is made           website_answer_s: 504
    sending      the body is on its way                       body_s and too little came: closed, or 504
                                                              when it is the server that takes nothing
    awaiting     the answer's head is the server's turn       website_answer_s: 504
    answering    the head has been written                    website_quiet_s with nothing said: closed;
                                                              stalled_write_s with little taken: closed
    lingering    all is written, the connection is to close   while the client still takes what there is
    done         the loan is over

A body's first bytes are read before the server hears of the request, so that one that is malformed at once
reaches nobody; one that is found out later is broken off, and never whole. An answer that begins before
its request has ended is passed on, and the connection closed behind it.

A slow peer is told from a dead one by ``LEAST_BYTES_A_S``, so that no deadline caps a body's size.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol, final

from attrs import frozen

from gateway.errors import BadAnswer, RequestRefused, WebsiteTimedOut, WebsiteUnavailable
from gateway.listeners.upgraded import Upgraded
from gateway.protocols.forwarding import (
    LAST_CHUNK,
    Request,
    accepts_upgrade,
    chunk,
    framing_to,
    interim_head,
    request_head,
    response_head,
    upgrade_head,
)
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import LEAST_BYTES_A_S, Limits
from gateway.protocols.responses import SWITCHING_PROTOCOLS, Framing, Response, ResponseReader
from gateway.upstreams.website import WebConnection, WebServer

# What may wait in the reader for the server, or behind the request; one read may come on top.
_AHEAD_BYTES = 64 * 1024
# As long as the client has not read all, closing would cost it the rest; then, as in http.py.
_LINGER_S = 2.0


class Client(Protocol):
    """The connection that a request came on."""

    deadline: float

    def forwarded(self, error: RequestRefused | None, closes: bool) -> None:
        """The loan is over: the answer is written, or ``error`` is to be."""

    def upgraded(self, relay: Upgraded) -> None:
        """From now on ``relay`` has the transport, until it is lost."""


@final
@frozen
class Website:
    """Where HTTP that is no tunnel command goes."""

    server: WebServer
    limits: Limits
    clock: Callable[[], float]

    def forward(
        self, client: Client, reader: RequestReader, transport: Any, request: Request
    ) -> Forwarding:
        """A request, not begun yet. All earlier answers of its connection have been written.

        Raises BadRequest for a target of no form.
        """
        return Forwarding(self, client, reader, transport, request)


class _Phase(Enum):
    GATHERING = "gathering"
    CONNECTING = "connecting"
    SENDING = "sending"
    AWAITING = "awaiting"
    ANSWERING = "answering"
    LINGERING = "lingering"
    DONE = "done"


@final
class Forwarding:
    """One request between its client and the website's server."""

    __slots__ = (
        "_answer",
        "_client",
        "_client_full",
        "_clock",
        "_closes",
        "_first",
        "_framing",
        "_left",
        "_limits",
        "_moved",
        "_phase",
        "_reader",
        "_request",
        "_reused",
        "_server",
        "_server_full",
        "_transport",
        "_web",
    )

    def __init__(
        self,
        website: Website,
        client: Client,
        reader: RequestReader,
        transport: Any,
        request: Request,
    ) -> None:
        self._web = website.server
        self._limits = website.limits
        self._clock = website.clock
        self._client = client
        self._reader = reader
        self._transport = transport
        self._request = request
        # What the server gets first: the head, and what had come of the body by then.
        self._first = request_head(request, website.server.name)
        self._server: WebConnection | None = None
        self._reused = False
        self._answer = ResponseReader(website.limits, request.method == b"HEAD")
        # How the answer's body goes to the client; None until its head has been written.
        self._framing: Framing | None = None
        self._closes = not request.fields.persistent
        self._client_full = self._server_full = False
        # Bytes that came from either side since the deadline was set.
        self._moved = 0
        # What the client had not got when it was last looked at.
        self._left = 0
        self._phase = _Phase.GATHERING

    # The client's connection calls

    def start(self) -> None:
        """Begin; called once. ``forwarded`` may be called before this returns."""
        self._enter(_Phase.GATHERING, self._limits.body_s)
        self._advance()

    def client_data(self, data: bytes) -> None:
        if self._phase in (_Phase.LINGERING, _Phase.DONE):
            return
        self._reader.receive(data)
        self._advance()

    def client_full(self) -> None:
        """The client's kernel did not take all."""
        self._client_full = True
        if self._server is not None:
            self._server.transport.stopReading()
        if self._phase is _Phase.ANSWERING:
            self._left = self._transport.unacknowledged
            self._set_deadline(self._limits.stalled_write_s)

    def client_drained(self) -> None:
        self._client_full = False
        if self._server is not None:
            self._server.transport.startReading()
        if self._phase is _Phase.ANSWERING:
            self._set_deadline(self._limits.website_quiet_s)

    def client_ended(self) -> None:
        """The client says no more. A browser that does so has gone away."""
        self._drop_server()
        self._left = self._transport.unacknowledged
        self._enter(_Phase.LINGERING, self._limits.stalled_write_s)
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def client_lost(self) -> None:
        self._drop_server()
        self._phase = _Phase.DONE

    def expire(self, now: float) -> None:
        """The client's deadline has passed."""
        _EXPIRE[self._phase](self)

    # The server's connection calls

    def server_connected(self, server: WebConnection) -> None:
        if self._phase is not _Phase.CONNECTING:
            server.close()
            return
        self._server = server
        if self._client_full:
            server.transport.stopReading()
        self._enter(_Phase.SENDING, self._limits.body_s)
        server.transport.write(self._first)
        if not self._request.may_be_repeated:
            self._first = b""
        if self._request.waits_for_continue:
            # For now the 100 is awaited, and the client's bytes are not.
            self._set_deadline(self._limits.website_answer_s)
        self._advance()

    def server_failed(self, error: RequestRefused) -> None:
        if self._phase is _Phase.CONNECTING:
            self._refuse(error)

    def server_data(self, data: bytes) -> None:
        self._moved += len(data)
        self._answer.receive(data)
        try:
            self._relay_answer()
        except RequestRefused as error:
            self._web.complain(error)
            self._refuse(error)

    def server_full(self) -> None:
        self._server_full = True

    def server_drained(self) -> None:
        self._server_full = False
        self._advance()

    def server_ended(self) -> None:
        if self._repeat():
            return
        try:
            self._answer.close()
        except BadAnswer as error:
            self._web.complain(error)
            self._refuse(error)
            return
        if self._framing is Framing.CHUNKED:
            self._transport.write(LAST_CHUNK)
        self._finish()

    def server_lost(self) -> None:
        if not self._repeat():
            error = WebsiteUnavailable("lost before the answer's end")
            self._web.complain(error)
            self._refuse(error)

    # The request

    def _advance(self) -> None:
        """Move on what has come of the request, and read on unless too much waits."""
        try:
            if self._phase is _Phase.GATHERING:
                self._gather()
            elif self._server is not None and not self._server_full:
                self._send_body()
        except RequestRefused as error:
            self._refuse(error)
        if self._phase is _Phase.DONE:
            return
        if len(self._reader.buffer) < _AHEAD_BYTES:
            self._transport.startReading()
        else:
            self._transport.stopReading()

    def _gather(self) -> None:
        body = self._take_body()
        if body or not self._reader.in_body or self._request.waits_for_continue:
            self._first += body
            self._connect()

    def _connect(self) -> None:
        self._enter(_Phase.CONNECTING, self._limits.website_answer_s)
        if self._request.may_be_repeated:
            kept = self._web.take_kept(self)
            if kept is not None:
                self._reused = True
                self.server_connected(kept)
                return
        self._web.dial(self)

    def _repeat(self) -> bool:
        """Try a fresh connection, once, if the kept one turned out to be dead; whether that is so."""
        if not self._reused or self._answer.begun:
            return False
        self._reused = False
        self._drop_server()
        self._enter(_Phase.CONNECTING, self._limits.website_answer_s)
        self._web.dial(self)
        return True

    def _send_body(self) -> None:
        if self._reader.in_body:
            body = self._take_body()
            if body and self._server is not None:
                self._moved += len(body)
                self._server.transport.write(body)
        if not self._reader.in_body and self._phase is _Phase.SENDING:
            self._enter(_Phase.AWAITING, self._limits.website_answer_s)

    def _take_body(self) -> bytes:
        """What has come of the body, as it goes to the server. Raises BadRequest."""
        if not self._reader.in_body:
            return b""
        piece = b"".join(iter(self._reader.next_piece, b""))
        if not self._request.fields.chunked:
            return piece
        return chunk(piece) + (b"" if self._reader.in_body else LAST_CHUNK)

    # The answer

    def _relay_answer(self) -> None:
        heads = b"" if self._framing is not None else self._take_heads()
        if self._phase is _Phase.DONE:
            return
        piece = self._next_piece(heads)
        if self._framing is Framing.CHUNKED:
            piece = chunk(piece) + (LAST_CHUNK if self._answer.ended else b"")
        if heads:
            self._transport.write_two(heads, piece)
        elif piece:
            self._transport.write(piece)
        if self._answer.ended:
            self._finish()

    def _next_piece(self, heads: bytes) -> bytes:
        """The answer's next piece. While its ``heads`` are not written, a malformed body can be refused."""
        try:
            return self._answer.next_piece()
        except BadAnswer:
            if heads:
                self._framing = None
            raise

    def _take_heads(self) -> bytes:
        """The heads that have come, as they go to the client."""
        heads = b""
        while (response := self._answer.next_head()) is not None:
            if response.status == SWITCHING_PROTOCOLS:
                self._upgrade(heads, response)
                return b""
            if not response.interim:
                return heads + self._begin_answer(response)
            if self._request.fields.version:
                heads += interim_head(response)
            if self._phase is _Phase.SENDING:
                self._set_deadline(self._limits.body_s)
        return heads

    def _begin_answer(self, response: Response) -> bytes:
        version = self._request.fields.version
        self._framing = framing_to(version, response)
        self._closes |= self._reader.in_body or self._framing is Framing.UNTIL_CLOSE
        self._enter(_Phase.ANSWERING, self._limits.website_quiet_s)
        return response_head(response, self._framing, version, self._closes)

    def _upgrade(self, heads: bytes, response: Response) -> None:
        server = self._server
        if server is None or not accepts_upgrade(self._request, response):
            raise BadAnswer("an upgrade that was not asked for")
        self._server, self._phase = None, _Phase.DONE
        relay = Upgraded(self._client, self._transport, server, self._limits, self._clock)
        self._client.upgraded(relay)
        relay.begin(
            self._reader.buffer,
            heads + upgrade_head(response) + self._answer.buffer,
            self._client_full,
        )
        self._reader.buffer = b""

    def _finish(self) -> None:
        """The answer has been written to its end."""
        server, self._server = self._server, None
        if server is not None:
            if self._answer.reusable and not self._reader.in_body and not self._server_full:
                self._web.give_back(server)
            else:
                server.close()
        if self._closes:
            self._linger()
        else:
            self._phase = _Phase.DONE
            self._client.forwarded(None, False)

    def _linger(self) -> None:
        """End our side, and wait until the client has got what is still on its way to it."""
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()
        self._transport.startReading()
        self._left = self._transport.unacknowledged
        self._enter(_Phase.LINGERING, self._limits.stalled_write_s if self._left else _LINGER_S)

    def _refuse(self, error: RequestRefused) -> None:
        """No answer, or no whole one, can be had."""
        self._drop_server()
        begun = self._framing is not None
        self._phase = _Phase.DONE
        if begun:
            # Only a broken connection tells the client that this is not the end.
            self._transport.abortConnection()
        else:
            self._client.forwarded(error, error.closes or self._reader.in_body)

    def _drop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    # Deadlines

    def _enter(self, phase: _Phase, seconds: float) -> None:
        self._phase = phase
        self._set_deadline(seconds)

    def _set_deadline(self, seconds: float) -> None:
        self._moved = 0
        self._client.deadline = self._clock() + seconds

    def _abort(self) -> None:
        self.client_lost()
        self._transport.abortConnection()

    def _give_up(self) -> None:
        error = WebsiteTimedOut("no answer in time")
        self._web.complain(error)
        self._refuse(error)

    def _expire_sending(self) -> None:
        if self._moved >= LEAST_BYTES_A_S * self._limits.body_s:
            self._set_deadline(self._limits.body_s)
        elif self._server_full or (self._request.waits_for_continue and not self._moved):
            self._give_up()
        else:
            self._abort()

    def _expire_answering(self) -> None:
        if self._client_full:
            self._expire_while_client_takes(self._limits.stalled_write_s)
        elif self._moved:
            self._set_deadline(self._limits.website_quiet_s)
        else:
            self._abort()

    def _expire_while_client_takes(self, after_all_s: float) -> None:
        """Wait on for a client that goes on taking what was written."""
        left = self._transport.unacknowledged
        taken = self._left - left
        self._left = left
        if left and taken >= LEAST_BYTES_A_S * self._limits.stalled_write_s:
            self._set_deadline(self._limits.stalled_write_s)
        elif taken and not left:
            self._set_deadline(after_all_s)
        else:
            self._abort()

    def _expire_lingering(self) -> None:
        self._expire_while_client_takes(_LINGER_S)


_EXPIRE: dict[_Phase, Callable[[Forwarding], None]] = {
    _Phase.GATHERING: Forwarding._abort,
    _Phase.CONNECTING: Forwarding._give_up,
    _Phase.SENDING: Forwarding._expire_sending,
    _Phase.AWAITING: Forwarding._give_up,
    _Phase.ANSWERING: Forwarding._expire_answering,
    _Phase.LINGERING: Forwarding._expire_lingering,
    _Phase.DONE: Forwarding._abort,
}
