"""HTTP proxies on the way to servers: CONNECT on a new connection, before TLS and everything else.

A proxy connects to the server (CONNECT) for RTMP, RTMPS and RTMPTS. The requests of RTMPT in plain HTTP are
forwarded instead (``forwarded_link``), since proxies permit CONNECT to few ports.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any, Final, Protocol, final

from attrs import frozen
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.addresses import ServerAddress
from gateway.errors import BadResponse
from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.connecting import Challenged, Connected, Connecting, Refused
from gateway.protocols.proxy_client.digest import Credentials

# RFC 7616, 5.12, advises 64 bits at least.
_CNONCE_BYTES: Final = 16


class ProxyFailed(ConnectError):
    """No connection through the proxy; the text is the cause, with the proxy's name."""

    def __init__(self, cause: str, number: int | None = None) -> None:
        super().__init__(number, cause)  # type: ignore[no-untyped-call]
        self.cause = cause

    def __str__(self) -> str:
        return self.cause


@final
class HTTPProxy:
    """A proxy, and the state of the authentication that all connections to it share."""

    def __init__(self, address: ServerAddress, credentials: Credentials | None = None) -> None:
        self.address = address
        self.name = str(address)
        self.authentication = Authentication(credentials, lambda: token_hex(_CNONCE_BYTES))


@frozen
class Passage:
    """The way through a proxy to ``authority``, a host and a port.

    ``forwards``: whether the proxy gets HTTP requests to forward, instead of CONNECT.
    """

    proxy: HTTPProxy
    authority: str
    forwards: bool

    def refusal(self, refused: Refused) -> ProxyFailed:
        """The failure of a request that the proxy has refused, or its server, if it forwards."""
        name, said = self.proxy.name, str(refused)
        if self.forwards:
            return ProxyFailed(f"proxy {name} answers to a request for {self.authority}: {said}")
        return ProxyFailed(f"proxy {name} refused CONNECT to {self.authority}: {said}")

    def failure(self, reason: Failure) -> Failure:
        """The failure of the TCP connection to the proxy."""
        text = reason.getErrorMessage().rstrip(".")
        number = getattr(reason.value, "osError", None)
        return Failure(ProxyFailed(f"proxy {self.proxy.name}: {text}", number))


class Owner(Protocol):
    """The attempt that a handshake is part of. One of these is called, at its end."""

    def passed(self, transport: Any, rest: bytes) -> None:
        """The connection leads to the server, which has sent ``rest``."""

    def challenged(self) -> None:
        """Another handshake, on a new connection, may succeed."""

    def refused(self, error: ProxyFailed) -> None: ...


@final
@implementer(IProtocol)
class ProxyHandshake:
    """The exchange with the proxy on one connection. ``is_last``: whether no other one would be made."""

    def __init__(self, passage: Passage, owner: Owner, is_last: bool) -> None:
        self._passage = passage
        self._owner = owner
        self._is_last = is_last
        self._transport: Any = None
        self._has_ended = False
        self._connecting = Connecting(passage.authority, passage.proxy.authentication, Limits())

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._connecting.request())

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        if self._has_ended:
            return
        try:
            outcome = self._connecting.receive(data)
        except BadResponse as error:
            self._refuse(f"{self._name} is not an HTTP proxy: {error}")
            return
        match outcome:
            case Connected(rest):
                self._has_ended = True
                self._owner.passed(self._transport, rest)
            case Challenged() if not self._is_last:
                self._end()
                self._owner.challenged()
            case Challenged():
                self._refuse(f"{self._name} asks for other credentials again and again")
            case Refused():
                self._refuse(str(self._passage.refusal(outcome)))

    def connectionLost(self, reason: Failure) -> None:
        if not self._has_ended:
            self._has_ended = True
            cause = f"{self._name} closes the connection without an answer to CONNECT"
            self._owner.refused(ProxyFailed(cause))

    @property
    def _name(self) -> str:
        return f"proxy {self._passage.proxy.name}"

    def _refuse(self, cause: str) -> None:
        self._end()
        self._owner.refused(ProxyFailed(cause))

    def _end(self) -> None:
        self._has_ended = True
        self._transport.abortConnection()
