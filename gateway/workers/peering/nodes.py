"""Connections with the other nodes of a group (``[[peer]]``), for balancers that cannot select the node by
the session id.

Nodes authenticate each other by certificates. Each worker keeps a connection to each other node, and
forwards commands on it as to this node's other workers (``links``). A node executes commands of its own
sessions only, so that no command is forwarded in a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, Final, final

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, ServerFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.configuration.sections import Config, Peer
from gateway.errors import UnknownSession
from gateway.logs import repeated
from gateway.tunnels.ids import NODE_BYTES
from gateway.workers.peering.links import PeerLink
from gateway.workers.peering.node_tls import NodeTls
from gateway.workers.peering.owner import PeerConnection

_log = Logger()

# Pauses before another attempt to connect to a node.
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
# A connection whose greeting takes longer is closed.
_GREETING_S: Final = 10.0
# Workers of all other nodes together, and connections of strangers before their handshake fails.
_MOST_CONNECTIONS: Final = 1024


@final
@implementer(IStreamClientEndpoint)
class _NodeEndpoint:
    """Connects with the files that have been read last. ``failed`` is called with a failure's reason."""

    def __init__(
        self, reactor: Any, peer: Peer, tls: NodeTls, failed: Callable[[Failure], object]
    ) -> None:
        # Here and below: most gateways have no other nodes, and these imports take 15 ms.
        from twisted.internet.endpoints import HostnameEndpoint

        self._endpoint = HostnameEndpoint(reactor, peer.address.host, peer.address.port)
        self._host = peer.address.host
        self._tls = tls
        self._failed = failed

    def connect(self, protocolFactory: Any) -> Any:
        from twisted.internet.endpoints import wrapClientTLS

        endpoint = wrapClientTLS(self._tls.for_client(self._host), self._endpoint)
        return endpoint.connect(protocolFactory).addErrback(self._report)

    def _report(self, reason: Failure) -> Failure:
        self._failed(reason)
        return reason


@final
class NodeLink:
    """The connection to one other node, which is made again whenever it is lost. ``link`` is None then."""

    def __init__(self, reactor: Any, peer: Peer, tls: NodeTls, counts: Counter[str]) -> None:
        from twisted.application.internet import ClientService, backoffPolicy

        self.node = peer.node
        self._counts = counts
        self.link: PeerLink | None = None
        self._is_closing = False
        factory: Any = Factory.forProtocol(self._make_link)
        factory.noisy = False
        self._service = ClientService(
            _NodeEndpoint(reactor, peer, tls, self._failed),
            factory,
            retryPolicy=backoffPolicy(_FIRST_PAUSE_S, _LONGEST_PAUSE_S),
            clock=reactor,
        )

    def start(self) -> None:
        self._service.startService()

    def close(self) -> None:
        self._is_closing = True
        self._service.stopService()

    def _make_link(self) -> PeerLink:
        return PeerLink(self._lost, self._counts, self._accepted, inf)

    def _accepted(self, link: PeerLink) -> None:
        self.link = link
        _log.info("connected to node {node}", node=self.node)

    def _lost(self, link: PeerLink, reason: Failure) -> None:
        if self.link is link:
            self.link = None
        self._failed(reason)

    def _failed(self, reason: Failure) -> None:
        if self._is_closing:
            return
        repeated.warn(
            _log,
            f"node {self.node}",
            "no connection to node {node}: {cause}; commands of its sessions get 404 here meanwhile",
            node=self.node,
            cause=reason.getErrorMessage(),
        )


@final
class NodeServer(ServerFactory):
    """The server for other nodes' connections. ``find``: as in ``PeerConnection``."""

    def __init__(
        self, find: Callable[[bytes], Any], clock: Callable[[], float], reactor: Any
    ) -> None:
        self._find = find
        self._clock = clock
        self._reactor = reactor
        # Oldest first; each with the call that closes it if it has not sent its greeting.
        self._connections: dict[PeerConnection, Any] = {}
        self.noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        if len(self._connections) >= _MOST_CONNECTIONS and not self._end_oldest_stranger():
            return None
        connection = PeerConnection(self._find, self._clock, inf, self._forget, True)
        self._connections[connection] = self._reactor.callLater(
            _GREETING_S, self._expire, connection
        )
        return connection

    def close(self) -> None:
        for connection in tuple(self._connections):
            connection.abort()

    def _end_oldest_stranger(self) -> bool:
        """Close the oldest connection that has not sent its greeting, so that strangers keep no node out.
        Returns False if all have.
        """
        for connection in self._connections:
            if not connection.is_accepted:
                # Its connectionLost may be called later.
                self._forget(connection)
                connection.abort()
                return True
        return False

    def _forget(self, connection: PeerConnection) -> None:
        deadline = self._connections.pop(connection, None)
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _expire(self, connection: PeerConnection) -> None:
        if not connection.is_accepted:
            connection.abort()


@final
class Nodes:
    """The links to the configured nodes, and the server for their connections.

    ``find``: returns a session of this node, or raises UnknownSession.
    """

    def __init__(
        self,
        configuration: Config,
        reactor: Any,
        counts: Counter[str],
        find: Callable[[bytes], Any],
        clock: Callable[[], float],
    ) -> None:
        node = configuration.node
        self._own = node.id.encode()
        self._find = find
        is_used = node.address is not None or bool(configuration.peers)
        self._tls = NodeTls(configuration) if is_used else None
        self._links = {
            peer.node.encode(): NodeLink(reactor, peer, self._tls, counts)
            for peer in configuration.peers
            if self._tls is not None
        }
        self._server = NodeServer(self._find_own, clock, reactor)
        self._port: Any = None

    def link_to(self, prefix: bytes) -> PeerLink | None:
        """The link to the node whose sessions have this prefix; None for this one, and for unknown ones."""
        link = self._links.get(prefix[:NODE_BYTES])
        return None if link is None else link.link

    @property
    def states(self) -> dict[str, bool]:
        """Whether each node is connected."""
        return {link.node: link.link is not None for link in self._links.values()}

    def factory(self) -> Any:
        """The factory of the listening socket for other nodes."""
        if self._tls is None:
            raise RuntimeError("no address for other nodes is configured")
        return TLSMemoryBIOFactory(self._tls.for_server(), False, self._server)

    def start(self, port: Any) -> None:
        """Connect to the nodes. ``port``: the listening one of ``factory``; None if there is none."""
        self._port = port
        for link in self._links.values():
            link.start()

    def reload(self) -> None:
        """Read certificates again, for later connections. Raises ConfigurationError."""
        if self._tls is not None:
            self._tls.reload()
        if self._port is not None:
            self._port.factory = self.factory()

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._server.close()

    def _find_own(self, session_id: bytes) -> Any:
        if not session_id.startswith(self._own):
            raise UnknownSession("a session of another node")
        return self._find(session_id)
