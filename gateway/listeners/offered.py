"""A connection that is offered to another worker, until that worker has taken or declined it.

While it is offered, nothing is read from it here, because the other worker may be reading already. If it is
declined, or the other worker ends before it has answered, it is handled here as if it had never been
offered.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, final

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.listeners.http import HTTPConnection
from gateway.listeners.http_service import Connections


@final
@implementer(IProtocol)
class OfferedConnection:
    """The protocol of the connection meanwhile.

    ``offer(self, first)`` offers it with the bytes read so far, and returns whether ``taken`` or
    ``declined`` will be called. ``make_http`` returns its protocol if it stays here.
    """

    __slots__ = (
        "_connections",
        "_first",
        "_make_http",
        "_offer",
        "_transport",
        "address",
        "deadline",
    )

    def __init__(
        self,
        connections: Connections,
        offer: Callable[[OfferedConnection, bytes], bool],
        make_http: Callable[[], HTTPConnection],
        address: str,
    ) -> None:
        self._connections = connections
        self._offer = offer
        self._make_http = make_http
        self._first = b""
        self._transport: Any = None
        self.address = address
        # The other worker answers at once, or is ended by the supervisor.
        self.deadline = inf

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self._connections.add(self)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        self._first = data
        self._transport.stopReading()
        if not self._offer(self, data):
            self.declined()

    def connectionLost(self, reason: Failure) -> None:
        """The connection was lost while its last bytes were read."""
        self._leave()

    # The sweep calls

    def expire(self, now: float) -> None:
        """Not called: there is no deadline."""

    # The offer calls

    def fileno(self) -> int:
        """The descriptor."""
        descriptor: int = self._transport.fileno()
        return descriptor

    def taken(self) -> None:
        """The other worker reads and writes the connection from now on."""
        if self._transport is not None:
            self._leave().give_away()

    def declined(self) -> None:
        """The connection stays here."""
        if self._transport is not None:
            transport = self._leave()
            transport.protocol = http = self._make_http()
            transport.startReading()
            http.makeConnection(transport)
            http.dataReceived(self._first)

    def _leave(self) -> Any:
        """Forget the connection. Returns its transport."""
        transport, self._transport = self._transport, None
        self._connections.remove(self)
        return transport
