"""An RTMPT session with a server, as the transport of a connection.

Offers what the transports in transport.py do, so that tunnels and relays use it like a TCP connection:
``done`` fires when the session is open, and its end is a lost connection. The session's rules are in
``protocols/tunnel_client``; here are its connections and its timer.

RTMPT has no half-close: ``loseWriteConnection`` closes the session after all data that was written.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final, final

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    TimeoutError,  # noqa: A004
)
from twisted.python.failure import Failure

from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.answer_times import AnswerTimes
from gateway.protocols.tunnel_client.client import TunnelClient
from gateway.protocols.tunnel_client.interfaces import End
from gateway.protocols.tunnel_client.requests import Requests
from gateway.protocols.tunnel_options import MOST_LANES, ClientFigures
from gateway.transport import READ_BYTES
from gateway.upstreams.attempt import Settings
from gateway.upstreams.forwarded_link import ForwardedLink
from gateway.upstreams.http_proxy import ProxyFailed
from gateway.upstreams.race import Stage
from gateway.upstreams.tunnel_link import Link, TunnelLink

_CONNECT_S: Final = Limits().upstream_connect_s
_CLOSED: Final = "it closes the connection without an answer to open"
_REASONS: Final[dict[End, Callable[[str], Exception]]] = {
    End.CLOSED: ConnectionDone,
    End.ABORTED: ConnectionAborted,
    End.LOST: ConnectionLost,
    End.VANISHED: TimeoutError,
}


class OpenFailed(ConnectError):
    """The server has not opened a session; the text is the cause. ``status``: of its answer; 0 if it has
    not answered. ``is_closed``: whether it has closed the connection instead.
    """

    def __init__(self, cause: str, status: int = 0, is_closed: bool = False) -> None:
        super().__init__(string=cause)  # type: ignore[no-untyped-call]
        self.cause = cause
        self.status = status
        self.is_closed = is_closed

    def __str__(self) -> str:
        return self.cause


@final
class TunnelTransport:
    """``done``, ``lost`` and ``won`` are those of an ``Attempt``. ``settings``: of each connection; its
    timeout is that of the open, too. ``losses``: connections of the open session that were lost or could
    not be established. ``answer_times``: measures them; None if they are not used.
    """

    def __init__(
        self,
        reactor: Any,
        protocol: Any,
        settings: Settings,
        requests: Requests,
        lost: Callable[[], object] = lambda: None,
        won: Callable[[], object] = lambda: None,
    ) -> None:
        self._reactor = reactor
        # As of Twisted's transports: it may be replaced.
        self.protocol = protocol
        self._settings = settings
        self._lost = lost
        self._won = won
        self._host = ""
        self._links: list[Link | None] = [None] * MOST_LANES
        self.losses = 0
        self.answer_times: AnswerTimes | None = None
        limits = evolve(Limits(), vanished_s=settings.vanished_s)
        self._client = TunnelClient(limits, requests, self, self)
        self._is_open = self._is_cancelled = False
        # Why no connection could be established for the open.
        self._failure: Failure | None = None
        self._late: Any = None
        self._timer: Any = None
        self._producer: Any = None
        self._producer_paused = False
        self._is_reading = True
        # Writes that are held back.
        self._held: list[bytes] | None = None
        self.high_water_bytes = READ_BYTES
        self.done: Deferred[None] = Deferred()
        self._given_up: Deferred[None] = Deferred()

    @property
    def stage(self) -> Stage:
        """What the open waits for."""
        return max((link.stage for link in self._open_links()), default=Stage.CONNECT)

    def connect(self, host: str) -> None:
        """Open the session. Must be called once."""
        self._host = host
        self._late = self._reactor.callLater(self._settings.timeout_s, self._expire_open)
        self._client.start(self._now)
        self._set_timer()

    def cancel(self) -> Deferred[None]:
        """Give up an open that has not succeeded; ``done`` does not fire.

        If the open has been sent, its answer is awaited until the timeout, to close the session by it:
        otherwise the server would keep a session without a client. Fires when the close has been sent, or
        when there is no session to close.
        """
        self._is_cancelled = True
        if not any(link.was_established for link in self._open_links()):
            self._client.abort()
        return self._given_up

    # The protocol calls

    @property
    def unsent(self) -> int:
        """Bytes written that no socket has accepted yet."""
        held_bytes = sum(map(len, self._held or ()))
        return held_bytes + self._client.unsent + sum(link.unsent for link in self._open_links())

    @property
    def unacknowledged(self) -> int:
        """Bytes written whose send has not been answered."""
        return sum(map(len, self._held or ())) + self._client.unacknowledged

    def getHandle(self) -> Any:
        """The socket of one of the connections; None if none is open."""
        return next(filter(None, (link.handle for link in self._open_links())), None)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        """Send ``data``; buffer what no command can carry yet."""
        if self.answer_times is not None:
            self.answer_times.wrote(len(data), self._now)
        if self._held is not None:
            self._held.append(data)
        else:
            self._client.write(data, self._now)
            self._set_timer()
        if (
            self._producer is not None
            and not self._producer_paused
            and self.unsent > self.high_water_bytes
        ):
            self._producer_paused = True
            self._producer.pauseProducing()

    def hold_writes(self, on: bool) -> None:
        """Buffer all writes, or send what was buffered."""
        if on:
            self._held = self._held or []
            return
        held, self._held = self._held, None
        if held:
            self._client.write(b"".join(held), self._now)
            self._set_timer()

    def stopReading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._client.pause(self._now)
            for link in self._open_links():
                link.stop_reading()
            self._set_timer()

    def startReading(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._client.resume(self._now)
            for link in self._open_links():
                link.start_reading()
            self._set_timer()

    pauseProducing = stopReading
    resumeProducing = startReading

    def tell(self, figures: ClientFigures) -> None:
        """Tell the server what this side has measured, if it understands that."""
        self._client.tell(figures, self._now)
        self._set_timer()

    def loseWriteConnection(self) -> None:
        self.hold_writes(False)
        self.startReading()
        self._client.close(self._now)
        self._set_timer()

    loseConnection = loseWriteConnection

    def abortConnection(self) -> None:
        self._client.abort()

    abort_now = abortConnection

    # The client of the session calls

    def connect_link(self, link: int) -> None:
        settings = self._settings
        if self._is_open:
            # What was left for the open says nothing about later connects.
            settings = evolve(settings, timeout_s=_CONNECT_S)
        passage = settings.passage
        if passage is not None and passage.forwards:
            self._links[link] = ForwardedLink(
                *(self._reactor, self, link, settings, self._host, passage),
                is_opening=not self._is_open,
            )
        else:
            self._links[link] = TunnelLink(self._reactor, self, link, settings, self._host)

    def write_link(self, link: int, first: bytes, second: bytes) -> None:
        connection = self._links[link]
        if connection is not None:
            connection.write(first, second)

    def unacknowledged_on(self, link: int) -> int:
        connection = self._links[link]
        return connection.unacknowledged if connection is not None else 0

    def close_link(self, link: int) -> None:
        connection, self._links[link] = self._links[link], None
        if connection is not None:
            connection.close()

    def opened(self) -> None:
        if self._is_cancelled:
            self._reactor.callLater(0, self._client.abort)
            return
        self._is_open = True
        self._late.cancel()
        self._won()
        # As for TCP, later than the protocol's makeConnection.
        self._reactor.callLater(0, self.done.callback, None)
        self.protocol.makeConnection(self)

    def received(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def drained(self) -> None:
        if self._producer_paused and self._held is None and self.unsent <= self.high_water_bytes:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def ended(self, end: End, cause: str) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._late.active():
            self._late.cancel()
        if self._is_open:
            self._reactor.callLater(0, self._lose, Failure(_REASONS[end](cause)))
        elif self._is_cancelled:
            self._given_up.callback(None)
        else:
            is_closed = cause == _CLOSED
            failed = OpenFailed(cause, self._client.refusal, is_closed)
            self.done.errback(self._failure or Failure(failed))

    # The connections call

    def link_connected(self, link: Link) -> None:
        if not self._is_reading:
            link.stop_reading()
        self._client.connected(link.index, self._now)
        self._set_timer()

    def link_received(self, link: Link, data: bytes) -> None:
        self._client.receive(link.index, data, self._now)
        if self.answer_times is not None and self.answer_times.is_timing:
            self.answer_times.answered(self.unacknowledged, self._now)
        self._set_timer()

    def link_lost(self, link: Link, end: End, reason: Failure) -> None:
        self._links[link.index] = None
        self.losses += self._is_open
        if not self._is_open and (not link.was_established or reason.check(ProxyFailed)):
            self._failure = reason
        is_closed = not self._is_open and bool(reason.check(ConnectionDone, ConnectionLost))
        cause = _CLOSED if is_closed else reason.getErrorMessage()
        self._client.lost(link.index, self._now, end, cause)
        self._set_timer()

    # Internal

    @property
    def _now(self) -> float:
        return float(self._reactor.seconds())

    def _open_links(self) -> list[Link]:
        return [link for link in self._links if link is not None]

    def _expire_open(self) -> None:
        self._client.failed(End.LOST, "it does not open a session in time")

    def _set_timer(self) -> None:
        """Have ``_expire`` called no later than at the client's deadline."""
        deadline, timer = self._client.deadline, self._timer
        if timer is not None and timer.active():
            if timer.getTime() <= deadline:
                return
            timer.cancel()
        if deadline < inf:
            self._timer = self._reactor.callLater(max(0.0, deadline - self._now), self._expire)

    def _expire(self) -> None:
        if self._client.deadline <= self._now:
            self._client.expire(self._now)
        self._set_timer()

    def _lose(self, reason: Failure) -> None:
        self._lost()
        self.protocol.connectionLost(reason)
