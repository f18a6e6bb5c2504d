"""A connection after its upgrade to WebSocket: relays raw bytes in both directions until both have ended.

Reading from one side is paused while the other's write buffer is full. The end of a stream is passed on,
and the other direction goes on; the loss of a connection closes the other. Timeouts: a client that
accepts too little data, and a connection without data (``Limits.website_quiet_s``).

WebSocket frames are not parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final

from gateway.errors import RequestRefused
from gateway.protocols.limits import LEAST_BYTES_A_S, Limits
from gateway.upstreams.website_connections import WebConnection


class Client(Protocol):
    """The connection that was upgraded."""

    deadline: float


@final
class Upgraded:
    """The client's transport and the server's connection, joined."""

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
        self._client_ended = self._server_ended = False
        self._client_full = False
        self._moved = 0
        self._left = 0

    def begin(self, up: bytes, down: bytes, client_full: bool) -> None:
        """Take the connection over, with what has already come: ``up`` for the server, ``down`` for the
        client, which may not have taken all that was written before."""
        self._server.user = self
        self._set_deadline(self._limits.website_quiet_s)
        self._client_full = client_full
        self._transport.startReading()
        if up:
            self._server.transport.write(up)
        self._transport.write(down)

    # The client's connection calls

    def client_data(self, data: bytes) -> None:
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
        if not (self._client_ended and self._server_ended):
            self._server.close()

    def expire(self, now: float) -> None:
        """The client's deadline has passed."""
        if self._takes() if self._client_full else self._moved:
            self._set_deadline(self._quiet_s())
        else:
            self._transport.abortConnection()

    # The server's connection calls

    def server_connected(self, server: WebConnection) -> None:
        """Part of a connection's user; it stood long before."""

    def server_failed(self, error: RequestRefused) -> None:
        """Part of a connection's user; it stood long before."""

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
        self._transport.abortConnection()

    def _end(self, other: Any) -> None:
        """One side has ended: end the ``other``'s stream behind what is still unsent to it."""
        other.unregisterProducer()
        if not (self._client_ended and self._server_ended):
            other.loseWriteConnection()
            return
        # Each is closed once it has got everything; its loss is no news any more.
        self._server.user = None
        self._server.transport.loseConnection()
        self._transport.loseConnection()

    def _takes(self) -> bool:
        """Whether the client has taken enough of what it owes to take, or all of it."""
        left = self._transport.unacknowledged
        taken, self._left = self._left - left, left
        self._client_full = left > 0
        return taken >= LEAST_BYTES_A_S * self._limits.stalled_write_s or not left

    def _quiet_s(self) -> float:
        return self._limits.stalled_write_s if self._client_full else self._limits.website_quiet_s

    def _set_deadline(self, seconds: float) -> None:
        self._moved = 0
        self._client.deadline = self._clock() + seconds
