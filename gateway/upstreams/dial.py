"""Servers: their addresses, and connects to them.

Names are resolved at startup and when their time is up (``names``), and never while a client waits, so that
a slow resolver does not delay sessions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from errno import EADDRNOTAVAIL
from itertools import zip_longest
from math import inf
from typing import Any, Final, final

from twisted.internet.error import ConnectBindError, ConnectError
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from gateway.addresses import ServerAddress
from gateway.descriptors import CAUSES
from gateway.errors import ConfigurationError, ResourcesExhausted
from gateway.logs import repeated
from gateway.protocols.proxy_header import proxy_header
from gateway.protocols.rtmp.initiation import RANDOM_BYTES, RTMPEInitiation
from gateway.protocols.tunnel_client.requests import AGENT, Requests
from gateway.upstreams.attempt import VANISHED_S, Attempt, Settings
from gateway.upstreams.http_proxy import HTTPProxy, Passage
from gateway.upstreams.names import Names, Resolved
from gateway.upstreams.race import Contender, Race
from gateway.upstreams.rtmpe_transport import RTMPETransport
from gateway.upstreams.tls_client import ClientTLS, ServerTLS
from gateway.upstreams.tunnel_transport import TunnelTransport

# The client's address in PROXY headers of the gateway's own connections.
_OWN_ADDRESSES: Final = {False: "127.0.0.1", True: "::1"}
# Shorter: more clients wait for an address that does not answer.
_BEATEN_S: Final = 60.0

_log = Logger()


@final
class Server(Resolved):
    """A server and the addresses of its name at the last resolution.

    ``role``: the name of its table in the configuration. ``proxy_protocol``: the header that it expects,
    "off", "v1" or "v2". ``tls``: for servers that are reached by TLS. ``source_address``: from which they
    are connected to, empty if the system chooses it. ``tls_host``: for which its certificate must be valid;
    empty for its own host. ``proxy``: through which it is reached, if there is one. ``first_hop``: what is
    connected to, the proxy or the server; the addresses are those of its name.
    """

    def __init__(
        self,
        address: ServerAddress,
        role: str = "upstream",
        proxy_protocol: str = "off",
        tls: ClientTLS | None = None,
        source_address: str = "",
        tls_host: str = "",
        proxy: HTTPProxy | None = None,
    ) -> None:
        super().__init__(role, str(address))
        self.address = address
        self.passage: Passage | None = None
        self.first_hop = address
        if proxy is not None:
            self.passage = Passage(
                proxy, address.authority, forwards=address.is_tunnel and not address.is_tls
            )
            self.first_hop = proxy.address
        self.proxy_protocol = proxy_protocol
        self.tls: ServerTLS | None = None
        if tls is not None and address.is_tls:
            self.tls = ServerTLS(tls, tls_host or address.host, self.name)
        self.source_address = source_address
        self._hosts: list[str] = []
        # The addresses with a successful connect since the last resolution.
        self._reached: set[str] = set()
        self._beaten: set[str] = set()
        # When the record of beaten addresses was last cleared by a resolution.
        self._trusted_at = -inf
        self._turn = 0

    async def resolve(self, names: Names) -> float:
        name = self.first_hop.host
        found = await names.addresses(name)
        hosts = list(found.hosts)
        if not hosts:
            raise ConfigurationError(
                f"{self.role} {self.name}: the name {name!r} is unknown; "
                "check its spelling and this machine's resolver"
            )
        if self.source_address:
            hosts = [host for host in hosts if (":" in host) == (":" in self.source_address)]
        if not hosts:
            raise ConfigurationError(
                f"{self.role} {self.name}: the name {name!r} has no address of the family of"
                f" source_address, {self.source_address}; name another source address, or remove it"
            )
        if self._hosts and set(self._hosts) != set(hosts):
            _log.info(
                "{role} {server}: new sessions use its new addresses: {hosts}",
                role=self.role,
                server=self.name,
                hosts=", ".join(hosts),
            )
        beaten, now = self._beaten, names.seconds()
        self.use(hosts)
        if now - self._trusted_at < _BEATEN_S:
            self._beaten = beaten
        else:
            self._trusted_at = now
        return found.valid_s

    def use(self, hosts: list[str]) -> None:
        """Use these addresses from now on, and forget which of them were beaten."""
        self._hosts = hosts
        self._reached.intersection_update(hosts)
        self._beaten = set()

    @property
    def port(self) -> int:
        """The port of its addresses."""
        return self.first_hop.port

    @property
    def hosts(self) -> list[str]:
        """All of the server's addresses."""
        return list(self._hosts)

    def hosts_in_order(self) -> list[str]:
        """All addresses in the order in which to try them (RFC 8305, 4): the families alternate, beginning
        with the resolver's preference; of each family, every address is the first in its turn.
        """
        if len(self._hosts) == 1:
            return self._hosts
        self._turn += 1
        preferred = ":" in self._hosts[0]
        families = [
            [host for host in self._hosts if (":" in host) is family]
            for family in (preferred, not preferred)
        ]
        rotated = [_rotated(family, self._turn) for family in families if family]
        mixed = [host for hosts in zip_longest(*rotated) for host in hosts if host is not None]
        return sorted(mixed, key=self._beaten.__contains__)

    def header(self, host: str, client: str | None) -> bytes:
        """What a connection to ``host`` begins with, for the client at that IP address; empty if it is not
        known, None for the gateway itself.
        """
        if self.proxy_protocol == "off":
            return b""
        if client is None:
            client = _OWN_ADDRESSES[":" in host]
        return proxy_header(int(self.proxy_protocol[1:]), client, host, self.address.port)

    def note_reached(self, host: str) -> None:
        """A connect to ``host`` has succeeded."""
        self._reached.add(host)
        self._beaten.discard(host)

    def note_beaten(self, hosts: Iterable[str]) -> None:
        """Connects to these addresses have failed, or others were faster: try them last from now on, until
        the name is resolved again after ``_BEATEN_S``.
        """
        self._beaten.update(hosts)

    def has_reached(self, host: str) -> bool:
        """Whether a connect to ``host`` has succeeded."""
        return host in self._reached


