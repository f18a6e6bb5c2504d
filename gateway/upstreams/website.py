"""Connections to the website's server: dialled, lent to one request at a time, kept for the next.

A kept connection may be closed by the server at the very moment it is lent again, and then nobody knows
whether the request was read. Only a request that may be repeated is therefore given a kept one; any other
gets a fresh one, which costs a connect and never a wrong answer.

Bounds: ``_KEPT_CONNECTIONS``, ``_KEPT_S``; the connect by ``Limits.upstream_connect_s`` an address. What a
connection carries is its user's business; this module does not know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.addresses import ServerAddress
from gateway.errors import (
    ConfigurationError,
    RequestRefused,
    WebsiteTimedOut,
    WebsiteUnavailable,
)
from gateway.protocols.limits import Limits
from gateway.upstreams.dial import Server, dial, exhausted, warn_exhausted

_log = Logger()

# More than that at once are rare behind one gateway, and each costs the server a place of its own.
_KEPT_CONNECTIONS = 32
# Common servers keep theirs 5 to 75 s; firewalls forget quiet ones, silently, after minutes.
_KEPT_S = 30.0
# One line an outage, not one a request.
_QUIET_S = 10.0


class User(Protocol):
    """The request that a connection is lent to."""

    def server_connected(self, server: WebConnection) -> None:
        """What ``dial`` was asked for; the user owes ``give_back`` or ``close``."""

    def server_failed(self, error: RequestRefused) -> None:
        """``dial`` found no server."""

    def server_data(self, data: bytes) -> None: ...

    def server_full(self) -> None:
        """More than the transport's mark is unsent."""

    def server_drained(self) -> None: ...

    def server_ended(self) -> None:
        """The server says no more, and still listens. Not called after ``close``."""

    def server_lost(self) -> None:
        """The connection is gone. Not called after ``close``."""


@final
@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class WebConnection:
    """One connection. ``user`` is None while nobody has it, ``lost`` set once it is of no use any more."""

    __slots__ = ("_forget", "kept_since", "lost", "transport", "user")

    def __init__(self, forget: Callable[[WebConnection], None]) -> None:
        self._forget = forget
        self.transport: Any = None
        self.user: User | None = None
        self.lost = False
        self.kept_since = 0.0

    def close(self) -> None:
        """Close it now; its user hears no more of it."""
        self.user = None
        self.lost = True
        self.transport.abortConnection()

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        if self.user is not None:
            self.user.server_data(data)
        elif not self.lost:
            # An answer to nothing.
            self._drop()

    def readConnectionLost(self) -> None:
        if self.user is not None:
            self.user.server_ended()
        elif not self.lost:
            self._drop()

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol; we asked for it."""

    def connectionLost(self, reason: Failure) -> None:
        self.lost = True
        self._forget(self)
        user, self.user = self.user, None
        if user is not None:
            user.server_lost()

    def pauseProducing(self) -> None:
        if self.user is not None:
            self.user.server_full()

    def resumeProducing(self) -> None:
        if self.user is not None:
            self.user.server_drained()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does what there is to do."""

    def _drop(self) -> None:
        self._forget(self)
        self.close()


@final
class WebServer:
    """The website's server. ``reactor`` looks names up, and ``connect`` dials with it; ``clock`` gives
    seconds that never go back."""

    def __init__(
        self,
        reactor: Any,
        address: ServerAddress,
        limits: Limits,
        clock: Callable[[], float],
        connect: Callable[[Any, str, int, IProtocol, float], Deferred[None]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._dial_host = connect or partial(dial, vanished_s=limits.vanished_s)
        self.server = Server(address, "website")
        self._limits = limits
        self._clock = clock
        self._kept: list[WebConnection] = []
        # Of a name's addresses, the one that was reached last.
        self._host = ""
        self._complained_at = -_QUIET_S
        self.name = self.server.name.encode()

    async def look_up(self) -> None:
        """Look its name up. Raises ConfigurationError when that is unknown."""
        await self.server.look_up(self._reactor)

    async def look_up_again(self) -> None:
        """Look its name up, and keep what was known if it cannot be had now."""
        try:
            await self.look_up()
        except ConfigurationError as error:
            _log.warn("{error}", error=error)

    def take_kept(self, user: User) -> WebConnection | None:
        """Lend a kept connection, the one used last, to ``user``; None when there is none."""
        while self._kept:
            connection = self._kept.pop()
            is_young = self._clock() - connection.kept_since < _KEPT_S
            # Bytes that came while nothing was asked would be taken for the next request's answer.
            if is_young and not connection.transport.unread:
                connection.user = user
                return connection
            connection.close()
        return None

    def dial(self, user: User) -> None:
        """Lend a fresh connection to ``user``: it is told of the outcome, never at once."""
        Deferred.fromCoroutine(self._dial(user)).addErrback(
            lambda failure: _log.failure("Dialling the website failed", failure)
        )

    def give_back(self, connection: WebConnection) -> None:
        """Take back a connection on which an answer has ended in order."""
        connection.user = None
        if len(self._kept) >= _KEPT_CONNECTIONS:
            connection.close()
            return
        connection.kept_since = self._clock()
        # Its last user may have left it paused; a kept one must notice its end.
        connection.transport.startReading()
        self._kept.append(connection)

    def close(self) -> None:
        """Close what is kept."""
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def complain(self, error: Exception) -> None:
        """Log what is wrong with the server, unless something was just now."""
        now = self._clock()
        if now - self._complained_at >= _QUIET_S:
            self._complained_at = now
            _log.warn("website {server}: {error}", server=self.server.name, error=error)

    async def _dial(self, user: User) -> None:
        connection = WebConnection(self._forget)
        try:
            await self._connect(connection)
        except RequestRefused as error:
            user.server_failed(error)
        except BaseException:
            user.server_failed(WebsiteUnavailable("a fault of the gateway"))
            raise
        else:
            connection.user = user
            user.server_connected(connection)

    async def _connect(self, connection: WebConnection) -> None:
        refused: RequestRefused = WebsiteUnavailable("its name is not looked up yet")
        for host in self._hosts_in_turn():
            port, timeout_s = self.server.address.port, self._limits.upstream_connect_s
            try:
                await self._dial_host(self._reactor, host, port, connection, timeout_s)
            except ConnectError as error:
                own = exhausted(error, self.server, host)
                if own is not None:
                    refused = own
                    warn_exhausted(own, self.server)
                else:
                    refused = _refusal_of(error)
                    self.complain(error)
            else:
                self.server.note_reached(host)
                if connection.lost:
                    raise WebsiteUnavailable("closed as soon as it stood")
                self._host = host
                return
        raise refused

    def _hosts_in_turn(self) -> list[str]:
        """All addresses, the one that was reached last first."""
        return sorted(self.server.hosts, key=lambda host: host != self._host)

    def _forget(self, connection: WebConnection) -> None:
        if connection in self._kept:
            self._kept.remove(connection)


def _refusal_of(cause: ConnectError) -> RequestRefused:
    if isinstance(cause, ConnectTimedOut):
        return WebsiteTimedOut("no connection in time")
    return WebsiteUnavailable("no connection")
