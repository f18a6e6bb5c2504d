"""A connection to a server until the session takes it over: the gateway makes the handshake, and can replay
the client's opening.

Twisted's protocol of the connection until then, and the producer of what is written. Data that the server
sends behind its handshake is passed on from the moment that the session has its server.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError


class ClientHandshake(Protocol):
    """The client's side of a handshake."""

    hello: bytes
    rest: bytes
    done: bool

    def receive(self, data: bytes) -> bytes: ...


class Replay(Protocol):
    """The client's commands that the gateway repeats to a server (``protocols/rtmp/opening_replay``)."""

    @property
    def done(self) -> bool: ...

    def begin(self, now: float) -> bytes: ...

    def receive(self, data: bytes, now: float) -> bytes: ...


class Receiver(Protocol):
    """The session's side, as Twisted calls it."""

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...


@final
@implementer(IProtocol, IPushProducer)
class ServerConnection:
    """``handshake`` is None if the client makes it. ``ready`` fires once, with an empty text when the
    handshake is done, or with the cause of its failure; after ``replay``, it is that of the replay.

    ``is_full``: whether the transport's write buffer is full, after ``begin``.
    """

    __slots__ = (
        *("_clock", "_drained", "_handshake", "_lost", "_receiver", "_replay", "_rest"),
        *("is_full", "ready", "transport"),
    )

    def __init__(self, handshake: ClientHandshake | None) -> None:
        self._handshake = handshake
        self._receiver: Receiver | None = None
        self._replay: Replay | None = None
        self._clock: Callable[[], float] = float
        self._drained: Callable[[], None] = _ignore
        # What the server has sent before ``begin``, and the loss of its connection.
        self._rest = b""
        self._lost: Failure | None = None
        self.ready: Deferred[str] = Deferred()
        self.transport: Any = None
        self.is_full = False

    # The transport calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        if self._handshake is None:
            self.ready.callback("")
        else:
            transport.write(self._handshake.hello)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.dataReceived(data)
        elif self.ready.called or self._handshake is None:
            self._rest += data
        elif self._replay is not None:
            self._send_part(partial(self._replay.receive, data))
        else:
            self._shake_hands(self._handshake, data)

    def connectionLost(self, reason: Failure) -> None:
        self._lost = reason
        if self._receiver is not None:
            self._receiver.connectionLost(reason)
        else:
            self.fail(f"the server has closed the connection {self._stage}")

    def pauseProducing(self) -> None:
        self.is_full = True

    def resumeProducing(self) -> None:
        self.is_full = False
        self._drained()

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``connectionLost`` does the work."""

    # The session's side calls

    def replay(self, replay: Replay, clock: Callable[[], float]) -> None:
        """Repeat the client's commands to the server. The handshake must be done."""
        self._replay, self._clock = replay, clock
        self.ready = Deferred()
        self._send_part(replay.begin)
        rest, self._rest = self._rest, b""
        if rest:
            self.dataReceived(rest)
        if self._lost is not None:
            self.connectionLost(self._lost)

    def begin(self, receiver: Receiver, drained: Callable[[], None]) -> None:
        """Pass what the server sends to ``receiver`` from now on. The handshake must be done.

        ``drained`` is called when a full write buffer has drained.
        """
        self._receiver, self._drained = receiver, drained
        self.transport.registerProducer(self, True)

    def pass_to(self, receiver: Receiver) -> None:
        """Pass what the server sends to another receiver, which becomes the transport's protocol."""
        self._receiver = self.transport.protocol = receiver

    def deliver(self) -> None:
        """Pass to the receiver what the server sent before ``begin``, and the loss of its connection."""
        rest, self._rest = self._rest, b""
        if self._receiver is None:
            return
        if rest:
            self._receiver.dataReceived(rest)
        if self._lost is not None:
            self._receiver.connectionLost(self._lost)

    def fail(self, cause: str) -> None:
        """Give up, unless the handshake is done."""
        if not self.ready.called:
            self.ready.callback(cause)
            self.abort()

    def abort(self) -> None:
        """Abort the connection."""
        if self.transport is not None:
            self.transport.abortConnection()

    @property
    def _stage(self) -> str:
        return "in the handshake" if self._replay is None else "instead of answering the connect"

    def _send_part(self, next_part: Callable[[float], bytes]) -> None:
        """Send the next part of the replay."""
        try:
            part = next_part(self._clock())
        except RTMPError as error:
            self.fail(f"the client's opening cannot be repeated to the server: {error}")
            return
        if part:
            self.transport.write(part)
        if self._replay is not None and self._replay.done:
            self.ready.callback("")

    def _shake_hands(self, handshake: ClientHandshake, data: bytes) -> None:
        try:
            answer = handshake.receive(data)
        except RTMPError as error:
            self.fail(f"the server's answer is no handshake: {error}")
            return
        if answer:
            self.transport.write(answer)
        if handshake.done:
            self._rest = handshake.rest
            self.ready.callback("")


@final
@implementer(IProtocol)
class ServerAttempts:
    """Twisted's protocol for one server after the other, until one is ready. ``current``: the connection to
    the last one that has accepted.
    """

    def __init__(self, handshake: Callable[[], ClientHandshake | None]) -> None:
        self._handshake = handshake
        self.current: ServerConnection | None = None

    def makeConnection(self, transport: Any) -> None:
        self.current = ServerConnection(self._handshake())
        transport.protocol = self.current
        self.current.makeConnection(transport)

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    # Called by transports that keep the protocol that they were given.

    def dataReceived(self, data: bytes) -> None:
        if self.current is not None:
            self.current.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        if self.current is not None:
            self.current.connectionLost(reason)


def _ignore() -> None:
    """The ``drained`` of a connection before ``begin``."""
