"""A connection after its upgrade to WebSocket: relays raw bytes in both directions until both have ended.

Reading from one side is paused while the other's write buffer is full. The end of a stream is passed on,
and the other direction goes on. The loss of a connection closes the other: at once, or after the data
that the lost peer had sent, if that is not delivered yet or its stream had ended. A peer that closes and is
still sent to resets its connection. Timeouts: a client that accepts too little data, and a connection
without data (``Limits.website_quiet_s``).

WebSocket frames are not parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final

from gateway.errors import RequestRefused
from gateway.protocols.limits import Limits, is_slow
from gateway.upstreams.website_connections import WebConnection


class Client(Protocol):
    """The connection that was upgraded."""

    deadline: float


@final
class Upgraded:
    """Joins the client's transport and the server's connection."""

    __slots__ = (
        "_client",
        "_client_ended",
        "_client_full",
        "_clock",
        "_left",
        "_limits",
        "_moved",
        "_server",
        "_server_ended",
        "_server_lost",
        "_transport",
    )

    def __init__(
        self,
        client: Client,
        transport: Any,
        server: WebConnection,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._transport = transport
        self._server = server
        self._limits = limits
        self._clock = clock
        self._client_ended = self._server_ended = self._server_lost = False
        self._client_full = False
        self._moved = 0
        self._left = 0

    def begin(self, up: bytes, down: bytes, client_full: bool) -> None:
        """Start to relay. ``up`` and ``down``: data received already, for the server and for the client.

        The client's write buffer may be full.
        """
        self._server.user = self
        self._set_deadline(self._limits.website_quiet_s)
        self._client_full = client_full
        self._transport.startReading()
        if up:
            self._server.transport.write(up)
        self._transport.write(down)

    # Called by the client's connection

    def client_data(self, data: bytes) -> None:
        if self._server_lost:
            return
        self._moved += len(data)
        self._server.transport.write(data)

    def client_full(self) -> None:
        self._client_full = True
        self._server.transport.stopReading()
        self._left = self._transport.unacknowledged
        self._set_deadline(self._limits.stalled_write_s)

    def client_drained(self) -> None:
        self._client_full = False
        self._set_deadline(self._limits.website_quiet_s)
        if not self._server_ended:
            self._server.transport.startReading()

    def client_ended(self) -> None:
        self._client_ended = True
        self._end(self._server.transport)

    def client_lost(self) -> None:
        if self._client_ended:
            self._finish_server()
        else:
            self._server.close()

    def expire(self, now: float) -> None:
        """The client's deadline has passed."""
        if self._server_lost and not self._transport.unacknowledged:
            self._transport.abortConnection()
        elif self._takes() if self._client_full else self._moved:
            self._set_deadline(self._quiet_s())
        else:
            self._transport.abortConnection()

    # Called by the server's connection

    def server_connected(self, server: WebConnection) -> None:
        """Not called: the connection is established already."""

    def server_failed(self, error: RequestRefused) -> None:
        """Not called: the connection is established already."""

    def server_data(self, data: bytes) -> None:
        self._moved += len(data)
        self._transport.write(data)

    def server_full(self) -> None:
        self._transport.stopReading()

    def server_drained(self) -> None:
        if not self._client_ended:
            self._transport.startReading()

    def server_ended(self) -> None:
        self._server_ended = True
        self._end(self._transport)

    def server_lost(self) -> None:
        if not (self._server_ended or self._transport.unacknowledged):
            self._transport.abortConnection()
            return
        self._server_lost = True
        if not self._server_ended:
            self.server_ended()
        if not self._client_ended:
            # A socket that is closed with unread data resets the connection.
            self._transport.startReading()
        self._client_full = True
        self._left = self._transport.unacknowledged
        self._set_deadline(self._limits.stalled_write_s)

    def _end(self, other: Any) -> None:
        """One side has ended: half-close the ``other`` after its unsent data."""
        other.unregisterProducer()
        if not (self._client_ended and self._server_ended):
            other.loseWriteConnection()
            return
        self._finish_server()
        self._transport.loseConnection()

    def _finish_server(self) -> None:
        """Close the server's connection once everything is sent."""
        self._server.user = None
        self._server.transport.unregisterProducer()
        self._server.transport.loseConnection()

    def _takes(self) -> bool:
        """Whether the client has read fast enough since the last check, or has read everything."""
        left = self._transport.unacknowledged
        taken, self._left = self._left - left, left
        self._client_full = left > 0
        return not left or not is_slow(taken, self._limits.stalled_write_s)

    def _quiet_s(self) -> float:
        return self._limits.stalled_write_s if self._client_full else self._limits.website_quiet_s

    def _set_deadline(self, seconds: float) -> None:
        self._moved = 0
        self._client.deadline = self._clock() + seconds
