"""The set of a worker's client connections: deadlines, and limits in total and for each client address.

The limits are those of all workers together, whose connections ``SharedCount`` counts.

The connections of all listeners are in one set, because the limits and the sweep are the worker's. A
connection is in the set from its acceptance until it is lost, whatever its protocol.
"""

from __future__ import annotations

from errno import EMFILE
from math import inf
from typing import Protocol, final

from twisted.logger import Logger

from gateway.descriptors import CAUSES, descriptors
from gateway.logs import repeated
from gateway.protocols.limits import Limits
from gateway.tunnels.admission import SharedCount

_log = Logger()


class Connection(Protocol):
    """What can be swept and counted. ``address`` does not change while it is in the set."""

    address: str
    deadline: float

    def expire(self, now: float) -> None:
        """Called when ``deadline`` has passed."""


@final
class ConnectionSet:
    """All client connections of a worker."""

    def __init__(self, limits: Limits, counted: SharedCount) -> None:
        self._limits = limits
        self._connections: set[Connection] = set()
        self._counted = counted

    def __len__(self) -> int:
        return len(self._connections)

    def has_room(self, address: str | None = None) -> bool:
        """Whether one more connection may come in, from ``address`` if that is known.

        A client on a UNIX socket has none: its connections count in all only.
        """
        if self._counted.total >= self._limits.connections:
            return False
        if not descriptors.allow_client():
            repeated.warn(
                _log, "no_descriptors", "connection refused: {cause}", cause=CAUSES[EMFILE]
            )
            return False
        most = self._limits.connections_per_address
        return not address or self._counted.of_address(address) < most

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._counted.add(connection.address, 1)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was added; raises KeyError for any other."""
        self._connections.remove(connection)
        self._counted.add(connection.address, -1)

    def sweep(self, now: float) -> None:
        """Call ``expire`` of every connection whose deadline has passed."""
        due = [connection for connection in self._connections if connection.deadline <= now]
        for connection in due:
            try:
                connection.expire(now)
            except Exception:
                # The exception must not prevent the deadlines of other connections, in this sweep or the
                # next.
                connection.deadline = inf
                _log.failure("A connection's deadline failed")
