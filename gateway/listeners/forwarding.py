"""Forwarding of an HTTP request that is not a tunnel command to the website's server.

While a request is forwarded, this module reads and writes the client's connection; ``Client.forwarded``
returns it. Both directions are relayed as bytes arrive, and each side is paused while the other does not
accept data, so a transfer of any size needs the memory of one read. ``forwarding_deadlines`` has the
phases, and ``forwarded_response`` the way back.

The first bytes of a body are read before the server is contacted, so that a request with a malformed body
is not forwarded. If a later part is malformed, the request is broken off, and never complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from attrs import frozen

from gateway.errors import BadResponse, RequestRefused, WebsiteUnavailable
from gateway.listeners.forwarded_response import ForwardedResponse
from gateway.listeners.forwarding_deadlines import Client, Phase
from gateway.protocols.forwarding import LAST_CHUNK, Request, chunk, request_head
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import Limits
from gateway.protocols.responses import Framing
from gateway.upstreams.website_connections import WebConnection, WebsiteConnections

# Limit on the bytes read ahead for the server, or behind the request; one more read may follow.
_AHEAD_BYTES = 64 * 1024


@final
@frozen
class Website:
    """The website: receives all HTTP requests that are not tunnel commands."""

    server: WebsiteConnections
    limits: Limits
    clock: Callable[[], float]

    def forward(
        self, client: Client, reader: RequestReader, transport: Any, request: Request
    ) -> Forwarding:
        """Create the forwarding of a request. All earlier responses of its connection must be written.

        Raises BadRequest for a malformed target.
        """
        return Forwarding(self, client, reader, transport, request)


@final
class Forwarding(ForwardedResponse):
    """A request between its client and the website's server."""

    __slots__ = ("_first", "_reused")

    def __init__(
        self,
        website: Website,
        client: Client,
        reader: RequestReader,
        transport: Any,
        request: Request,
    ) -> None:
        super().__init__(
            website.server, website.limits, website.clock, client, reader, transport, request
        )
        # The first bytes for the server: the head, and the part of the body received by then.
        self._first = request_head(request, website.server.name)
        # Whether the connection to the server has carried other requests.
        self._reused = False

    # Called by the client's connection

    def start(self) -> None:
        """Start. Called once; ``forwarded`` may be called before this returns."""
        self._enter(Phase.GATHERING, self._limits.body_s)
        self._advance()

    def client_data(self, data: bytes) -> None:
        if self._phase in (Phase.LINGERING, Phase.DONE):
            return
        self._reader.receive(data)
        self._advance()

    def client_full(self) -> None:
        """The write buffer to the client is full."""
        self._client_full = True
        if self._server is not None:
            self._server.transport.stopReading()
        if self._phase is Phase.ANSWERING:
            self._left = self._transport.unacknowledged
            self._set_deadline(self._limits.stalled_write_s)

    def client_drained(self) -> None:
        self._client_full = False
        if self._server is not None:
            self._server.transport.startReading()
        if self._phase is Phase.ANSWERING:
            self._set_deadline(self._limits.website_quiet_s)

    def client_ended(self) -> None:
        """The client has half-closed: browsers do so only when they leave."""
        self._drop_server()
        self._left = self._transport.unacknowledged
        self._enter(Phase.LINGERING, self._limits.stalled_write_s)
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def client_lost(self) -> None:
        self._drop_server()
        self._phase = Phase.DONE

    # Called by the server's connection

    def server_connected(self, server: WebConnection) -> None:
        if self._phase is not Phase.CONNECTING:
            server.close()
            return
        self._server = server
        if self._client_full:
            server.transport.stopReading()
        self._enter(Phase.SENDING, self._limits.body_s)
        server.transport.write(self._first)
        if not self._request.may_be_repeated:
            self._first = b""
        if self._request.waits_for_continue:
            # The server's 100 response is expected next, not data from the client.
            self._set_deadline(self._limits.website_answer_s)
        self._advance()

    def server_failed(self, error: RequestRefused) -> None:
        if self._phase is Phase.CONNECTING:
            self._refuse(error)

    def server_data(self, data: bytes) -> None:
        self._moved += len(data)
        self._answer.receive(data)
        try:
            self._relay_answer()
        except RequestRefused as error:
            self._web.log_failure(error)
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
        except BadResponse as error:
            self._web.log_failure(error)
            self._refuse(error)
            return
        if self._framing is Framing.CHUNKED:
            self._transport.write(LAST_CHUNK)
        self._finish()

    def server_lost(self) -> None:
        if not self._repeat():
            error = WebsiteUnavailable("connection lost before the end of the response")
            self._web.log_failure(error)
            self._refuse(error)

    # The request

    def _advance(self) -> None:
        """Forward the received part of the request, and read more unless too much is waiting."""
        try:
            if self._phase is Phase.GATHERING:
                self._gather()
            elif self._server is not None and not self._server_full:
                self._send_body()
        except RequestRefused as error:
            self._refuse(error)
        if self._phase is Phase.DONE:
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
        self._enter(Phase.CONNECTING, self._limits.website_answer_s)
        if self._request.may_be_repeated:
            reused = self._web.reuse(self)
            if reused is not None:
                self._reused = True
                self.server_connected(reused)
                return
        self._web.dial(self)

    def _repeat(self) -> bool:
        """Retry on a new connection, once, if a reused one was closed. Returns whether it retries."""
        if not self._reused or self._answer.begun:
            return False
        self._reused = False
        self._drop_server()
        self._enter(Phase.CONNECTING, self._limits.website_answer_s)
        self._web.dial(self)
        return True

    def _send_body(self) -> None:
        if self._reader.in_body:
            body = self._take_body()
            if body and self._server is not None:
                self._moved += len(body)
                self._server.transport.write(body)
        if not self._reader.in_body and self._phase is Phase.SENDING:
            self._enter(Phase.AWAITING, self._limits.website_answer_s)

    def _take_body(self) -> bytes:
        """The received part of the body, in the framing for the server. Raises BadRequest."""
        if not self._reader.in_body:
            return b""
        piece = b"".join(iter(self._reader.next_piece, b""))
        if not self._request.fields.chunked:
            return piece
        return chunk(piece) + (b"" if self._reader.in_body else LAST_CHUNK)
