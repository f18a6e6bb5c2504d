"""Forwards commands of sessions that other workers own, and their answers back.

Clients open new connections for their commands, and every worker accepts them. The session id names the
worker that owns the session (``tunnels.ids``). There is one connection to each such worker, on its UNIX
socket; requests of all clients share it, and are answered in any order.

If the connection is lost, the worker has ended, and its sessions with it: their commands get 404.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any, Final, final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import BadRequest, UnknownSession
from gateway.listeners.ordered_responses import PendingResponse
from gateway.protocols.commands import Kind
from gateway.protocols.interfaces import Reply
from gateway.protocols.peering import (
    ACCEPTED,
    ANSWER,
    CARRIED,
    CLIENT_VANISHED,
    FORGET,
    GREETING,
    KEEPING,
    MALFORMED,
    MAY_HOLD,
    NUMBERED,
    RELEASE,
    SHARED,
    SOURCE_LOST,
    FrameReader,
    OutOfStep,
    command_head,
    connection_and_session,
    frame,
)
from gateway.transport import JOIN_BYTES, adopt_connection
from gateway.tunnels.ids import MOST_ID_BYTES, PREFIX_BYTES
from gateway.workers.peering.batch import Batch

_log = Logger()

_REQUESTS: Final = 1 << 32
# A fault of one client's connection: all clients share that of the link.
_UNDELIVERED: Final = "The answer of another worker could not be delivered"
# Above this, commands wait in their clients' connections: a send of the largest size.
_HIGH_WATER_BYTES: Final = 1024 * 1024


@final
@implementer(IProtocol, IPushProducer)
class PeerLink:
    """The connection to one other worker. ``is_full``: whether more commands have to wait.

    ``counts["forwarded"]`` is increased by each command. ``lost`` is called when the connection is lost,
    ``accepted`` when a worker of another node has accepted it. ``joined_bytes``: as in ``Batch``.
    """

    def __init__(
        self,
        lost: Callable[[PeerLink, Failure], None],
        counts: Counter[str],
        accepted: Callable[[PeerLink], None] | None = None,
        joined_bytes: float = JOIN_BYTES,
    ) -> None:
        self._lost = lost
        self._counts = counts
        self._accepted = accepted
        self._joined_bytes = joined_bytes
        self._transport: Any = None
        self._batch = Batch(None)
        self._reader = FrameReader()
        self._next_request = count().__next__
        self._replies: dict[int, PendingResponse] = {}
        self.is_full = False

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self._batch = Batch(transport, self._joined_bytes)
        transport.high_water_bytes = _HIGH_WATER_BYTES
        transport.registerProducer(self, True)
        transport.write(GREETING)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        try:
            frames = self._reader.receive(data)
        except OutOfStep as error:
            _log.error("another worker's answers make no sense: {error}", error=error)
            self._transport.abortConnection()
            return
        for type_, request, payload in frames:
            try:
                self._answered(type_, request, payload)
            except Exception:
                _log.failure(_UNDELIVERED)

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        self._lost(self, reason)
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            try:
                reply.refuse(UnknownSession("the session's worker has ended"))
            except Exception:
                _log.failure(_UNDELIVERED)

    def pauseProducing(self) -> None:
        self.is_full = True

    def resumeProducing(self) -> None:
        self.is_full = False

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does the work."""

    # Sessions call

    def send(
        self,
        session_id: bytes,
        kind: Kind,
        number: int,
        body: bytes,
        source: int,
        flags: int,
        via: bytes,
    ) -> int:
        """Forward a command; returns the number of the request, for ``expect``."""
        request = self._next_request() % _REQUESTS
        self._counts["forwarded"] += 1
        if self._transport is not None:
            head = command_head(request, session_id, kind, number, len(body), source, flags, via)
            self._batch.write_two(head, body)
        return request

    def expect(self, request: int, reply: PendingResponse) -> None:
        """``reply`` receives the answer to the request."""
        if self._transport is None:
            reply.refuse(UnknownSession("the session's worker has ended"))
        else:
            self._replies[request] = reply

    def forget(self, request: int) -> None:
        """The client's connection was lost, so no answer can be delivered."""
        if self._replies.pop(request, None) is not None:
            self.tell(FORGET, request)

    def tell(self, type_: int, request: int = 0, payload: bytes = b"") -> None:
        if self._transport is not None:
            self._batch.write(frame(type_, request, payload))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.loseConnection()

    def _answered(self, type_: int, request: int, payload: bytes) -> None:
        if type_ == KEEPING:
            if request in self._replies:
                self._replies[request].blocks = True
            return
        if type_ == ACCEPTED:
            if self._accepted is not None:
                self._accepted(self)
            return
        reply = self._replies.pop(request, None)
        if reply is None:
            return
        if type_ == ANSWER:
            reply.answer(payload)
        elif type_ == MALFORMED:
            reply.refuse(BadRequest("refused by the session's worker"))
        else:
            reply.refuse(UnknownSession("refused by the session's worker"))


