"""One HTTP connection of a session with a tunnel server."""

from __future__ import annotations

from typing import Any, Final, Protocol, final

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.protocols.tunnel_client.interfaces import End
from gateway.upstreams.attempt import Attempt, Settings
from gateway.upstreams.race import Stage
from gateway.vanished_peers import has_vanished

# How long a connection that is closed is read, so that the peer gets what was written last.
_LINGER_S: Final = 2.0


class Link(Protocol):
    """A connection of a session, with the number ``index``.

    ``was_established``: whether it has ever been connected.
    """

    index: int
    was_established: bool

    @property
    def stage(self) -> Stage:
        """What the open waits for."""

    @property
    def unsent(self) -> int:
        """Bytes written that the socket has not accepted yet."""

    @property
    def unacknowledged(self) -> int:
        """Bytes written that the peer has not acknowledged."""

    @property
    def handle(self) -> Any:
        """The socket; None if the connection is not open."""

    def write(self, first: bytes, second: bytes) -> None: ...

    def stop_reading(self) -> None: ...

    def start_reading(self) -> None: ...

    def close(self) -> None:
        """Close after everything written. No event is reported afterwards."""


class Session(Protocol):
    """The session that the connection is part of."""

    def link_connected(self, link: Link) -> None: ...

    def link_received(self, link: Link, data: bytes) -> None: ...

    def link_lost(self, link: Link, end: End, reason: Failure) -> None:
        """It was lost, or could not be established. Not called after ``close``."""


@final
@implementer(IProtocol)
class TunnelLink:
    """A ``Link`` on one TCP connection. It begins to connect when it is made."""

    def __init__(
        self, reactor: Any, session: Session, index: int, settings: Settings, host: str
    ) -> None:
        self._reactor = reactor
        self._session: Session | None = session
        self._transport: Any = None
        self._linger: Any = None
        self.index = index
        self.was_established = False
        self._attempt = Attempt(reactor, self, settings)
        self._attempt.done.addErrback(self._fail)
        self._attempt.connect(host)

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self.was_established = True
        if self._session is None:
            transport.abortConnection()
        else:
            self._session.link_connected(self)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._session is not None:
            self._session.link_received(self, data)

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        if self._session is not None:
            end = End.VANISHED if has_vanished(reason) else End.LOST
            self._session.link_lost(self, end, reason)

    # The session calls

    @property
    def stage(self) -> Stage:
        return Stage.OPEN if self.was_established else self._attempt.stage

    @property
    def unsent(self) -> int:
        return self._transport.unsent if self._transport is not None else 0

    @property
    def handle(self) -> Any:
        return self._transport.getHandle() if self._transport is not None else None

    @property
    def unacknowledged(self) -> int:
        """Bytes written that the peer has not acknowledged."""
        return self._transport.unacknowledged if self._transport is not None else 0

    def write(self, first: bytes, second: bytes) -> None:
        self._transport.write_two(first, second)

    def stop_reading(self) -> None:
        if self._transport is not None:
            self._transport.stopReading()

    def start_reading(self) -> None:
        if self._transport is not None:
            self._transport.startReading()

    def close(self) -> None:
        self._session = None
        if self._transport is not None:
            self._linger = self._reactor.callLater(_LINGER_S, self._transport.abortConnection)
            self._transport.startReading()
            self._transport.loseWriteConnection()

    def _fail(self, reason: Failure) -> None:
        if self._session is not None:
            self._session.link_lost(self, End.LOST, reason)
