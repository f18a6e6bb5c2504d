"""The beginning of a session whose route depends on its connect command.

An introduction is in the place of the upstream's transport until the server of a tunnel or relay is known:

    reading     the gateway answers the client's handshake, and reads up to the connect
    connecting  the route is selected; its server is connected, and the gateway makes the handshake there
    passing     all that the client has sent after its handshake is written to the server
    over        the tunnel or relay has the server's transport itself, as if there had been no introduction

If no server can be had, the client gets an error for its connect. A stream that is not plain RTMP, nor
RTMPE that was decrypted before, is passed to a server as it is. The client must send its connect within
``unused_session_s``, and a server must complete its handshake within ``upstream_connect_s``.

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

from gateway.errors import RTMPError, ServiceUnavailable, UpstreamUnavailable
from gateway.logs import debugging
from gateway.protocols.reasons import EndReason
from gateway.protocols.routes import Route, select
from gateway.protocols.rtmp.answers import connect_failed
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import application_of
from gateway.protocols.rtmp.connect_reader import ConnectReader
from gateway.protocols.rtmp.digest import ANSWER_RANDOM_BYTES
from gateway.protocols.rtmp.digest_handshake import DigestClientHandshake, DigestServerHandshake
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake
from gateway.tunnels.introducing import Means, Session, Target
from gateway.tunnels.server_connection import ServerAttempts, ServerConnection
from gateway.tunnels.translating_transport import TranslatingTransport
from gateway.upstreams.rtmpe_transport import HandshakeFailed

_log = Logger()

_HELD_BYTES: Final = 64 * 1024
_NO_SERVER: Final = "No media server is available."


@final
class Introduction:
    """The stand-in for the upstream's transport of ``target``, the side of ``session``.

    ``deadline``: when ``expire`` must be called. ``left`` is called once, after which there is none.
    """

    __slots__ = (
        *("_candidates", "_closed", "_holds_writes", "_left", "_means", "_paused", "_producer"),
        *("_attempts", "_reader", "_session", "_take", "_target", "_transport"),
        *("_way", "_write_ended", "deadline", "high_water_bytes"),
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
        self._candidates = candidates
        self._left = left
        self._reader = ConnectReader(
            DigestServerHandshake(
                *(self._time_ms(), means.random_bytes(RANDOM_BYTES)),
                means.random_bytes(ANSWER_RANDOM_BYTES),
            )
        )
        # What happens to the client's bytes, by state.
        self._take: Callable[[bytes], None] = self._read
        self._attempts = ServerAttempts(self._server_handshake)
        # The server's transport, and how the client's bytes reach it, while they are passed on here.
        self._transport: Any = None
        self._way: Any = None
        self._producer: Target | None = None
        self._paused = self._closed = self._write_ended = self._holds_writes = False
        self.high_water_bytes = _HELD_BYTES
        self.deadline = means.clock() + means.limits.unused_session_s

    # The router calls

    def expire(self) -> None:
        """``deadline`` has passed."""
        self.deadline = inf
        if self._attempts.current is not None:
            self._attempts.current.fail("the server has not completed its handshake in time")
        else:
            self._abandon("no connect in time")

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
        # Without a server, the target gets no more than a handshake.
        if self._transport is not None:
            self._transport.stopReading()

    def startReading(self) -> None:
        if self._transport is not None:
            self._transport.startReading()

    pauseProducing = stopReading
    resumeProducing = startReading

    def loseWriteConnection(self) -> None:
        """Nothing follows what was written. Without a connect there is no server to tell."""
        self._write_ended = True
        if self._reader.connect is None and not self._reader.opaque:
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
        reader = self._reader
        try:
            answer = reader.receive(data, self._means.clock())
        except RTMPError as error:
            self._take = self._discard
            self._means.later(partial(self._abandon, str(error)))
            return
        if answer:
            self._target.dataReceived(answer)
        if reader.opaque or reader.connect is not None:
            self.deadline = inf
            self._take = self._hold
            self._hold(b"")
            Deferred.fromCoroutine(self._join()).addErrback(self._fail)

    def _hold(self, data: bytes) -> None:
        self._reader.hold(data)
        if self._held_bytes > _HELD_BYTES:
            self._pause()

    def _pass(self, data: bytes) -> None:
        self._way.write(data)

    def _discard(self, data: bytes) -> None:
        """The session ends."""

    # The way to a server

    async def _join(self) -> None:
        connect, means = self._reader.connect, self._means
        application = None if connect is None else application_of(connect.text("app"))
        route = select(self._candidates, application)
        began = means.clock()
        upstreams = route.upstreams if route else ()
        try:
            name = await means.connect(
                *(self._attempts, self._session.address, upstreams, application or ""),
                self._await_handshake,
            )
        except ServiceUnavailable as error:
            self._refuse(error)
            return
        if self._attempts.current is not None:
            self._begin(self._attempts.current, name, route, means.clock() - began)

    async def _await_handshake(self) -> None:
        """Wait for the handshake of the server that has accepted. Raises HandshakeFailed."""
        server = self._attempts.current
        if server is None or self._closed:
            if server is not None:
                server.abort()
            raise UpstreamUnavailable("the session has ended")
        self.deadline = self._means.clock() + self._means.limits.upstream_connect_s
        cause = await server.ready
        self.deadline = inf
        if self._closed:
            raise UpstreamUnavailable("the session has ended")
        if cause:
            raise HandshakeFailed(cause)

    def _begin(
        self, server: ServerConnection, name: str, route: Route | None, seconds: float
    ) -> None:
        """The server is ready: pass to it what is held, and what it has sent to the session."""
        self._left(self)
        self._session.server = name
        if not self._has_ended:
            # Observers may hold back what is written from now on.
            self._means.telemetry.session_placed(self._session, seconds)
        self._transport = self._way = server.transport
        self._take = self._pass
        server.begin(self._target, self._finish)
        if self._holds_writes:
            self._transport.hold_writes(True)
        self._write_held(name, route)
        if server.is_full:
            self._pause()
        else:
            self._finish()
        server.deliver()

    def _write_held(self, name: str, route: Route | None) -> None:
        reader = self._reader
        if reader.connect is None or route is None or not route.rewriting:
            self._way.write(bytes(reader.received))
            return
        rewriting = reader.rewriting(route.rewritten(reader.connect.template_values(name)))
        self._way = TranslatingTransport(self._transport, rewriting, self._means.clock)
        self._way.write(reader.behind_connect)

    def _finish(self) -> None:
        """The server's transport has taken what was held: it is the target's from now on."""
        self._transport.unregisterProducer()
        self._transport.protocol = self._target
        self._target.makeConnection(self._way)
        if self._write_ended:
            self._transport.loseWriteConnection()
        if self._paused:
            self._target.resumeProducing()

    def _server_handshake(self) -> ClientHandshake | DigestClientHandshake | None:
        random_bytes, player = self._means.random_bytes, self._reader.player
        if self._reader.opaque:
            return None
        if player is None:
            return ClientHandshake(self._time_ms(), random_bytes(RANDOM_BYTES))
        return DigestClientHandshake(
            *(player, self._time_ms()),
            *(random_bytes(RANDOM_BYTES), random_bytes(ANSWER_RANDOM_BYTES)),
        )

    # Ends

    def _refuse(self, error: ServiceUnavailable) -> None:
        """There is no server: the client gets an error, and the session ends."""
        if self._closed:
            return
        if not self._has_ended:
            session = self._session
            self._means.telemetry.open_refused(error, session.address, session.ingress)
        connect = self._reader.connect
        if connect is not None:
            message = connect_failed(connect.transaction, _NO_SERVER)
            self._target.dataReceived(ChunkWriter().write(message))
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
        """End as a transport does: the target is told in the next iteration of the reactor."""
        if self._closed:
            return
        self._closed = True
        self._take = self._discard
        self._left(self)
        if self._attempts.current is not None:
            self._attempts.current.abort()
        self._means.later(partial(self._target.connectionLost, Failure(error)))

    # Parts

    @property
    def _has_ended(self) -> bool:
        """Whether the session has ended. What its client sent before can still be for a server."""
        return self._session.counted.position == "ended"

    @property
    def _held_bytes(self) -> int:
        return len(self._reader.received)

    def _pause(self) -> None:
        if not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()

    def _time_ms(self) -> int:
        return int(self._means.clock() * 1000)
