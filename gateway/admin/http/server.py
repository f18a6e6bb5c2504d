"""The admin server's connections and requests, on ``twisted.web``, with limits.

Operators and scrapers send a few requests a second, which Twisted's own parser reads. The limits are:

- The number of connections. A further one closes the oldest connection without an active request. Streamed
  responses (event streams, lists, metrics) may use only ``STREAMED`` of the connections, so that there
  always is one to close, and health checks are always answered.
- The size of a body.
- The time for a whole request, from the end of the last one. Single bytes do not extend it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any, Final, final

from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from gateway.admin.http.access_control import AccessControl
from gateway.admin.http.request_handler import RequestHandler, Slots
from gateway.admin.http.responses import Response
from gateway.admin.resources.endpoints import Call
from gateway.admin.time_slices import TimeSlices

# Sixteen event streams, a few scrapers, and six connections of a browser for one page.
CONNECTIONS: Final = 64
# Concurrent streamed responses: sixteen event streams, and scrapers. A slow client can extend each.
STREAMED: Final = 40
# The longest valid body has twenty bytes.
BODY_BYTES: Final = 4096
# For a request, or until the next one. Above the interval of scrapers, so that they keep connections.
REQUEST_S: Final = 75.0
_TOO_LARGE: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


@final
class Site(HTTPFactory):
    """``answer`` handles each request that ``guard`` admits, in separate ``time_slices``."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        guard: AccessControl,
        answer: Callable[[Call], Awaitable[Response]],
        time_slices: Callable[[], TimeSlices],
    ) -> None:
        super().__init__(timeout=REQUEST_S, reactor=reactor)
        self.protocol: Any = _Connection
        self._guard = guard
        self._answer = answer
        self._time_slices = time_slices
        # Oldest first.
        self.connections: dict[_Connection, None] = {}
        self._slots = Slots(STREAMED)

    def exchange(self, request: Any) -> RequestHandler:
        """Create the handler of a request."""
        return RequestHandler(
            request, self.reactor, self._guard, self._answer, self._time_slices(), self._slots
        )

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.connections) >= CONNECTIONS and not self._end_oldest():
            return None
        return super().buildProtocol(addr)

    def _end_oldest(self) -> bool:
        """Close the oldest idle connection. Returns False if all have active requests."""
        for connection in self.connections:
            if not connection.is_answering:
                connection.transport.abortConnection()
                # Its connectionLost may be called later.
                self.connections.pop(connection, None)
                return True
        return False

    def startFactory(self) -> None:
        """Replaces HTTPFactory's method, which opens an access log."""

    def stopFactory(self) -> None:
        """The port is closed: end all streamed responses."""
        for connection in tuple(self.connections):
            connection.transport.abortConnection()

    def log(self, request: Request) -> None:
        """No access log: changes by operators are logged where they are made."""


@final
class _Connection(HTTPChannel):
    factory: Any
    transport: Any
    callLater: Any

    def connectionMade(self) -> None:
        self.requestFactory = _Request
        self.factory.connections[self] = None
        super().connectionMade()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.factory.connections.pop(self, None)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    @property
    def is_answering(self) -> bool:
        """Whether a complete request has no complete response yet."""
        return any(request.is_whole for request in self.requests)

    def resetTimeout(self) -> None:
        """Received bytes do not extend the timeout."""

    def timeoutConnection(self) -> None:
        """As the base class, without a log line."""
        self._abortingCall = self.callLater(self.abortTimeout, self._abort)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def _abort(self) -> None:
        self._abortingCall = None
        self.transport.abortConnection()


@final
class _Request(Request):
    """A request. ``channel``: its connection, until the response is complete."""

    channel: Any
    content: Any
    _refused = False
    _exchange: RequestHandler | None = None

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > BODY_BYTES:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        self.content.write(data)
        if self.content.tell() > BODY_BYTES:
            self._refuse()

    @property
    def is_whole(self) -> bool:
        """Whether the request is complete."""
        return self._exchange is not None

    def process(self) -> None:
        if not self._refused:
            self._exchange = self.channel.factory.exchange(self)
            self._exchange.begin()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        if self._exchange is not None:
            self._exchange.lost()

    def _refuse(self) -> None:
        """Refuse the request and close the connection, because the rest of the body would follow."""
        self._refused = True
        self.channel.write(_TOO_LARGE)
        self.channel.loseConnection()
