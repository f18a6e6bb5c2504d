"""One attempt to connect to an IP address: TCP, an HTTP proxy's CONNECT, a header in front of everything,
and TLS.

    TCP connects       CONNECT is sent, if there is a proxy that connects to the server
    it is accepted     the header is sent, then the TLS handshake begins; without TLS, the attempt succeeds
    it is challenged   the same once more, on a new connection, with other credentials
    handshake ends     the attempt succeeds: the protocol gets its transport

All have one deadline. The protocol is not notified of an attempt that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.connecting import MOST_ATTEMPTS
from gateway.tls import TLSConnection
from gateway.upstreams.connector import EagerConnector
from gateway.upstreams.http_proxy import Passage, ProxyFailed, ProxyHandshake
from gateway.upstreams.race import Stage
from gateway.upstreams.tls_client import ServerTLS, TLSFailed, failure_of

VANISHED_S = Limits().vanished_s


@frozen
class Settings:
    """``timeout_s``: for the attempt. ``vanished_s``: an established connection is lost if the server
    acknowledges nothing for that long. ``header``: sent before everything else. ``tls``: None without TLS.
    ``source_address``: an address of this machine; empty if the system chooses it. ``passage``: through the
    HTTP proxy that is connected to, if there is one.
    """

    port: int
    timeout_s: float
    vanished_s: float = VANISHED_S
    header: bytes = b""
    tls: ServerTLS | None = None
    source_address: str = ""
    passage: Passage | None = None


@final
class _Announced:
    """Sends ``header`` before the protocol is connected."""

    def __init__(self, protocol: Any, header: bytes) -> None:
        self._protocol = protocol
        self._header = header

    def makeConnection(self, transport: Any) -> None:
        transport.protocol = self._protocol
        transport.write(self._header)
        self._protocol.makeConnection(transport)


@final
class Attempt(ClientFactory):
    """``done`` fires when the attempt has succeeded, or fails with Twisted's ConnectError or a subclass.

    ``won`` is called before that, when the protocol is about to get its transport. ``lost`` is called when
    a connection has ended whose attempt had succeeded.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        protocol: Any,
        settings: Settings,
        lost: Callable[[], object] = lambda: None,
        won: Callable[[], object] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._settings = settings
        self._lost = lost
        self._won = won
        self._connector: Any = None
        self._host = ""
        self._deadline = 0.0
        # The deadline's timer after TCP has connected, and the failure if it expires.
        self._late: Any = None
        self._lateness: Exception | None = None
        # With the proxy, each on a separate connection.
        self._handshakes = 0
        self._is_decided = False
        self.stage = Stage.CONNECT
        self.done: Deferred[None] = Deferred()

    def connect(self, host: str) -> None:
        """Begin. Must be called once."""
        self._host = host
        self._deadline = self._reactor.seconds() + self._settings.timeout_s
        self._connect()

    def cancel(self) -> Deferred[None]:
        """Give up an attempt that has not succeeded; ``done`` does not fire. The result has fired."""
        self._decide()
        self._give_up()
        return succeed(None)

    # Twisted's connector calls

    def buildProtocol(self, addr: object) -> Any:
        passage = self._settings.passage
        if passage is None or passage.forwards:
            return self._beyond_proxy()
        name = passage.proxy.name
        self._limit_time(ProxyFailed(f"proxy {name} does not answer to CONNECT in time"))
        self._handshakes += 1
        is_last = self._handshakes == MOST_ATTEMPTS
        return ProxyHandshake(passage, self, is_last)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        passage = self._settings.passage
        self._fail(reason if passage is None else passage.failure(reason))

    # The handshake with the proxy calls

    def passed(self, transport: Any, rest: bytes) -> None:
        protocol = self._beyond_proxy()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            transport.protocol.dataReceived(rest)

    def challenged(self) -> None:
        # An attempt that was decided in the meantime has been cancelled, or is late.
        if not self._is_decided:
            self._connect()

    def refused(self, error: ProxyFailed) -> None:
        self._fail(Failure(error))

    # The TLS connection calls, in place of the protocol during the handshake

    def _handshaken(self, tls: TLSConnection) -> None:
        self._succeed()
        tls.protocol = self._protocol
        self._protocol.makeConnection(tls)

    def connectionLost(self, reason: Failure) -> None:
        self._fail(Failure(failure_of(reason.value)))

    # Internal

    def _connect(self) -> None:
        settings = self._settings
        connector = self._connector = EagerConnector(
            self._host, settings.port, self, self._left_s, None, self._reactor
        )
        connector.vanished_s = settings.vanished_s
        connector.source_address = settings.source_address
        connector.connect()

    @property
    def _left_s(self) -> float:
        return max(0.0, self._deadline - float(self._reactor.seconds()))

    def _beyond_proxy(self) -> Any:
        """The protocol of a connection to the server."""
        settings = self._settings
        if settings.tls is None:
            self._succeed()
            return self._behind_header(self._protocol)
        self._limit_time(TLSFailed("it does not complete the TLS handshake in time"))
        self.stage = Stage.TLS
        tls = settings.tls.connection(self._handshaken)
        tls.protocol = self
        return self._behind_header(tls)

    def _limit_time(self, lateness: Exception) -> None:
        self._lateness = lateness
        if self._late is None:
            self._late = self._reactor.callLater(self._left_s, self._expire)

    def _behind_header(self, protocol: Any) -> Any:
        header = self._settings.header
        return _Announced(protocol, header) if header else protocol

    def _succeed(self) -> None:
        self._decide()
        self._connector.release(self._lost)
        self._won()
        # The protocol gets its transport when this has returned.
        self._reactor.callLater(0, self.done.callback, None)

    def _fail(self, reason: Failure) -> None:
        if not self._is_decided:
            self._decide()
            self.done.errback(reason)

    def _decide(self) -> None:
        self._is_decided = True
        if self._late is not None and self._late.active():
            self._late.cancel()

    def _expire(self) -> None:
        self._fail(Failure(self._lateness))
        self._give_up()

    def _give_up(self) -> None:
        if self._connector.state == "connecting":
            self._connector.stopConnecting()
        elif self._connector.state == "connected":
            self._connector.transport.abortConnection()


def dial(
    reactor: Any,
    host: str,
    port: int,
    protocol: IProtocol,
    timeout_s: float,
    vanished_s: float = VANISHED_S,
) -> Deferred[None]:
    """Connect ``protocol`` to an IP address, without header and TLS. Fails as ``Attempt.done`` does."""
    attempt = Attempt(reactor, protocol, Settings(port, timeout_s, vanished_s))
    attempt.connect(host)
    return attempt.done
