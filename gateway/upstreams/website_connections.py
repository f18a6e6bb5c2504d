"""Connections to the website's server: opened on demand, used for one request at a time, and reused.

The server may close an idle connection just when it is reused, and then it is not known whether the request
was processed. Only requests that may be repeated use idle connections; all others get a new one.

Limits: ``_KEPT_CONNECTIONS``, ``_KEPT_S``, and ``Limits.upstream_connect_s`` for a connect to each address.
This module does not know HTTP.
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
    RequestRefused,
    WebsiteTimedOut,
    WebsiteUnavailable,
)
from gateway.protocols.limits import Limits
from gateway.upstreams.attempt import dial
from gateway.upstreams.dial import Server, exhausted, warn_exhausted
from gateway.upstreams.names import Names, look_up_due

_log = Logger()

# More are rarely used at the same time, and each occupies a place at the server.
_KEPT_CONNECTIONS = 32
# Common servers close idle connections after 5 to 75 s; firewalls drop their state after minutes.
_KEPT_S = 30.0
# At most one log line in this time.
_QUIET_S = 10.0


class User(Protocol):
    """The request that uses a connection."""

    def server_connected(self, server: WebConnection) -> None:
        """``dial`` has succeeded. The user must call ``release`` or ``close``."""

    def server_failed(self, error: RequestRefused) -> None:
        """``dial`` has failed."""

    def server_data(self, data: bytes) -> None: ...

    def server_full(self) -> None:
        """The transport's write buffer is full."""

    def server_drained(self) -> None: ...

    def server_ended(self) -> None:
        """The server has half-closed. Not called after ``close``."""

    def server_lost(self) -> None:
        """The connection was lost. Not called after ``close``."""


@final
@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class WebConnection:
    """A connection. ``user``: None while it is idle. ``lost``: whether it cannot be used any more."""

    __slots__ = ("_forget", "kept_since", "lost", "transport", "user")

    def __init__(self, forget: Callable[[WebConnection], None]) -> None:
        self._forget = forget
        self.transport: Any = None
        self.user: User | None = None
        self.lost = False
        self.kept_since = 0.0

    def close(self) -> None:
        """Abort the connection. Its user is not called any more."""
        self.user = None
        self.lost = True
        self.transport.abortConnection()

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self.user is not None:
            self.user.server_data(data)
        elif not self.lost:
            # Data without a request.
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
        """Part of IPushProducer; ``connectionLost`` does the work."""

    def _drop(self) -> None:
        self._forget(self)
        self.close()


@final
class WebsiteConnections:
    """The connections to the website's server. ``connect`` opens one; ``clock`` is monotonic."""

    def __init__(
        self,
        reactor: Any,
        address: ServerAddress,
        limits: Limits,
        clock: Callable[[], float],
        connect: Callable[[Any, str, int, IProtocol, float], Deferred[None]] | None = None,
        names: Names | None = None,
    ) -> None:
        self._names = names or Names(reactor, seconds=clock)
        self._reactor = reactor
        self._dial_host = connect or partial(dial, vanished_s=limits.vanished_s)
        self.server = Server(address, "website")
        self._limits = limits
        self._clock = clock
        self._kept: list[WebConnection] = []
        # The address of the last successful connect.
        self._host = ""
        self._logged_at = -_QUIET_S
        self.name = self.server.name.encode()

    async def look_up(self) -> None:
        """Resolve the server's name. Raises ConfigurationError if it is unknown."""
        await self.server.look_up(self._names)

    async def look_up_again(self) -> None:
        """Resolve the name if its time is up. If that fails, the known addresses stay in use."""
        await look_up_due([self.server], self._names)

    def reuse(self, user: User) -> WebConnection | None:
        """The idle connection that was used last, for ``user``; None if there is none."""
        while self._kept:
            connection = self._kept.pop()
            is_young = self._clock() - connection.kept_since < _KEPT_S
            # Unread bytes would be taken for the response to the next request.
            if is_young and not connection.transport.unread:
                connection.user = user
                return connection
            connection.close()
        return None

    def dial(self, user: User) -> None:
        """Open a connection for ``user``, which is notified of the outcome after this call has returned."""
        Deferred.fromCoroutine(self._dial(user)).addErrback(
            lambda failure: _log.failure("Dialling the website failed", failure)
        )

    def release(self, connection: WebConnection) -> None:
        """Keep a connection for reuse, after a complete response."""
        connection.user = None
        if len(self._kept) >= _KEPT_CONNECTIONS:
            connection.close()
            return
        connection.kept_since = self._clock()
        # Reading may be paused, but an idle connection must detect its end.
        connection.transport.startReading()
        self._kept.append(connection)

    def close(self) -> None:
        """Close the idle connections."""
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def log_failure(self, error: Exception) -> None:
        """Log a failure of the server, at most every ``_QUIET_S``."""
        now = self._clock()
        if now - self._logged_at >= _QUIET_S:
            self._logged_at = now
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
        refused: RequestRefused = WebsiteUnavailable("its name is not resolved yet")
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
                    self.log_failure(error)
            else:
                self.server.note_reached(host)
                if connection.lost:
                    raise WebsiteUnavailable("closed immediately")
                self._host = host
                return
        raise refused

    def _hosts_in_turn(self) -> list[str]:
        """All addresses, beginning with that of the last successful connect."""
        return sorted(self.server.hosts, key=lambda host: host != self._host)

    def _forget(self, connection: WebConnection) -> None:
        if connection in self._kept:
            self._kept.remove(connection)


def _refusal_of(cause: ConnectError) -> RequestRefused:
    if isinstance(cause, ConnectTimedOut):
        return WebsiteTimedOut("no connection in time")
    return WebsiteUnavailable("no connection")
