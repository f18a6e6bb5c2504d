"""TLS on an accepted connection: to the transport below it is the protocol, to the protocol above it is
the transport, with the same methods as ``transport.EagerServer``.

What arrives is decrypted as far as it goes and handed up joined; what is written becomes one write below,
so a short answer is one TLS record in one segment. Nothing is queued here: the engine's two memory buffers
are emptied at each turn, and back-pressure is the transport's below.

A peer that breaks off, sends garbage or wants to renegotiate (which the contexts forbid) costs its own
connection. The deadline of the handshake is its owner's, who is told by ``handshaken``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, final

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

# No record is longer (RFC 8446, 5.1), so one call empties one.
_RECORD_BYTES = 16 * 1024


@final
@implementer(IProtocol)
class TLSConnection:
    """``handshaken`` is called once, with this as the transport, and sets ``protocol``."""

    __slots__ = (
        "_closing",
        "_handshaken",
        "_incoming",
        "_outgoing",
        "_tls",
        "_transport",
        "protocol",
    )

    def __init__(
        self, context: ssl.SSLContext, handshaken: Callable[[TLSConnection], None]
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._handshaken: Callable[[TLSConnection], None] | None = handshaken
        self._transport: Any = None
        self._closing = False
        self.protocol: Any = None

    # The transport below calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done what there is to do."""

    def dataReceived(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if self._handshaken is not None and not self._shake_hands():
                return
            self._hand_up()
        except ssl.SSLError:
            # An alert may be waiting to be sent; the peer learns from it what it did wrong.
            self._flush()
            self._transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        if self.protocol is not None:
            self.protocol.connectionLost(reason)

    # The protocol above calls

    @property
    def version(self) -> str:
        """``TLSv1.2`` or ``TLSv1.3``."""
        return self._tls.version() or ""

    @property
    def high_water_bytes(self) -> int:
        return int(self._transport.high_water_bytes)

    @high_water_bytes.setter
    def high_water_bytes(self, value: int) -> None:
        self._transport.high_water_bytes = value

    def write(self, data: bytes) -> None:
        if self._closing or not data:
            return
        self._tls.write(data)
        self._flush()

    def write_two(self, first: bytes, second: bytes) -> None:
        self.write(first + second)

    def loseConnection(self) -> None:
        self._say_goodbye()
        self._transport.loseConnection()

    def loseWriteConnection(self) -> None:
        self._say_goodbye()
        self._transport.loseWriteConnection()

    def __getattr__(self, name: str) -> Any:
        # All else a protocol asks of its transport is the same with and without TLS.
        return getattr(self._transport, name)

    # The engine

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        handshaken, self._handshaken = self._handshaken, None
        if handshaken is not None:
            handshaken(self)
        return True

    def _hand_up(self) -> None:
        pieces, ended = self._decrypt()
        if pieces:
            self.protocol.dataReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self._flush()
        if ended:
            self.loseConnection()

    def _decrypt(self) -> tuple[list[bytes], bool]:
        """What has come, and whether the peer says that it is all."""
        pieces: list[bytes] = []
        try:
            # At the end of a record there is no need to be told so by an exception, which costs more.
            while self._incoming.pending:
                piece = self._tls.read(_RECORD_BYTES)
                if not piece:
                    return pieces, True
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return pieces, True
        return pieces, False

    def _say_goodbye(self) -> None:
        if self._closing or self._handshaken is not None:
            return
        self._closing = True
        # The peer has not said goodbye yet, and need not.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