def _rotated(hosts: list[str], turn: int) -> list[str]:
    first = turn % len(hosts)
    return hosts[first:] + hosts[:first]


def exhausted(error: ConnectError, server: Server, host: str) -> ResourcesExhausted | None:
    """The exhausted local resource that caused ``error``; None if the server caused it.

    EADDRNOTAVAIL means exhausted ports only if ``host`` was reached before; else the address family may be
    disabled. If the source address cannot be bound, which does not take a port, it is gone.
    """
    number = error.osError
    if number not in CAUSES:
        return None
    if number == EADDRNOTAVAIL:
        is_gone = bool(server.source_address) and isinstance(error, ConnectBindError)
        if is_gone or not server.has_reached(host):
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


def attempt(
    reactor: Any,
    server: Server,
    protocol: Any,
    host: str,
    timeout_s: float,
    vanished_s: float = VANISHED_S,
    client: str | None = "",
    agent: str = AGENT,
    lost: Callable[[], object] = lambda: None,
    won: Callable[[], object] = lambda: None,
    opens: bool = True,
) -> Contender:
    """Begin to connect ``protocol`` to one address of the server. See ``connect``, and ``Attempt``.

    ``agent``: this program's name for tunnel servers.
    """
    passage = server.passage
    settings = Settings(
        server.port,
        timeout_s,
        vanished_s,
        server.header(host, client),
        server.tls,
        server.source_address,
        passage,
    )
    made: Attempt | TunnelTransport
    if opens and server.address.is_tunnel:
        is_forwarded = passage is not None and passage.forwards
        requests = Requests(server.address.authority, client or "", agent, is_forwarded)
        made = TunnelTransport(reactor, protocol, settings, requests, lost, won)
    else:
        made = Attempt(reactor, protocol, settings, lost, won)
    made.connect(host)
    return made


async def connect(
    reactor: Any,
    server: Server,
    protocol: IProtocol,
    timeout_s: float,
    vanished_s: float = VANISHED_S,
    client: str | None = "",
    lost: Callable[[], object] = lambda: None,
    opens: bool = True,
    random: Callable[[int], bytes] = os.urandom,
) -> None:
    """Connect ``protocol`` to an address of the server, by TLS, RTMPE and through a tunnel if its scheme
    says so.

    ``client``: the IP address of the client, empty if it is not known, None for the gateway itself.
    Without ``opens``, the connection is enough: no session is opened with a tunnel server, and no handshake
    of RTMPE made. ``lost`` is called when an established connection has ended. Raises Twisted's
    ConnectError or a subclass, and ResourcesExhausted if local resources are used up.
    """
    if not (opens and server.address.is_rtmpe):
        await _connect(reactor, server, protocol, timeout_s, vanished_s, client, lost, opens)
        return
    deadline = reactor.seconds() + timeout_s
    initiation = RTMPEInitiation(int(reactor.seconds() * 1000), random(RANDOM_BYTES))
    encrypted: Any = RTMPETransport(protocol, initiation, lost)
    await _connect(
        *(reactor, server, encrypted, timeout_s, vanished_s, client),
        encrypted.notify_lost,
    )
    left_s = max(0.0, deadline - reactor.seconds())
    late = reactor.callLater(
        left_s, encrypted.fail, "it does not complete the RTMPE handshake in time"
    )
    try:
        await encrypted.ready
    finally:
        if late.active():
            late.cancel()


async def _connect(
    reactor: Any,
    server: Server,
    protocol: IProtocol,
    timeout_s: float,
    vanished_s: float,
    client: str | None,
    lost: Callable[[], object],
    opens: bool = True,
) -> None:
    """As ``connect``, without RTMPE."""

    def begin(host: str, left_s: float, won: Callable[[], object]) -> Contender:
        return attempt(
            reactor,
            server,
            protocol,
            host,
            left_s,
            vanished_s,
            client,
            lost=lost,
            won=won,
            opens=opens,
        )

    race = Race(reactor, server.hosts_in_order(), begin, timeout_s)
    race.start()
    try:
        server.note_reached(await race.done)
    except ConnectError:
        for host, error in race.failures.items():
            own = exhausted(error, server, host)
            if own is not None:
                raise own from None
        raise
    finally:
        server.note_beaten(race.beaten)
