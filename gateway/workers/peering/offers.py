"""Offers client connections to the worker that owns the session of their first request.

Later commands of a connection that was taken are local ones. There is one connection to each other worker,
on a UNIX socket that keeps the boundaries of messages; a message carries a client connection's descriptor
and the bytes read so far (``protocols.offers``). If the socket is full, or too many offers are unanswered,
the client's connection stays here, and its commands are forwarded.

A worker that retires closes its socket: connections that it took would end with it, and could open no
session any more.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, Protocol, final

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.logs import debugging
from gateway.protocols.limits import Limits
from gateway.protocols.offers import (
    DECLINED,
    MOST_BYTES,
    TAKEN,
    Offer,
    session_of_first_request,
)
from gateway.tunnels.ids import PREFIX_BYTES

_log = Logger()

# Unanswered offers to one worker. Each keeps the bytes of one read.
_MOST_OFFERED: Final = 64
# One more than an answer has.
_ANSWER_BYTES: Final = 2
_OUTCOMES: Final = {TAKEN: "taken", DECLINED: "declined"}


class Offered(Protocol):
    """A connection that is offered."""

    address: str

    def fileno(self) -> int: ...

    def taken(self) -> None: ...

    def declined(self) -> None: ...


@final
@implementer(IReadDescriptor)
class OfferLink:
    """The connection for offers to one other worker. ``lost`` is called when it is lost.

    ``counts`` are the offers by outcome.
    """

    def __init__(
        self,
        connection: socket.socket,
        lost: Callable[[OfferLink], None],
        counts: Counter[str],
        reactor: Any,
    ) -> None:
        self._socket = connection
        self._lost = lost
        self._counts = counts
        self._reactor = reactor
        # Offers in the order in which they are answered.
        self._offered: deque[Offered] = deque()
        reactor.addReader(self)

    def offer(self, listener: int, offered: Offered, first: bytes) -> bool:
        """Offer a connection with the bytes that have been read from it. Returns whether it was offered;
        ``taken`` or ``declined`` is called then.
        """
        message = Offer(listener, offered.address, first).message
        if len(self._offered) >= _MOST_OFFERED or len(message) > MOST_BYTES:
            return self._not_offered()
        try:
            socket.send_fds(self._socket, [message], [offered.fileno()])
        except OSError:
            # It is full; or the worker has ended or retires, and the reactor will report that.
            return self._not_offered()
        self._offered.append(offered)
        return True

    def close(self) -> None:
        self.connectionLost(Failure(CONNECTION_DONE))

    # The reactor calls

    def fileno(self) -> int:
        return self._socket.fileno()

    def doRead(self) -> Any:
        try:
            answer = self._socket.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # The worker has ended with unread offers. Its answers to others may still be unread here.
            return None
        except OSError:
            return CONNECTION_LOST
        if not answer:
            return CONNECTION_DONE
        if not self._offered or answer not in _OUTCOMES:
            _log.error("another worker's answers to offers make no sense")
            return CONNECTION_LOST
        self._finish(_OUTCOMES[answer])
        return None

    def connectionLost(self, reason: Failure) -> None:
        self._reactor.removeReader(self)
        self._socket.close()
        self._lost(self)
        while self._offered:
            self._finish("declined")

    def logPrefix(self) -> str:
        return "offers to another worker"

    def _finish(self, outcome: str) -> None:
        """End the oldest offer."""
        offered = self._offered.popleft()
        self._counts[outcome] += 1
        if debugging.enabled:
            _log.debug(
                "connection from {address} {outcome} by the worker of its first request's session",
                address=offered.address or "a local client",
                outcome=outcome,
            )
        if outcome == "taken":
            offered.taken()
        else:
            offered.declined()

    def _not_offered(self) -> bool:
        self._counts["declined"] += 1
        return False


@final
class OfferLinks:
    """The links to other workers, connected when they are first needed.

    ``path_of`` returns the path of a worker's socket from the prefix of its session ids, or None if the
    prefix is not one of this node's other workers.
    """

    def __init__(
        self, reactor: Any, path_of: Callable[[bytes], str | None], limits: Limits
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._path_of = path_of
        self._links: dict[bytes, OfferLink] = {}
        # Counts of offers, by outcome.
        self.counts = Counter(taken=0, declined=0)

    def link_for(self, first: bytes) -> OfferLink | None:
        """The link to the worker that should take a connection that begins with ``first``; None if there is
        none.
        """
        session_id = session_of_first_request(first, self._limits)
        if not session_id:
            return None
        prefix = session_id[:PREFIX_BYTES]
        return self._links.get(prefix) or self._connect(prefix)

    def close(self) -> None:
        for link in tuple(self._links.values()):
            link.close()

    def _connect(self, prefix: bytes) -> OfferLink | None:
        path = self._path_of(prefix)
        if path is None:
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            return None
        link = self._links[prefix] = OfferLink(connection, self._forget, self.counts, self._reactor)
        return link

    def _forget(self, lost: OfferLink) -> None:
        self._links = {prefix: link for prefix, link in self._links.items() if link is not lost}