@final
class RemoteSession:
    """A session of another worker, for one command: has the methods of ``Session`` that connections call.

    Answers are always pending, and never streamed: the session's worker does not know the connection.
    """

    __slots__ = ("_flags", "_link", "_request", "_session_id", "_via")

    def __init__(self, link: PeerLink, session_id: bytes) -> None:
        self._link = link
        self._session_id = session_id
        self._flags = 0
        self._via = b""
        self._request = -1

    @property
    def is_keeping(self) -> bool:
        return self._link.is_full

    def has_room_for(self, body_bytes: int) -> bool:
        return not self._link.is_full

    def carried_by(self, transport: object, via: bytes | None, is_shared: bool = False) -> None:
        self._flags = CARRIED | SHARED if is_shared else CARRIED
        self._via = via or b""

    def receive(
        self, kind: Kind, number: int, body: bytes, now: float, may_hold: bool, source: int
    ) -> bytes | None:
        flags = self._flags | NUMBERED | MAY_HOLD if may_hold else self._flags | NUMBERED
        self._request = self._link.send(
            self._session_id, kind, number, body, source, flags, self._via
        )
        return None

    def close(self, now: float) -> bytes | None:
        self._request = self._link.send(
            self._session_id, Kind.CLOSE, 0, b"", 0, self._flags, self._via
        )
        return None

    def wait(self, number: int, reply: Any, now: float) -> None:
        self._link.expect(self._request, reply)

    def forget(self, reply: Reply, now: float) -> None:
        self._link.forget(self._request)

    def release(self, now: float) -> None:
        self._link.tell(RELEASE, payload=self._session_id)

    def source_lost(self, source: int) -> None:
        self._link.tell(SOURCE_LOST, payload=connection_and_session(source, self._session_id))

    def client_vanished(self, source: int, now: float) -> None:
        self._link.tell(CLIENT_VANISHED, payload=connection_and_session(source, self._session_id))

    def stream_drained(self, now: float) -> None:
        """Part of Session's interface; answers are not streamed."""


@final
class Peers:
    """The links to other workers of this node, connected when they are first needed.

    ``path_of`` returns the path of a worker's socket from the prefix of its session ids, or None if the
    prefix is not one of this node's workers. ``link_to_node`` returns the link to another node, or None.
    """

    def __init__(
        self,
        reactor: Any,
        path_of: Callable[[bytes], str | None],
        link_to_node: Callable[[bytes], PeerLink | None] = lambda prefix: None,
    ) -> None:
        self._reactor = reactor
        self._path_of = path_of
        self._link_to_node = link_to_node
        self._links: dict[bytes, PeerLink] = {}
        # Counts of commands: forwarded ones, and those for workers that do not exist.
        self.counts = Counter(forwarded=0, unknown_worker=0)

    def find(self, session_id: bytes) -> RemoteSession:
        """The session of another worker or node. Raises UnknownSession if there is none such."""
        link = self._link_to_node(session_id[:PREFIX_BYTES])
        if link is None or len(session_id) > MOST_ID_BYTES:
            return self.find_here(session_id)
        return RemoteSession(link, session_id)

    def find_here(self, session_id: bytes) -> RemoteSession:
        """The session of another worker of this node. Raises UnknownSession if there is no such worker."""
        if len(session_id) > MOST_ID_BYTES:
            # A frame has no place for it.
            raise UnknownSession("no session has such a long id")
        prefix = session_id[:PREFIX_BYTES]
        link = self._links.get(prefix)
        if link is None:
            link = self._connect(prefix)
        return RemoteSession(link, session_id)

    def close(self) -> None:
        for link in tuple(self._links.values()):
            link.close()

    def _connect(self, prefix: bytes) -> PeerLink:
        path = self._path_of(prefix)
        connection = None if path is None else _connect(path)
        if connection is None:
            self.counts["unknown_worker"] += 1
            raise UnknownSession("no such session, and no such worker")
        link = PeerLink(self._forget, self.counts)
        self._links[prefix] = link
        adopt_connection(connection, link, self._reactor)
        return link

    def _forget(self, lost: PeerLink, reason: Failure) -> None:
        self._links = {prefix: link for prefix, link in self._links.items() if link is not lost}


def _connect(path: str) -> socket.socket | None:
    """Connect to a UNIX socket. It succeeds or fails at once."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection
