"""The beginning of a session whose route depends on its connect command, or on its stream.

An introduction is in the place of the upstream's transport until the server of a tunnel or relay is known:

    reading     the gateway answers the client's handshake, and reads up to the connect; if the stream must
                be known, it answers the commands too, up to the publish or play (``stream_reader``)
    connecting  the route is selected; its server is connected, and the gateway makes the handshake there,
                and repeats the commands that it has answered (``opening_replay``)
    passing     all that the client has sent after its handshake is written to the server
    over        the tunnel or relay has the server's transport itself, as if there had been no introduction

If no server is available (``joining``), the client gets an error for the command whose answer it waits for.
A stream that is not plain RTMP, nor RTMPE that was decrypted before, is passed to a server as it is. The
client must send its connect within ``unused_session_s``; after that it may be idle, as at a server.

At most ``_HELD_BYTES`` and one write of the client are held. Then it is not read until the server is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Final, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import RTMPError, ServiceUnavailable
from gateway.logs import debugging
from gateway.protocols.reasons import EndReason
from gateway.protocols.routes import Route, needs_stream
from gateway.protocols.rtmp.digest import ANSWER_RANDOM_BYTES
from gateway.protocols.rtmp.digest_handshake import DigestServerHandshake
from gateway.protocols.rtmp.handshake import RANDOM_BYTES
from gateway.protocols.rtmp.opening import Opening
from gateway.tunnels.introducing import Means, Session, Target
from gateway.tunnels.joining import Joining
from gateway.tunnels.server_connection import ServerConnection
from gateway.tunnels.translating_transport import TranslatingReceiver, TranslatingTransport

_log = Logger()

_HELD_BYTES: Final = 64 * 1024
# Longer than a round trip, after which most clients send their next command. The others wait for this long
# before they play.
_QUIET_S: Final = 1.0
_NO_SERVER: Final = "No media server is available."


@final
class Introduction:
    """The stand-in for the upstream's transport of ``target``, the side of ``session``.

    ``left`` is called once, after which there is no deadline.
    """

    __slots__ = (
        *("_closed", "_deadline", "_has_connected", "_holds_writes", "_joining", "_left"),
        *("_means", "_opening", "_paused", "_producer", "_receiver", "_session", "_take"),
        *("_target", "_transport", "_way", "_write_ended", "high_water_bytes"),
    )

    def __init__(
        self,
        means: Means,
        target: Target,
        session: Session,
        candidates: Sequence[Route],
        left: Callable[[Introduction], None],
    ) -> None:
        self._means = means
        self._target = target
        self._session = session
        self._left = left
        self._opening = Opening(
            DigestServerHandshake(
                *(int(means.clock() * 1000), means.random_bytes(RANDOM_BYTES)),
                means.random_bytes(ANSWER_RANDOM_BYTES),
            ),
            partial(needs_stream, candidates),
        )
        self._has_connected = False
        self._joining = Joining(means, self._opening, candidates)
        # What happens to the client's bytes, by state.
        self._take: Callable[[bytes], None] = self._read
        # The server's transport, and how the client's bytes reach it, while they are passed on here.
        self._transport: Any = None
        self._way: Any = None
        self._receiver: Any = target
        self._producer: Target | None = None
        self._paused = self._closed = self._write_ended = self._holds_writes = False
        self.high_water_bytes = _HELD_BYTES
        self._deadline = means.clock() + means.limits.unused_session_s

    # The router calls

    @property
    def deadline(self) -> float:
        """When ``expire`` must be called."""
        return min(self._deadline, self._joining.deadline)

    def expire(self) -> None:
        """``deadline`` has passed."""
        if self._joining.deadline <= self._deadline:
            self._joining.expire()
            return
        self._deadline = inf
        if self._opening.connect is None:
            self._abandon("no connect in time")
        elif answer := self._opening.answer_silence():
            self._target.dataReceived(answer)

    def dismiss(self, reason: EndReason) -> None:
        """End the session."""
        self._session.dismiss(reason)

    # The target calls, as its transport

    def registerProducer(self, producer: Target, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        self._take(data)

    @property
    def unsent(self) -> int:
        return int(self._held_bytes if self._transport is None else self._transport.unsent)

    @property
    def unacknowledged(self) -> int:
        return int(self._held_bytes if self._transport is None else self._transport.unacknowledged)

    def hold_writes(self, on: bool) -> None:
        self._holds_writes = on
        if self._transport is not None:
            self._transport.hold_writes(on)

    def stopReading(self) -> None:
        # Without a server, the target gets only a handshake and the answers to a limited number of bytes.
        if self._transport is not None:
            self._transport.stopReading()

    def startReading(self) -> None:
        if self._transport is not None:
            self._transport.startReading()

    pauseProducing = stopReading
    resumeProducing = startReading

    def loseWriteConnection(self) -> None:
        """Nothing follows what was written. Without a complete opening, there is no server to notify."""
        self._write_ended = True
        if not self._opening.is_complete:
            self._close(ConnectionDone())

    def loseConnection(self) -> None:
        if self._transport is not None:
            self._transport.loseConnection()
        else:
            self._close(ConnectionDone())

    def abortConnection(self) -> None:
        if self._transport is not None:
            self._transport.abortConnection()
        else:
            self._close(ConnectionAborted())

    abort_now = abortConnection

    # The states

    def _read(self, data: bytes) -> None:
        opening = self._opening
        try:
            answer = opening.receive(data, self._means.clock())
        except RTMPError as error:
            self._take = self._discard
            self._means.later(partial(self._abandon, str(error)))
            return
        if opening.is_complete:
            self._deadline = inf
            self._take = self._hold
        elif opening.connect is not None and not self._has_connected:
            self._has_connected = True
            self._deadline = self._means.clock() + _QUIET_S
        if answer:
            self._target.dataReceived(answer)
        if opening.is_complete:
            self._hold(b"")
            Deferred.fromCoroutine(self._join()).addErrback(self._fail)

    def _hold(self, data: bytes) -> None:
        self._opening.hold(data)
        if self._held_bytes > _HELD_BYTES:
            self._pause()

    def _pass(self, data: bytes) -> None:
        self._way.write(data)

    def _discard(self, data: bytes) -> None:
        """The session ends."""

    # The way to a server

    async def _join(self) -> None:
        began = self._means.clock()
        try:
            name = await self._joining.connect(self._session.address)
        except ServiceUnavailable as error:
            self._refuse(error)
            return
        if self._joining.server is not None:
            self._begin(self._joining.server, name, self._means.clock() - began)

    def _begin(self, server: ServerConnection, name: str, seconds: float) -> None:
        """The server is ready: write the held bytes to it, and pass its bytes to the session."""
        self._left(self)
        self._session.server = name
        if not self._has_ended:
            # Observers may hold back what is written from now on.
            self._means.telemetry.session_placed(self._session, seconds)
        if self._joining.refusal is not None:
            self._target.dataReceived(self._opening.refusal(self._joining.refusal))
            self._close(ConnectionDone())
            return
        try:
            passage = self._joining.passage()
        except RTMPError as error:
            self._abandon(str(error))
            return
        self._transport = self._way = server.transport
        self._take = self._pass
        if passage.down is not None:
            self._receiver = TranslatingReceiver(
                *(self._target, passage.down, self._transport, self._means.clock),
                self._end_translation,
            )
        server.begin(self._receiver, self._finish)
        if self._holds_writes:
            self._transport.hold_writes(True)
        self._transport.write(passage.held)
        if passage.up is not None:
            self._way = TranslatingTransport(self._transport, passage.up, self._means.clock)
        if server.is_full:
            self._pause()
        else:
            self._finish()
        if passage.rest:
            self._target.dataReceived(passage.rest)
        server.deliver()

    def _finish(self) -> None:
        """The server's transport has taken what was held: it is the target's from now on."""
        self._transport.unregisterProducer()
        self._transport.protocol = self._receiver
        self._target.makeConnection(self._way)
        if self._write_ended:
            self._transport.loseWriteConnection()
        if self._paused:
            self._target.resumeProducing()

    def _end_translation(self) -> None:
        """All further bytes of the server are the target's as they are."""
        self._receiver = self._target
        if self._joining.server is not None:
            self._joining.server.pass_to(self._target)

    # Ends

    def _refuse(self, error: ServiceUnavailable) -> None:
        """There is no server: the client gets an error, and the session ends."""
        if self._closed:
            return
        if not self._has_ended:
            session = self._session
            self._means.telemetry.open_refused(error, session.address, session.ingress)
        answer = self._opening.refusal(_NO_SERVER)
        if answer:
            self._target.dataReceived(answer)
        self._close(error)

    def _abandon(self, cause: str) -> None:
        if debugging.enabled:
            _log.debug(
                "a client of {address} gets no server: {cause}",
                address=self._session.address or "this machine",
                cause=cause,
            )
        self._session.dismiss(EndReason.ABANDONED)

    def _fail(self, failure: Failure) -> None:
        _log.failure("The connection of a session to its server failed", failure)
        self._session.dismiss(EndReason.FAULT)

    def _close(self, error: Exception) -> None:
        """End as a transport does: the target is notified in the next iteration of the reactor."""
        if self._closed:
            return
        self._closed = True
        self._take = self._discard
        self._left(self)
        self._joining.cancel()
        self._means.later(partial(self._target.connectionLost, Failure(error)))

    # Parts

    @property
    def _has_ended(self) -> bool:
        """Whether the session has ended. What its client sent before can still be for a server."""
        return self._session.counted.position == "ended"

    @property
    def _held_bytes(self) -> int:
        return len(self._opening.received)

    def _pause(self) -> None:
        if not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()
