"""One check of a media server: whether it accepts a connection, or answers an RTMP handshake too."""

from __future__ import annotations

from typing import Any, Final, Literal, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.errors import UpstreamUnavailable
from gateway.upstreams.dial import Server, connect

Kind = Literal["tcp", "rtmp"]

# Version 3, time 0, four zeros, and bytes that may be anything (the RTMP specification, 5.2).
_C0_C1: Final = b"\x03" + bytes(1536)
_S0_S1_S2_BYTES: Final = 1 + 1536 + 1536


async def probe(reactor: Any, server: Server, kind: Kind, timeout_s: float) -> None:
    """Connect to one of the addresses of the server. Raises UpstreamUnavailable or ResourcesExhausted, with
    the cause.
    """
    protocol = _Probe(reactor, kind, timeout_s)
    try:
        await connect(reactor, server, protocol, timeout_s, client=None, opens=kind == "rtmp")
    except ConnectError as error:
        raise UpstreamUnavailable(str(error)) from None
    await protocol.done


@final
class _Probe(Protocol):
    """``done`` fires when the server has done what ``kind`` asks for, or fails with UpstreamUnavailable."""

    def __init__(self, reactor: Any, kind: Kind, timeout_s: float) -> None:
        self._kind = kind
        self._reactor = reactor
        self._timeout_s = timeout_s
        self._received = 0
        self._late: Any = None
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if self._kind == "tcp":
            self._finish()
            return
        self._late = self._reactor.callLater(
            self._timeout_s, self._fail, "it does not answer the handshake in time"
        )
        transport.write(_C0_C1)

    def dataReceived(self, data: bytes) -> None:
        if not self._received and data[:1] != b"\x03":
            self._fail("its answer is not an RTMP handshake")
        self._received += len(data)
        if self._received >= _S0_S1_S2_BYTES:
            self._finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail("it closes the connection during the handshake")

    def _finish(self) -> None:
        if not self.done.called:
            self.done.callback(None)
        self._close()

    def _fail(self, cause: str) -> None:
        if not self.done.called:
            self.done.errback(UpstreamUnavailable(cause))
        self._close()

    def _close(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()
        transport: Any = self.transport
        # With a reset: a probe must leave no connection in TIME-WAIT.
        transport.abortConnection()
