"""A server's transport, and the receiver of its data, for a session whose bytes are translated
(``protocols/rtmp/translations``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import RTMPError
from gateway.protocols.rtmp.translations import Translation
from gateway.wrapped_transport import WrappedTransport


@final
class TranslatingTransport(WrappedTransport):
    """``write`` becomes the transport's own once no more translation is required."""

    def __init__(
        self, transport: Any, translation: Translation, clock: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._translation = translation
        self._clock = clock
        self.write: Callable[[bytes], None] = self._translate

    def _translate(self, data: bytes) -> None:
        try:
            translated = self._translation.translate(data, self._clock())
        except RTMPError:
            # Malformed, or over the limits of ``ChunkScanner``.
            self._transport.abortConnection()
            return
        if self._translation.done:
            self.write = self._transport.write
        if translated:
            self._transport.write(translated)


class Receiver(Protocol):
    """The session's side, as Twisted calls it."""

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...


@final
@implementer(IProtocol)
class TranslatingReceiver:
    """Twisted's protocol of a server's connection, until no more translation is required: ``finished`` is
    called then. ``transport`` is aborted if the server's bytes cannot be translated.
    """

    def __init__(
        self,
        receiver: Receiver,
        translation: Translation,
        transport: Any,
        clock: Callable[[], float],
        finished: Callable[[], None],
    ) -> None:
        self._receiver = receiver
        self._translation = translation
        self._transport = transport
        self._clock = clock
        self._finished = finished

    def makeConnection(self, transport: Any) -> None:
        """Part of IProtocol; the connection is made already."""

    def connectionMade(self) -> None:
        """Part of IProtocol; the connection is made already."""

    def dataReceived(self, data: bytes) -> None:
        try:
            translated = self._translation.translate(data, self._clock())
        except RTMPError:
            # Malformed, or over the limits of ``ChunkScanner``.
            self._transport.abortConnection()
            return
        if self._translation.done:
            self._finished()
        if translated:
            self._receiver.dataReceived(translated)

    def connectionLost(self, reason: Failure) -> None:
        self._receiver.connectionLost(reason)
