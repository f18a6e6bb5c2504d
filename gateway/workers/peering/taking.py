"""Takes client connections that other workers offer, because this worker owns the session of their first
request.

An offer is answered before anything is read from the connection or written to it here: the other worker
continues with the connection unless it has been taken. This worker declines connections while it has more
than its share of them, or no descriptors for them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, final

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.protocols.offers import (
    DECLINED,
    MOST_BYTES,
    TAKEN,
    MalformedOffer,
    Offer,
    read_offer,
)

_log = Logger()

# Other workers run as the same user.
_MODE: Final = 0o600
_BACKLOG: Final = 64
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Taker(Protocol):
    """This worker's listeners. ``listeners``: their number."""

    @property
    def listeners(self) -> int: ...

    def has_room(self) -> bool:
        """Whether a connection can be taken."""

    def take(self, offer: Offer, connection: socket.socket) -> None:
        """Take over an offered connection."""


@final
@implementer(IReadDescriptor)
class _OfferingWorker:
    """The connection from another worker. ``lost`` is called when it is lost."""

    def __init__(
        self,
        connection: socket.socket,
        taker: Taker,
        lost: Callable[[_OfferingWorker], object],
        reactor: Any,
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._taker = taker
        self._lost = lost
        self._reactor = reactor
        reactor.addReader(self)

    def retire(self) -> None:
        """Let the other worker offer no more connections. Those that it has offered are answered."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    # The reactor calls

    def fileno(self) -> int:
        return self._socket.fileno()

    def doRead(self) -> Any:
        try:
            message, descriptors, flags, _ = socket.recv_fds(
                self._socket, MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not message:
            return CONNECTION_DONE
        try:
            self._receive(message, descriptors, bool(flags & socket.MSG_TRUNC))
        except MalformedOffer as error:
            _log.error("another worker's offers make no sense: {error}", error=error)
            return CONNECTION_LOST
        except OSError:
            return CONNECTION_LOST
        return None

    def connectionLost(self, reason: Failure) -> None:
        self._reactor.removeReader(self)
        self._socket.close()
        self._lost(self)

    def logPrefix(self) -> str:
        return "offers of another worker"

    def _receive(self, message: bytes, descriptors: list[int], is_cut: bool) -> None:
        """Raises MalformedOffer; and OSError if the answer cannot be sent: nothing is taken then."""
        # There is no descriptor if this process can have no more of them.
        connection = _connection(descriptors[0]) if descriptors else None
        is_taken = False
        try:
            offer = read_offer(message, self._taker.listeners)
            if is_cut:
                raise MalformedOffer("an offer over the limit")
            takes = connection is not None and self._taker.has_room()
            self._socket.send(TAKEN if takes else DECLINED)
            is_taken = takes
        finally:
            if connection is not None and not is_taken:
                connection.close()
        if connection is not None and is_taken:
            self._taker.take(offer, connection)


@final
@implementer(IReadDescriptor)
class TakingSocket:
    """The socket for the offers of other workers, at ``path``."""

    def __init__(self, path: str, taker: Taker, reactor: Any) -> None:
        self._path = Path(path)
        self._taker = taker
        self._reactor = reactor
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._workers: set[_OfferingWorker] = set()

    def listen(self) -> None:
        """Accept connections of other workers. Raises OSError."""
        # An earlier worker with this number may have been killed.
        self._path.unlink(missing_ok=True)
        self._socket.setblocking(False)
        os.fchmod(self._socket.fileno(), _MODE)
        self._socket.bind(str(self._path))
        self._socket.listen(_BACKLOG)
        self._reactor.addReader(self)

    def retire(self) -> None:
        """Take no more connections, but those that have been offered. May be called again."""
        if self._socket.fileno() >= 0:
            self.connectionLost(Failure(CONNECTION_DONE))
        for worker in self._workers:
            worker.retire()

    # The reactor calls

    def fileno(self) -> int:
        return self._socket.fileno()

    def doRead(self) -> None:
        with suppress(OSError):
            connection, _ = self._socket.accept()
            self._workers.add(
                _OfferingWorker(connection, self._taker, self._workers.discard, self._reactor)
            )

    def connectionLost(self, reason: Failure) -> None:
        self._reactor.removeReader(self)
        self._path.unlink(missing_ok=True)
        self._socket.close()

    def logPrefix(self) -> str:
        return "socket for offers"


def _connection(descriptor: int) -> socket.socket:
    """The connection of a client behind a received descriptor. Raises MalformedOffer."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise MalformedOffer("a descriptor of no socket") from None
    if connection.family not in _FAMILIES or connection.type != socket.SOCK_STREAM:
        connection.close()
        raise MalformedOffer("a socket that is no connection of a client")
    return connection
