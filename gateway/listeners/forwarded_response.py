"""The response to a forwarded request, on its way from the website's server to the client.

The body is relayed in pieces as they arrive. A response that begins before its request is complete is
relayed, and the connection closed after it. If a response cannot be completed, the client's connection is
aborted, because only that shows the client that the body is incomplete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.errors import BadResponse, RequestRefused
from gateway.listeners.forwarding_deadlines import LINGER_S, Client, ForwardingDeadlines, Phase
from gateway.listeners.upgraded import Upgraded
from gateway.protocols.forwarding import (
    LAST_CHUNK,
    Request,
    accepts_upgrade,
    chunk,
    framing_to,
    interim_head,
    response_head,
    upgrade_head,
)
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import Limits
from gateway.protocols.responses import SWITCHING_PROTOCOLS, Framing, Response, ResponseReader
from gateway.upstreams.website_connections import WebConnection, WebsiteConnections


class ForwardedResponse(ForwardingDeadlines):
    """The base of ``Forwarding`` that relays the response."""

    __slots__ = ("_answer", "_closes", "_framing", "_reader", "_server")

    def __init__(
        self,
        connections: WebsiteConnections,
        limits: Limits,
        clock: Callable[[], float],
        client: Client,
        reader: RequestReader,
        transport: Any,
        request: Request,
    ) -> None:
        super().__init__(connections, limits, clock, client, transport, request)
        self._reader = reader
        self._server: WebConnection | None = None
        self._answer = ResponseReader(limits, request.method == b"HEAD")
        # The framing of the response to the client; None until its head is written.
        self._framing: Framing | None = None
        self._closes = not request.fields.persistent

    def _relay_answer(self) -> None:
        heads = b"" if self._framing is not None else self._take_heads()
        if self._phase is Phase.DONE:
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
        """The next piece of the body. A malformed body can be refused while ``heads`` are not written."""
        try:
            return self._answer.next_piece()
        except BadResponse:
            if heads:
                self._framing = None
            raise

    def _take_heads(self) -> bytes:
        """The received heads, as they are sent to the client."""
        heads = b""
        while (response := self._answer.next_head()) is not None:
            if response.status == SWITCHING_PROTOCOLS:
                self._upgrade(heads, response)
                return b""
            if not response.interim:
                return heads + self._begin_answer(response)
            if self._request.fields.version:
                heads += interim_head(response)
            if self._phase is Phase.SENDING:
                self._set_deadline(self._limits.body_s)
        return heads

    def _begin_answer(self, response: Response) -> bytes:
        version = self._request.fields.version
        self._framing = framing_to(version, response)
        self._closes |= self._reader.in_body or self._framing is Framing.UNTIL_CLOSE
        self._enter(Phase.ANSWERING, self._limits.website_quiet_s)
        return response_head(response, self._framing, version, self._closes)

    def _upgrade(self, heads: bytes, response: Response) -> None:
        server = self._server
        if server is None or not accepts_upgrade(self._request, response):
            raise BadResponse("an upgrade that was not requested")
        self._server, self._phase = None, Phase.DONE
        relay = Upgraded(self._client, self._transport, server, self._limits, self._clock)
        self._client.upgraded(relay)
        relay.begin(
            self._reader.buffer,
            heads + upgrade_head(response) + self._answer.buffer,
            self._client_full,
        )
        self._reader.buffer = b""

    def _finish(self) -> None:
        """The response is complete."""
        server, self._server = self._server, None
        if server is not None:
            if self._answer.reusable and not self._reader.in_body and not self._server_full:
                self._web.release(server)
            else:
                server.close()
        if self._closes:
            self._linger()
        else:
            self._phase = Phase.DONE
            self._client.forwarded(None, False)

    def _linger(self) -> None:
        """Half-close, and wait until the client has received everything."""
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()
        self._transport.startReading()
        self._left = self._transport.unacknowledged
        self._enter(Phase.LINGERING, self._limits.stalled_write_s if self._left else LINGER_S)

    def _refuse(self, error: RequestRefused) -> None:
        """The response cannot be obtained, or not completed."""
        self._drop_server()
        begun = self._framing is not None
        self._phase = Phase.DONE
        if begun:
            # Only an aborted connection shows that the body is incomplete.
            self._transport.abortConnection()
        else:
            self._client.forwarded(error, error.closes or self._reader.in_body)

    def _drop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
