"""One connection to one server: the name looked up beforehand, the attempt bounded in time.

Names are looked up when the gateway starts and again every minute, never while a client waits: a slow
resolver must not hold up an open, and the look-up itself runs in the reactor's threads.
"""

from __future__ import annotations

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
from gateway.transport import EagerConnector

VANISHED_S = Limits().vanished_s

_log = Logger()


@final
class Server:
    """A server and the addresses its name stood for when it was last looked up.

    ``role`` is what the operator's file calls its place.
    """

    def __init__(self, address: ServerAddress, role: str = "upstream") -> None:
        self.address = address
        self.name = str(address)
        self.role = role
        self._hosts: list[str] = []
        # Those that took a connection since they were last looked up.
        self._reached: set[str] = set()
        self._turn = 0

    async def look_up(self, reactor: Any) -> None:
        """Learn the server's addresses. Raises ConfigurationError when the name has none.

        Addresses learnt earlier are kept then: a resolver's bad minute is no reason to stop.
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

    def note_reached(self, host: str) -> None:
        """``host`` has taken a connection."""
        self._reached.add(host)

    def has_reached(self, host: str) -> bool:
        """Whether ``host`` has taken a connection."""
        return host in self._reached


def exhausted(error: ConnectError, server: Server, host: str) -> ResourcesExhausted | None:
    """What of our own is used up, if that is why ``host`` was not connected to; else it is the server's.

    A local address that was never there (IPv6 switched off) is no port that is used up.
    """
    number = error.osError
    if number not in CAUSES or (number == EADDRNOTAVAIL and not server.has_reached(host)):
        return None
    cause, _, advice = CAUSES[number].partition("; ")
    return ResourcesExhausted(cause, advice)


def warn_exhausted(error: ResourcesExhausted, server: Server) -> None:
    """Say it once a minute."""
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
    """Twisted's IResolutionReceiver: collects the addresses of one look-up."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: object) -> None:
        """Nothing to do: a look-up is never cancelled."""

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
class _Attempt(ClientFactory):
    """Twisted's client factory for one attempt. ``done`` fires when it stands or has failed."""

    noisy = False

    def __init__(self, protocol: IProtocol, reactor: Any) -> None:
        self._protocol = protocol
        self._reactor = reactor
        self.done: Deferred[None] = Deferred()

    def buildProtocol(self, addr: object) -> Any:
        # Twisted calls the protocol's makeConnection once this has returned.
        self._reactor.callLater(0, self.done.callback, None)
        return self._protocol

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.done.errback(reason)


def dial(
    reactor: Any,
    host: str,
    port: int,
    protocol: IProtocol,
    timeout_s: float,
    vanished_s: float = VANISHED_S,
) -> Deferred[None]:
    """Connect ``protocol`` to an IP address; fails with Twisted's ConnectError and its kin.

    A server that vanishes later is noticed after ``vanished_s``.
    """
    attempt = _Attempt(protocol, reactor)
    connector = EagerConnector(host, port, attempt, timeout_s, None, reactor)
    connector.vanished_s = vanished_s
    connector.connect()
    return attempt.done
