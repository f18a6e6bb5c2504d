"""Mirrors: publish the streams of clients to further servers, which the main server never waits for.

A mirror has a separate connection and queue for each stream. Messages that a slow mirror cannot take are
left out, up to a keyframe. A mirror that fails is connected again after a pause, which grows each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Final, final

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gateway.errors import ServiceUnavailable
from gateway.protocols.limits import Limits
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.mirror_states import SHOWN_STREAMS, MirroredStream, MirrorState
from gateway.protocols.rtmp.mirroring import MirrorReader
from gateway.protocols.rtmp.publisher import Destination
from gateway.protocols.rtmp.relay import LiveStream
from gateway.upstreams.mirror_connection import MirrorConnection

_log = Logger()

_LEAST_PAUSE_S: Final = 1.0
_MOST_PAUSE_S: Final = 30.0
_SHOWN_ENDED: Final = 20


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
    """The figures of one mirror: streams that it publishes now, those that wait for a connection, the
    number of connections that failed, and that of messages which ended connections have left out.
    """

    publishing: int = 0
    waiting: int = 0
    failures: int = 0
    left_out: int = 0


@final
class Mirrors:
    """``connect(protocol, name)`` connects a protocol to a server of the mirror of that name. A server that
    does not read for ``stalled_s`` is disconnected.
    """

    def __init__(
        self,
        reactor: Any,
        settings: tuple[MirrorSettings, ...],
        connect: Callable[[Any, str], Awaitable[str]],
        stalled_s: float = Limits().stalled_write_s,
    ) -> None:
        self.reactor = reactor
        self.connect = connect
        self.memory = ServerMemory()
        self.counts: Mapping[str, MirrorCounts] = {each.name: MirrorCounts() for each in settings}
        self._settings = settings
        self._stalled_s = stalled_s
        self._running: dict[LiveStream, list[_Mirroring]] = {}
        self._ended: deque[tuple[str, MirroredStream]] = deque(maxlen=_SHOWN_ENDED)

    def reader(self) -> MirrorReader | None:
        """The reader of a new session; None if there are no mirrors."""
        if not self._settings:
            return None
        return MirrorReader(self._is_mirrored, self.memory, self._begin, self._end)

    def reload(self, settings: tuple[MirrorSettings, ...]) -> None:
        """Use these settings for streams that begin from now on. The names must be the same."""
        self._settings = settings

    def sweep(self, now: float) -> None:
        """Abort connections whose servers do not read. Must be called every few seconds."""
        for mirrorings in self._running.values():
            for mirroring in mirrorings:
                mirroring.sweep(now, self._stalled_s)

    def states(self) -> list[MirrorState]:
        """The mirrors with their streams, and those that ended last."""
        now = self.reactor.seconds()
        current: dict[str, list[_Mirroring]] = {name: [] for name in self.counts}
        for mirrorings in self._running.values():
            for mirroring in mirrorings:
                current[mirroring.name].append(mirroring)
        return [
            MirrorState(
                *(name, counts.publishing, counts.waiting, counts.failures),
                counts.left_out + sum(each.left_out for each in current[name]),
                sum(each.queued_bytes for each in current[name]),
                [
                    *(each.state(now) for each in islice(current[name], SHOWN_STREAMS)),
                    *(stream for mirror, stream in self._ended if mirror == name),
                ],
            )
            for name, counts in self.counts.items()
        ]

    def note_ended(self, mirroring: _Mirroring) -> None:
        """A stream's publish has ended, and so has its connection, if it had one."""
        state = mirroring.state(self.reactor.seconds())
        self._ended.append((mirroring.name, state))

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
        self.name = name
        self._pause_s = _LEAST_PAUSE_S
        self._connection: MirrorConnection | None = None
        self._retry: Any = None
        self._server = self._last_error = ""
        self._failures = self._left_out = 0
        self._since = mirrors.reactor.seconds()
        self.has_ended = False
        self.counts.waiting += 1
        self._connect()

    def end(self) -> None:
        """The publish has ended, and the player of this mirror knows it."""
        self.has_ended = True
        self._since = self.mirrors.reactor.seconds()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connection is None or not self._connection.is_published:
            self.counts.waiting -= 1
        if self._connection is not None:
            self._connection.close()
        else:
            self.mirrors.note_ended(self)

    def accepted(self) -> None:
        """The mirror has accepted the publish."""
        self._pause_s = _LEAST_PAUSE_S
        self._since = self.mirrors.reactor.seconds()
        self.counts.waiting -= 1
        self.counts.publishing += 1
        _log.info(
            "mirror {name}: publishing {stream}", name=self.name, stream=self._stream_in_words
        )

    def lost(self, was_published: bool, cause: str) -> None:
        """The connection has ended, or could not be established."""
        if self._connection is not None:
            self._left_out += self._connection.left_out
            self.counts.left_out += self._connection.left_out
        self._connection = None
        self._since = self.mirrors.reactor.seconds()
        if was_published:
            self.counts.publishing -= 1
        if self.has_ended:
            self.mirrors.note_ended(self)
            return
        if was_published:
            self.counts.waiting += 1
        self.counts.failures += 1
        self._failures += 1
        cause = self._last_error = self._without_key(cause)
        _log.warn(
            "mirror {name}: {stream} is not published: {cause}; next try in {seconds:g} s",
            name=self.name,
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

    def _without_key(self, cause: str) -> str:
        """``cause``, which may be a text of the server, without the stream's name there, unless that is its
        name here. Servers can name a stream without its query.
        """
        there = self.destination.stream
        if self.live.path.endswith(f"/{there}"):
            return cause
        for secret in filter(None, (there, there.partition("?")[0])):
            cause = cause.replace(secret, "(its stream key)")
        return cause

    @property
    def queued_bytes(self) -> int:
        """The size of the messages that wait for the server."""
        return 0 if self._connection is None else self._connection.queued_bytes

    @property
    def left_out(self) -> int:
        """How many messages the present connection has left out."""
        return 0 if self._connection is None else self._connection.left_out

    def sweep(self, now: float, stalled_s: float) -> None:
        """Abort the connection if the server does not read."""
        if self._connection is not None:
            self._connection.sweep(now, stalled_s)

    def state(self, now: float) -> MirroredStream:
        """Its state and figures."""
        connection = self._connection
        if self.has_ended:
            state = "ended" if connection is None else "ending"
        elif connection is None:
            state = "waiting"
        else:
            state = "publishing" if connection.is_published else "connecting"
        return MirroredStream(
            *(self.live.path, state, now - self._since, self._server),
            *(self.queued_bytes, self._left_out + self.left_out, self._failures),
            self._last_error,
            0.0 if self._retry is None else max(0.0, self._retry.getTime() - now),
        )

    def _connect(self) -> None:
        self._retry = None
        self._since = self.mirrors.reactor.seconds()
        mirrors = self.mirrors
        connection = self._connection = MirrorConnection(mirrors.reactor, mirrors.memory, self)
        Deferred.fromCoroutine(self._dial(connection)).addErrback(
            lambda failure: _log.failure("a mirror failed", failure)
        )

    async def _dial(self, connection: MirrorConnection) -> None:
        try:
            self._server = await self.mirrors.connect(connection, self.name)
        except ServiceUnavailable as error:
            self.lost(False, str(error))
