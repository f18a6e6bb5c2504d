"""An HTTP connection of a client or proxy, as Twisted calls it.

Reads the transport, processes requests (``request_processing``) and writes their responses in order
(``ordered_responses``). Additional bytes end a hold (DESIGN.md, Rules of a session).

While the transport's write buffer is not empty, nothing is read and no request is processed: a client
that does not read its responses takes up one response of memory. Every phase has an absolute deadline
(``deadline``), which the worker's sweep checks.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, final

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import UnknownSession
from gateway.listeners.closed_transport import ClosedTransport
from gateway.listeners.ordered_responses import LINGER_S
from gateway.listeners.request_processing import RequestProcessing
from gateway.vanished_peers import has_vanished

# What may wait in the reader behind requests that wait themselves; one read may come on top.
_AHEAD_BYTES = 64 * 1024


@final
@implementer(IProtocol, IHalfCloseableProtocol)
class HTTPConnection(RequestProcessing):
    """The protocol of an HTTP connection. The parameters are those of ``RequestProcessing``."""

    __slots__ = ()

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        transport.high_water_bytes = 0
        transport.registerProducer(self, True)
        self._service.connections.add(self)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

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
        elif self._reader.buffer and not self._last:
            self._process_remaining_requests(now)
        self.is_full = self._last = True
        self._count_waiting(0)

    def _process_remaining_requests(self, now: float) -> None:
        """Process the commands received before the connection was lost, such as librtmp's last send and its
        close. Their answers are discarded. Those that the session has no room for are discarded themselves:
        it must not end for them, since the client can repeat them.
        """
        self._transport = ClosedTransport()
        self.is_full = self._streaming = False
        while self._has_room():
            self._proceed(now)
            if not self._pending:
                return
            self._abandon(now)

    def _has_room(self) -> bool:
        """Whether there was a command, and its session has room for any of the commands behind it."""
        if not self._seen:
            return False
        try:
            session = self._service.tunnels.find(self._seen)
        except UnknownSession:
            return True
        return session.has_room_for(len(self._reader.buffer))

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
        """Part of IPushProducer; ``connectionLost`` does the work."""

    # The sweep calls

    def expire(self, now: float) -> None:
        """``deadline`` has passed."""
        if self._handler is not None:
            self._handler.expire(now)
        elif (
            self._pending and not self.is_full and not self._phase_deadline and not self._broken_off
        ):
            self.deadline = now + self._service.limits.keep_alive_s
        elif now < self._owed_until and self._transport.unacknowledged:
            self.deadline = now + LINGER_S
        elif self.is_full and not self._is_slow():
            self._set_stalled_deadline(now)
        else:
            self._last = True
            self._transport.abortConnection()
