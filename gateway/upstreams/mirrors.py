"""Mirrors: publish the streams of clients to further servers, which the main server never waits for.

A mirror has a connection and a queue of its own for each stream. Messages that a slow mirror cannot take
are left out, up to a keyframe. A mirror that fails is connected again after a pause, which grows each time.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, final

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError, ServiceUnavailable
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.mirroring import MirrorReader
from gateway.protocols.rtmp.publisher import Destination, Publisher
from gateway.protocols.rtmp.relay import LiveStream, Player
from gateway.transport import join_unsent

_log = Logger()

# From connecting to the server's acceptance of the publish.
_ACCEPT_S: Final = 10.0
_LEAST_PAUSE_S: Final = 1.0
_MOST_PAUSE_S: Final = 30.0
# How long the server has to take the end of the stream, and to close.
_CLOSE_S: Final = 5.0
# As in the embedded origin: the unsent writes of a transport are joined after this many.
_JOIN_WRITES: Final = 256


@frozen
class MirrorSettings:
    """``application`` and ``stream`` are patterns of the mirrored streams. ``destination``: of a stream, by
    its application and name.
    """

    name: str
    application: str
    stream: str
    destination: Callable[[str, str], Destination]

    def takes(self, application: str, stream: str) -> bool:
        """Whether the stream is mirrored."""
        return fnmatchcase(application, self.application) and fnmatchcase(stream, self.stream)


@define
class MirrorCounts:
    """The figures of one mirror: streams that it publishes now, those that wait for a connection, and the
    number of connections that failed.
    """

    publishing: int = 0
    waiting: int = 0
    failures: int = 0


@final
class Mirrors:
    """``connect(protocol, name)`` connects a protocol to a server of the mirror of that name."""

    def __init__(
        self,
        reactor: Any,
        settings: tuple[MirrorSettings, ...],
        connect: Callable[[Any, str], Awaitable[str]],
    ) -> None:
        self.reactor = reactor
        self.connect = connect
        self.memory = ServerMemory()
        self.counts: Mapping[str, MirrorCounts] = {each.name: MirrorCounts() for each in settings}
        self._settings = settings
        self._running: dict[LiveStream, list[_Mirroring]] = {}

    def reader(self) -> MirrorReader | None:
        """The reader of a new session; None if there are no mirrors."""
        if not self._settings:
            return None
        return MirrorReader(self._is_mirrored, self.memory, self._begin, self._end)

    def reload(self, settings: tuple[MirrorSettings, ...]) -> None:
        """Use these settings for streams that begin from now on. The names must be the same."""
        self._settings = settings

    def _is_mirrored(self, application: str, stream: str) -> bool:
        return any(each.takes(application, stream) for each in self._settings)

    def _begin(self, live: LiveStream, application: str, stream: str) -> None:
        self._running[live] = [
            _Mirroring(self, each.name, live, each.destination(application, stream))
            for each in self._settings
            if each.takes(application, stream)
        ]

    def _end(self, live: LiveStream) -> None:
        mirrorings = self._running.pop(live)
        live.unpublish()
        for mirroring in mirrorings:
            mirroring.end()


@final
class _Mirroring:
    """One stream at one mirror, until its publish has ended."""

    def __init__(
        self, mirrors: Mirrors, name: str, live: LiveStream, destination: Destination
    ) -> None:
        self.mirrors = mirrors
        self.counts = mirrors.counts[name]
        self.live = live
        self.destination = destination
        self._name = name
        self._pause_s = _LEAST_PAUSE_S
        self._connection: _MirrorConnection | None = None
        self._retry: Any = None
        self.has_ended = False
        self.counts.waiting += 1
        self._connect()

    def end(self) -> None:
        """The publish has ended, and the player of this mirror knows it."""
        self.has_ended = True
        if self._retry is not None:
            self._retry.cancel()
        if self._connection is None or not self._connection.is_published:
            self.counts.waiting -= 1
        if self._connection is not None:
            self._connection.close()

    def accepted(self) -> None:
        """The mirror has accepted the publish."""
        self._pause_s = _LEAST_PAUSE_S
        self.counts.waiting -= 1
        self.counts.publishing += 1
        _log.info(
            "mirror {name}: publishing {stream}", name=self._name, stream=self._stream_in_words
        )

    def lost(self, was_published: bool, cause: str) -> None:
        """The connection has ended, or could not be established."""
        self._connection = None
        if was_published:
            self.counts.publishing -= 1
        if self.has_ended:
            return
        if was_published:
            self.counts.waiting += 1
        self.counts.failures += 1
        _log.warn(
            "mirror {name}: {stream} is not published: {cause}; next try in {seconds:g} s",
            name=self._name,
            stream=self._stream_in_words,
            cause=cause,
            seconds=self._pause_s,
        )
        self._retry = self.mirrors.reactor.callLater(self._pause_s, self._connect)
        self._pause_s = min(2 * self._pause_s, _MOST_PAUSE_S)

    @property
    def _stream_in_words(self) -> str:
        """The stream's name here. Its name at the mirror can be a secret."""
        return self.live.path

    def _connect(self) -> None:
        self._retry = None
        connection = self._connection = _MirrorConnection(self)
        Deferred.fromCoroutine(self._dial(connection)).addErrback(
            lambda failure: _log.failure("a mirror failed", failure)
        )

    async def _dial(self, connection: _MirrorConnection) -> None:
        try:
            await self.mirrors.connect(connection, self._name)
        except ServiceUnavailable as error:
            self.lost(False, str(error))


