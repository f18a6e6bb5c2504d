"""Executes commands that other workers forward to their session's owner: this worker.

A command of another node can reach any worker of this node, which forwards it once more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import BadRequest, RequestRefused, UnknownSession
from gateway.protocols.peering import (
    ACCEPTED,
    ANSWER,
    CARRIED,
    CLIENT_VANISHED,
    COMMAND,
    FORGET,
    GREETING,
    KEEPING,
    MALFORMED,
    MAY_HOLD,
    NUMBERED,
    RELEASE,
    SHARED,
    SOURCE_LOST,
    UNKNOWN,
    FrameReader,
    OutOfStep,
    frame,
    frame_head,
    read_command,
    read_connection_and_session,
)
from gateway.transport import JOIN_BYTES
from gateway.workers.peering.batch import Batch

_log = Logger()

# Unsent answers, above which no more commands of a node are read: seconds of a fast link between nodes.
_HIGH_WATER_BYTES: Final = 4 * 1024 * 1024


@final
class _PeerReply:
    """The reply to a forwarded command (``interfaces.Reply``)."""

    __slots__ = ("_connection", "_request", "session")

    may_stream = False
    round_trip_s = 0.0

    def __init__(self, connection: PeerConnection, request: int, session: Any) -> None:
        self._connection = connection
        self._request = request
        self.session = session

    def answer(self, body: bytes) -> None:
        self._connection.answer(self._request, body)

    def refuse(self, error: RequestRefused) -> None:
        self._connection.refuse(self._request, error)

    def begin(self, first: bytes, length: int | None, is_direct: bool = False) -> bool:
        raise NotImplementedError("answers to other workers are not streamed")

    def more(self, data: bytes) -> bool:
        raise NotImplementedError("answers to other workers are not streamed")

    def finish(self, is_whole: bool, last: bytes = b"") -> None:
        raise NotImplementedError("answers to other workers are not streamed")

    def mark_idle(self) -> None:
        """Only called after ``finish``."""

    @property
    def blocks(self) -> bool:
        """Whether later requests of the connection have to wait for this answer."""
        return False

    @blocks.setter
    def blocks(self, on: bool) -> None:
        # Set by the link to the session's worker.
        if on:
            self._connection.keep(self._request)


@final
@implementer(IProtocol, IPushProducer)
class PeerConnection:
    """The connection from another worker. A node that does not read its answers is not read itself: a short
    command can have a long answer. This node's other workers always read.

    ``find`` returns the session of an id, or raises UnknownSession. ``joined_bytes``: as in ``Batch``.
    ``lost`` is called when the connection is lost. ``says_accepted``: whether the greeting is answered, so
    that a worker of another node knows that it was authenticated.
    """

    def __init__(
        self,
        find: Callable[[bytes], Any],
        clock: Callable[[], float],
        joined_bytes: float = JOIN_BYTES,
        lost: Callable[[PeerConnection], object] | None = None,
        says_accepted: bool = False,
    ) -> None:
        self._find = find
        self._clock = clock
        self._joined_bytes = joined_bytes
        self._lost_connection = lost
        self._says_accepted = says_accepted
        self._is_accepted = False
        self._reader = FrameReader(GREETING)
        self._transport: Any = None
        self._batch = Batch(None)
        self._pending: dict[int, _PeerReply] = {}

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self._batch = Batch(transport, self._joined_bytes)
        if self._says_accepted:
            # The mark is that of the transport under TLS.
            getattr(transport, "transport", transport).high_water_bytes = _HIGH_WATER_BYTES
            transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The write buffer is full."""
        if self._transport is not None:
            self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        if self._transport is not None:
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does the work."""

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        now = self._clock()
        try:
            for type_, request, payload in self._reader.receive(data):
                self._receive(type_, request, payload, now)
            if not self._is_accepted and self._reader.is_greeted:
                self._is_accepted = True
                if self._says_accepted:
                    self._batch.write(frame(ACCEPTED, 0))
        except OutOfStep as error:
            _log.error("another worker's commands make no sense: {error}", error=error)
            self._transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        now = self._clock()
        pending, self._pending = self._pending, {}
        for reply in pending.values():
            reply.session.forget(reply, now)
        if self._lost_connection is not None:
            self._lost_connection(self)

    @property
    def is_accepted(self) -> bool:
        """Whether the greeting has been received."""
        return self._is_accepted

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abortConnection()

    # Replies call

    def answer(self, request: int, body: bytes) -> None:
        self._pending.pop(request, None)
        self._answer(request, body)

    def refuse(self, request: int, error: RequestRefused) -> None:
        self._pending.pop(request, None)
        if self._transport is not None:
            self._batch.write(frame(MALFORMED if error.closes else UNKNOWN, request))

    def keep(self, request: int) -> None:
        """The answer is withheld."""
        if self._transport is not None:
            self._batch.write(frame(KEEPING, request))

    # Frames

    def _receive(self, type_: int, request: int, payload: bytes, now: float) -> None:
        """Raises OutOfStep. Any other fault is that of one command: all clients share the connection."""
        try:
            self._received(type_, request, payload, now)
        except OutOfStep:
            raise
        except Exception:
            _log.failure("A command of another worker failed")
            if type_ == COMMAND:
                # Its client's connection is closed, as for a request that fails here.
                self.refuse(request, BadRequest("a fault of the session's worker"))

    def _received(self, type_: int, request: int, payload: bytes, now: float) -> None:
        if type_ == COMMAND:
            self._execute(request, payload, now)
        elif type_ == FORGET:
            reply = self._pending.pop(request, None)
            if reply is not None:
                reply.session.forget(reply, now)
        elif type_ == RELEASE:
            with suppress(UnknownSession):
                self._find(payload).release(now)
        else:
            self._lost(type_, payload, now)

    def _lost(self, type_: int, payload: bytes, now: float) -> None:
        source, session_id = read_connection_and_session(payload)
        with suppress(UnknownSession):
            session = self._find(session_id)
            if type_ == SOURCE_LOST:
                session.source_lost(source)
            elif type_ == CLIENT_VANISHED:
                session.client_vanished(source, now)

    def _execute(self, request: int, payload: bytes, now: float) -> None:
        session_id, kind, number, body, source, flags, via = read_command(payload)
        try:
            session = self._find(session_id)
            if flags & CARRIED:
                session.carried_by(None, via or None, bool(flags & SHARED))
            if flags & NUMBERED:
                may_hold = bool(flags & MAY_HOLD)
                answer = session.receive(kind, number, body, now, may_hold, source)
            else:
                answer = session.close(now)
        except RequestRefused as error:
            self.refuse(request, error)
            return
        if answer is not None:
            self._answer(request, answer)
            return
        reply = self._pending[request] = _PeerReply(self, request, session)
        if session.is_keeping:
            self.keep(request)
        session.wait(number, reply, now)

    def _answer(self, request: int, body: bytes) -> None:
        if self._transport is not None:
            self._batch.write_two(frame_head(ANSWER, request, len(body)), body)


@final
class PeerServer(ServerFactory):
    """The server for connections of this node's other workers."""

    def __init__(self, find: Callable[[bytes], Any], clock: Callable[[], float]) -> None:
        self._find = find
        self._clock = clock
        self.noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        return PeerConnection(self._find, self._clock)
