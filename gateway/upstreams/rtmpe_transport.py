"""RTMPE on a connection to a server, between its transport and the session's side.

Offers what the transport below offers, a TCP connection or a tunnel: sessions use it in the same way.
The session's side gets it when the server's handshake is complete, and speaks plain RTMP (``initiation``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError
from gateway.protocols.rtmp.initiation import RTMPEInitiation
from gateway.wrapped_transport import WrappedTransport


class HandshakeFailed(ConnectError):
    """A server has accepted a connection, and has not made the RTMP handshake; the text is the cause.

    The connection ends by itself.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(string=cause)  # type: ignore[no-untyped-call]
        self.cause = cause

    def __str__(self) -> str:
        return self.cause


@final
@implementer(IProtocol, IHalfCloseableProtocol)
class RTMPETransport(WrappedTransport):
    """``protocol`` is connected when the handshake is complete, and is not notified of one that fails.

    ``lost`` is called when a connection has ended whose handshake was complete. ``ready`` fires at the end
    of the handshake, or fails with HandshakeFailed.
    """

    def __init__(
        self, protocol: Any, initiation: RTMPEInitiation, lost: Callable[[], object]
    ) -> None:
        self.protocol = protocol
        self._rtmpe = initiation
        self._lost_session = lost
        self._transport: Any = None
        # Why the connection ends, if that is known here.
        self._cause: Failure | None = None
        self.ready: Deferred[None] = Deferred()

    # The transport below calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._rtmpe.hello)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._cause is not None:
            return
        try:
            if not self._rtmpe.is_ready:
                self._shake_hands(data)
                return
            data = self._rtmpe.down(data)
        except RTMPError as error:
            self._break_off(str(error))
            return
        if data:
            self.protocol.dataReceived(data)

    def readConnectionLost(self) -> None:
        if not self._rtmpe.is_ready:
            self.fail("it closes the connection during the RTMPE handshake")
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._end(Failure(ConnectionDone()))

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol; the session's side asked for it."""

    def connectionLost(self, reason: Failure) -> None:
        if self.ready.called and self._rtmpe.is_ready:
            self.protocol.connectionLost(self._cause or reason)
        else:
            self.fail("it closes the connection during the RTMPE handshake")

    def notify_lost(self) -> None:
        """The connection below has ended."""
        if self._rtmpe.is_ready:
            self._lost_session()

    # ``connect`` of dial.py calls

    def fail(self, cause: str) -> None:
        """Give up, unless the handshake is complete."""
        if not self.ready.called:
            self._cause = Failure(HandshakeFailed(cause))
            self.ready.errback(self._cause)
            self._transport.abortConnection()

    # The session's side calls

    def write(self, data: bytes) -> None:
        if self._cause is not None:
            return
        try:
            up, down = self._rtmpe.up(data)
        except RTMPError as error:
            self._break_off(str(error))
            return
        if up:
            self._transport.write(up)
        if down:
            self.protocol.dataReceived(down)

    # Internal

    def _shake_hands(self, data: bytes) -> None:
        answer = self._rtmpe.shake_hands(data)
        if self._rtmpe.is_ready:
            self._transport.write(answer)
            self.protocol.makeConnection(self)
            self.ready.callback(None)

    def _end(self, cause: Failure) -> None:
        """As TLS does: close without waiting for the server to read."""
        self._cause = cause
        self._close_without_waiting()

    def _break_off(self, cause: str) -> None:
        if not self._rtmpe.is_ready:
            self.fail(cause)
            return
        self._cause = Failure(ConnectionLost(cause))
        self._transport.abortConnection()