@final
@implementer(IProtocol, IPushProducer)
class _MirrorConnection:
    """The connection to a mirror's server, and the ``Wire`` of its publisher."""

    def __init__(self, mirroring: _Mirroring) -> None:
        self._mirroring = mirroring
        self._reactor = mirroring.mirrors.reactor
        handshake = ClientHandshake(int(self._reactor.seconds() * 1000), os.urandom(RANDOM_BYTES))
        self._publisher = Publisher(
            *(self, mirroring.mirrors.memory, mirroring.destination, handshake, self._accepted)
        )
        self._transport: Any = None
        self._timer: Any = None
        self._cause = ""
        self._writes = 0
        self._is_closing = False
        self.is_published = False

    # Twisted calls

    def makeConnection(self, transport: Any) -> None:
        if self._mirroring.has_ended:
            transport.abortConnection()
            return
        self._transport = transport
        self._timer = self._reactor.callLater(_ACCEPT_S, self.close, "no answer to the publish")
        transport.registerProducer(self, True)
        self._publisher.begin()

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        if self._is_closing:
            return
        try:
            self._publisher.receive(data, self._reactor.seconds())
        except RTMPError as error:
            self.close(str(error))

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        self._cancel_timer()
        self._publisher.end()
        if self._publisher.player is not None:
            self._mirroring.live.players.pop(self._publisher.player, None)
        cause = self._cause or "the server has closed the connection"
        self._mirroring.lost(self.is_published, cause)

    def pauseProducing(self) -> None:
        self._publisher.hold()

    def resumeProducing(self) -> None:
        self._publisher.release()
        if self._is_closing:
            self._close_after_all()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does what there is to do."""

    # The publisher calls

    def write(self, data: bytes) -> None:
        """Part of ``Wire``."""
        if self._transport is None:
            return
        self._transport.write(data)
        self._writes += 1
        if self._writes >= _JOIN_WRITES:
            self._writes = 0
            join_unsent(self._transport)

    def _accepted(self, player: Player) -> None:
        self._cancel_timer()
        self.is_published = True
        self._mirroring.live.players[player] = None
        self._mirroring.accepted()

    # The mirroring, and the memory of all mirrors, call

    def close(self, cause: str = "") -> None:
        """Close: after pending data if the stream has ended, else at once for this cause."""
        self._cause = self._cause or cause
        self._cancel_timer()
        if self._transport is None:
            return
        if cause:
            self._transport.abortConnection()
            return
        self._is_closing = True
        self._timer = self._reactor.callLater(_CLOSE_S, self._transport.abortConnection)
        self._close_after_all()

    def _close_after_all(self) -> None:
        """Close, unless messages are still queued."""
        if not self._publisher.is_waiting:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
