"""One check of a media server: whether it accepts a connection, or answers RTMP too."""

from __future__ import annotations

from typing import Any, Literal, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.errors import RTMPError, UpstreamUnavailable
from gateway.protocols.rtmp.server_check import ServerCheck
from gateway.upstreams.dial import Server, connect

Kind = Literal["tcp", "rtmp"]


async def probe(
    reactor: Any, server: Server, kind: Kind, timeout_s: float, application: str = ""
) -> None:
    """Connect to one of the addresses of the server. ``application``: to which a check by RTMP connects,
    after the handshake; "" for none. Raises UpstreamUnavailable or ResourcesExhausted, with the cause.
    """
    check = ServerCheck(application, server.address.url) if kind == "rtmp" else None
    protocol = _Probe(reactor, check, timeout_s)
    try:
        await connect(reactor, server, protocol, timeout_s, client=None, opens=kind == "rtmp")
    except ConnectError as error:
        raise UpstreamUnavailable(str(error)) from None
    await protocol.done


@final
class _Probe(Protocol):
    """``done`` fires when the server has done what ``check`` asks for, or fails with UpstreamUnavailable.
    Without a check, it only has to accept the connection.
    """

    def __init__(self, reactor: Any, check: ServerCheck | None, timeout_s: float) -> None:
        self._check = check
        self._reactor = reactor
        self._timeout_s = timeout_s
        self._late: Any = None
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if self._check is None:
            self._finish()
            return
        self._late = self._reactor.callLater(self._timeout_s, self._expire)
        transport.write(self._check.hello)

    def dataReceived(self, data: bytes) -> None:
        if self._check is None or self.done.called:
            return
        try:
            answer = self._check.receive(data)
        except RTMPError as error:
            self._fail(str(error))
            return
        if self._check.done:
            self._finish()
        elif answer:
            transport: Any = self.transport
            transport.write(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail(f"it closes the connection instead of answering {self._awaited}")

    @property
    def _awaited(self) -> str:
        return "" if self._check is None else self._check.awaited

    def _expire(self) -> None:
        self._fail(f"it does not answer {self._awaited} in time")

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
