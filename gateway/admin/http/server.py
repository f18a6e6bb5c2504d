"""HTTP for the operator, on ``twisted.web``: connections, and the requests that are read from them.

This is not the tunnel's HTTP: a handful of requests a second by people and scrapers, read by Twisted's own
parser. What this file adds are bounds:

- connections at once. One too many ends the oldest connection that has no request under way; answers in
  pieces (event streams, lists, metrics) may take ``STREAMED`` of the connections only, so that there always
  is one to end, and health checks are answered whatever else is asked;
- what a body may have;
- a connection's time for all of a request, from the end of the one before: bytes that trickle in do not
  stretch it.
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

# Sixteen watchers, a few scrapers, and the six connections that a browser opens for a page.
CONNECTIONS: Final = 64
# Answers in pieces at once: sixteen watchers, and scrapers. Each can last as long as its reader is slow.
STREAMED: Final = 40
# The longest body that means anything has twenty.
BODY_BYTES: Final = 4096
# For a request, or until the next one. A scraper that comes every minute keeps its connection.
REQUEST_S: Final = 75.0
_TOO_LARGE: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


@final
class Site(HTTPFactory):
    """``answer`` handles each request that ``guard`` admits, in ``time_slices`` of its own."""

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
        """What answers a request."""
        return RequestHandler(
            request, self.reactor, self._guard, self._answer, self._time_slices(), self._slots
        )

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.connections) >= CONNECTIONS and not self._end_oldest():
            return None
        return super().buildProtocol(addr)

    def _end_oldest(self) -> bool:
        """Make room for a connection; False when each one has a request under way."""
        for connection in self.connections:
            if not connection.is_answering:
                connection.transport.abortConnection()
                # Its connectionLost may come later.
                self.connections.pop(connection, None)
                return True
        return False

    def startFactory(self) -> None:
        """Not HTTPFactory's, which begins an access log."""

    def stopFactory(self) -> None:
        """The port is closed: answers that never end do now."""
        for connection in tuple(self.connections):
            connection.transport.abortConnection()

    def log(self, request: Request) -> None:
        """No access log: what an operator does to the gateway is logged where it is done."""


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
        """Whether a whole request has arrived whose answer is not complete."""
        return any(request.is_whole for request in self.requests)

    def resetTimeout(self) -> None:
        """Some bytes are no reason to wait longer."""

    def timeoutConnection(self) -> None:
        """As the base class, but not worth a line in the log."""
        self._abortingCall = self.callLater(self.abortTimeout, self._abort)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def _abort(self) -> None:
        self._abortingCall = None
        self.transport.abortConnection()


@final
class _Request(Request):
    """A request while it is read. ``channel`` is its connection, for as long as it is not done."""

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
        """Whether the request has arrived, to be answered."""
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
        """Say so and close: what follows on the connection would be the rest of the body."""
        self._refused = True
        self.channel.write(_TOO_LARGE)
        self.channel.loseConnection()
