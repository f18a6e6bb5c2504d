"""TLS on a connection, between the TCP transport and the protocol inside TLS.

Offers the same methods as the transports in transport.py. Received records are decrypted and delivered in
one piece; each write becomes one write on the TCP transport, so a short answer is one TLS record in one
segment. Nothing is queued here: the engine's two memory buffers are emptied on every call, and
back-pressure is that of the TCP transport.

    event                                    effect on the protocol inside TLS
    close_notify, or end of the TCP stream   readConnectionLost if it supports half-close; else closed
    invalid data, or an alert                earlier data is delivered, then connectionLost
    renegotiation                            none: refused with an alert

An error affects no other connection. The end of the TCP stream without close_notify is treated like one
with it: HTTP and RTMP messages have their own lengths, and players omit it. The caller enforces the
deadline of the handshake; ``handshaken`` is called at its end. After a failure, the ``protocol`` that the
caller has set is notified that the connection is lost.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.wrapped_transport import WrappedTransport

# No record is longer (RFC 8446, 5.1), so one call empties one.
_RECORD_BYTES = 16 * 1024
# How often reading alone may make us answer: the refusals of renegotiations, which a peer could ask for
# faster than it takes their refusals. OpenSSL's own clients take one for an answer.
_MOST_REFUSALS = 8


class ServerConnection(ssl.SSLObject):
    """The engine of a client's connection. ``server_name``: the one it has asked for (SNI), or empty."""

    server_name = ""


class _Stream(Enum):
    """Where the peer's stream is."""

    OPEN = "open"
    ENDED = "ended"
    BROKEN = "broken"


# Makes the engine that reads from the first buffer and writes to the second.
Engine = Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]


def of_server(context: ssl.SSLContext) -> Engine:
    """The engines of accepted connections."""
    return partial(context.wrap_bio, server_side=True)


@implementer(IProtocol, IHalfCloseableProtocol)
class TLSConnection(WrappedTransport):
    """``handshaken`` is called once, with this as the transport, and sets ``protocol``."""

    __slots__ = (
        "_closing",
        "_deaf",
        "_fault",
        "_handshaken",
        "_incoming",
        "_lost",
        "_outgoing",
        "_refusals",
        "_tls",
        "protocol",
    )

    def __init__(self, make_engine: Engine, handshaken: Callable[[TLSConnection], None]) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = make_engine(self._incoming, self._outgoing)
        self._handshaken: Callable[[TLSConnection], None] | None = handshaken
        self._transport: Any = None
        self._refusals = 0
        # What comes after the end is not kept: the engine would not read it.
        self._deaf = False
        self._closing = False
        self._lost: Failure | None = None
        # The engine's error after the handshake.
        self._fault: ssl.SSLError | None = None
        self.protocol: Any = None

    # The transport below calls

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._deaf:
            return
        self._incoming.write(data)
        if self._handshaken is None or self._shake_hands():
            self._hand_up()

    def readConnectionLost(self) -> None:
        self._end_reading()

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol; the protocol above asked for it."""

    def connectionLost(self, reason: Failure) -> None:
        self._deaf = self._closing = True
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(self._lost or reason)

    # Called by the protocol inside TLS

    @property
    def version(self) -> str:
        """``TLSv1.2`` or ``TLSv1.3``."""
        return self._tls.version() or ""

    @property
    def peer_certificate(self) -> bytes:
        """The peer's certificate in DER; empty if it has none."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def server_name(self) -> str:
        """The name of the server that the client has asked for (SNI), or empty."""
        return self._tls.server_name if isinstance(self._tls, ServerConnection) else ""

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

    # The engine

    def _shake_hands(self) -> bool:
        """Whether the handshake is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._break_off(error)
            return False
        self._flush()
        handshaken, self._handshaken = self._handshaken, None
        if handshaken is not None:
            handshaken(self)
        return True

    def _hand_up(self) -> None:
        pieces, stream = self._decrypt()
        if self._outgoing.pending:
            self._refusals += 1
            self._flush()
        # A failed engine accepts no more data.
        self._closing = self._closing or stream is _Stream.BROKEN
        if pieces:
            self.protocol.dataReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if stream is _Stream.ENDED:
            self._end_reading()
        elif stream is _Stream.BROKEN or self._refusals > _MOST_REFUSALS:
            self._break_off(ConnectionLost("not TLS any more"))

    def _decrypt(self) -> tuple[list[bytes], _Stream]:
        """Decrypt the received records. Returns the data, and the state of the peer's stream."""
        pieces: list[bytes] = []
        try:
            # Stop at the end of a record, because an exception costs more.
            while self._incoming.pending:
                piece = self._tls.read(_RECORD_BYTES)
                if not piece:
                    return pieces, _Stream.ENDED
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return pieces, _Stream.ENDED
        except ssl.SSLError as error:
            self._fault = error
            return pieces, _Stream.BROKEN
        return pieces, _Stream.OPEN

    def _end_reading(self) -> None:
        """The peer has ended its stream."""
        if self._deaf:
            return
        self._deaf = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._say_goodbye()
            self._close(ConnectionDone())

    def _break_off(self, cause: Exception) -> None:
        """Close after an error, and send an alert if the write buffer has room."""
        self._deaf = self._closing = True
        self._flush()
        self._close(cause)

    def _close(self, cause: Exception) -> None:
        """Close without waiting for the peer to read; the protocol is notified of ``cause``."""
        self._lost = Failure(cause)
        self._close_without_waiting()

    def _say_goodbye(self) -> None:
        if self._closing or self._handshaken is not None:
            return
        self._closing = True
        # The peer's close_notify is optional.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
