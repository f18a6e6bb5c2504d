"""Connects to servers: one attempt at an address, and the resolution of names.

Names are resolved at startup and every minute, in the reactor's threads, and never while a client waits, so
that a slow resolver does not delay sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EADDRNOTAVAIL
from typing import Any, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.addresses import ServerAddress
from gateway.descriptors import CAUSES
from gateway.errors import ConfigurationError, ResourcesExhausted
from gateway.logs import repeated
from gateway.protocols.limits import Limits
from gateway.protocols.proxy_header import proxy_header
from gateway.transport import EagerConnector

VANISHED_S = Limits().vanished_s

_log = Logger()


@final
class Server:
    """A server and the addresses of its name at the last resolution.

    ``role``: the name of its table in the configuration. ``proxy_protocol``: the header that it expects,
    "off", "v1" or "v2".
    """

    def __init__(
        self, address: ServerAddress, role: str = "upstream", proxy_protocol: str = "off"
    ) -> None:
        self.address = address
        self.name = str(address)
        self.role = role
        self.proxy_protocol = proxy_protocol
        self._hosts: list[str] = []
        # The addresses with a successful connect since the last resolution.
        self._reached: set[str] = set()
        self._turn = 0

    async def look_up(self, reactor: Any) -> None:
        """Resolve the server's name. Raises ConfigurationError if it has no addresses.

        Known addresses then stay in use, because the resolver may fail temporarily.
        """
        hosts = await _addresses_of(reactor, self.address.host)
        if not hosts:
            raise ConfigurationError(
                f"{self.role} {self.name}: the name {self.address.host!r} is unknown; "
                "check its spelling and this machine's resolver"
            )
        self._hosts = hosts
        self._reached.intersection_update(hosts)

    @property
    def hosts(self) -> list[str]:
        """All of the server's addresses."""
        return list(self._hosts)

    def next_host(self) -> str:
        """The next of the server's addresses, in turn."""
        self._turn += 1
        return self._hosts[self._turn % len(self._hosts)]

    def header(self, host: str, client: str) -> bytes:
        """What a connection to ``host`` begins with, for the client at that IP address, or empty."""
        if self.proxy_protocol == "off":
            return b""
        return proxy_header(int(self.proxy_protocol[1:]), client, host, self.address.port)

    def note_reached(self, host: str) -> None:
        """A connect to ``host`` has succeeded."""
        self._reached.add(host)

    def has_reached(self, host: str) -> bool:
        """Whether a connect to ``host`` has succeeded."""
        return host in self._reached


def exhausted(error: ConnectError, server: Server, host: str) -> ResourcesExhausted | None:
    """The exhausted local resource that caused ``error``; None if the server caused it.

    EADDRNOTAVAIL means exhausted ports only if ``host`` was reached before; else the address family may be
    disabled.
    """
    number = error.osError
    if number not in CAUSES or (number == EADDRNOTAVAIL and not server.has_reached(host)):
        return None
    cause, _, advice = CAUSES[number].partition("; ")
    return ResourcesExhausted(cause, advice)


def warn_exhausted(error: ResourcesExhausted, server: Server) -> None:
    """Log a warning once a minute."""
    repeated.warn(
        _log,
        str(error),
        "no connection to {role} {server}: {error}; {advice}",
        role=server.role,
        server=server.name,
        error=error,
        advice=error.advice,
    )


class _Resolution:
    """Twisted's IResolutionReceiver: collects the addresses of a name."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: object) -> None:
        """Nothing to do: a resolution is never cancelled."""

    def addressResolved(self, address: Any) -> None:
        if address.host not in self.hosts:
            self.hosts.append(address.host)

    def resolutionComplete(self) -> None:
        self.done.callback(self.hosts)


async def _addresses_of(reactor: Any, host: str) -> list[str]:
    receiver = _Resolution()
    reactor.nameResolver.resolveHostName(receiver, host)
    return await receiver.done


@final
class _Announced:
    """Sends ``header`` before the protocol learns of its connection."""

    def __init__(self, protocol: Any, header: bytes) -> None:
        self._protocol = protocol
        self._header = header

    def makeConnection(self, transport: Any) -> None:
        transport.protocol = self._protocol
        transport.write(self._header)
        self._protocol.makeConnection(transport)


@final
class _Attempt(ClientFactory):
    """Twisted's client factory for one attempt. ``done`` fires when it has succeeded or failed."""

    noisy = False

    def __init__(
        self, protocol: IProtocol, reactor: Any, header: bytes, lost: Callable[[], object]
    ) -> None:
        self._protocol = protocol
        self._reactor = reactor
        self._header = header
        self._lost = lost
        self.done: Deferred[None] = Deferred()

    def buildProtocol(self, addr: object) -> Any:
        # Twisted calls the protocol's makeConnection after this has returned.
        self._reactor.callLater(0, self.done.callback, None)
        return _Announced(self._protocol, self._header) if self._header else self._protocol

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.done.errback(reason)

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        self._lost()


def dial(
    reactor: Any,
    host: str,
    port: int,
    protocol: IProtocol,
    timeout_s: float,
    vanished_s: float = VANISHED_S,
    header: bytes = b"",
    lost: Callable[[], object] = lambda: None,
) -> Deferred[None]:
    """Connect ``protocol`` to an IP address. Fails with Twisted's ConnectError or a subclass.

    The connection is lost if the server acknowledges nothing for ``vanished_s``. ``header`` is sent before
    everything else. ``lost`` is called when an established connection has ended.
    """
    attempt = _Attempt(protocol, reactor, header, lost)
    connector = EagerConnector(host, port, attempt, timeout_s, None, reactor)
    connector.vanished_s = vanished_s
    connector.connect()
    return attempt.done
