"""A worker's connections with the other workers of its gateway, and with other nodes."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final, final

from gateway.addresses import UnixAddress
from gateway.configuration.sections import Config
from gateway.errors import UnknownSession
from gateway.listeners.ports import adopt, listen
from gateway.workers.peering.links import PeerLink, Peers
from gateway.workers.peering.nodes import Nodes
from gateway.workers.peering.offers import OfferLinks
from gateway.workers.peering.owner import PeerServer
from gateway.workers.peering.taking import Taker, TakingSocket
from gateway.workers.place import Place

# Other workers run as the same user.
_SOCKET_MODE: Final = 0o600

FindSession = Callable[[bytes], Any]


@final
class OtherWorkers:
    """``find`` finds sessions of others by their ids, and raises UnknownSession. ``forwarded``: counts of
    commands for such sessions, by outcome. ``offers``: links by which whole connections are offered.
    """

    def __init__(self, configuration: Config, reactor: Any, place: Place) -> None:
        self._reactor = reactor
        self._place = place
        self._peers = Peers(reactor, place.path_of, self._link_to_node)
        # Each forwarded command costs a look-up.
        peers, has_nodes = self._peers, bool(configuration.peers)
        self.find: FindSession = peers.find if has_nodes else peers.find_here
        self.forwarded = self._peers.counts
        self.offers = OfferLinks(reactor, place.offers_path_of, configuration.limits)
        self._nodes = Nodes(configuration, reactor, self.forwarded, self._find_here, monotonic)
        self._find_own: FindSession | None = None
        self._taking: TakingSocket | None = None
        self._node_port: Any = None
        # Twisted's port for other workers.
        self.port: Any = None

    @property
    def node_states(self) -> dict[str, bool]:
        """Whether each other node is connected, by its id."""
        return self._nodes.states

    def adopt(self, descriptor: int) -> Any:
        """Twisted's port of the supervisor's socket for other nodes. It accepts none yet."""
        self._node_port = adopt(self._reactor, descriptor, self._nodes.factory())
        self._node_port.stopReading()
        return self._node_port

    def listen(self, find_own: FindSession, taker: Taker) -> None:
        """Accept other workers and nodes. ``find_own``: finds sessions of this worker, and raises
        UnknownSession. ``taker`` gets the connections that are offered.
        """
        self._find_own = find_own
        path = UnixAddress(self._place.socket_path)
        self.port = listen(self._reactor, path, PeerServer(find_own, monotonic), {}, _SOCKET_MODE)
        self._taking = TakingSocket(self._place.offers_path, taker, self._reactor)
        self._taking.listen()
        self._nodes.start(self._node_port)

    def retire(self) -> None:
        """Take over no more connections."""
        if self._taking is not None:
            self._taking.retire()

    def reload(self) -> None:
        """Read the certificates of nodes again. Raises ConfigurationError."""
        self._nodes.reload()

    def close(self) -> None:
        """Close all connections."""
        self._peers.close()
        self.retire()
        self.offers.close()
        self._nodes.close()

    def _link_to_node(self, prefix: bytes) -> PeerLink | None:
        return self._nodes.link_to(prefix)

    def _find_here(self, session_id: bytes) -> Any:
        """The session of this worker, or of another worker of this node. Raises UnknownSession."""
        if self._find_own is None:
            raise UnknownSession("the worker is starting")
        try:
            return self._find_own(session_id)
        except UnknownSession:
            return self._peers.find_here(session_id)
