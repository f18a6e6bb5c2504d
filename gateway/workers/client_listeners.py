"""The listeners for clients: adopts their sockets, and creates the protocols of accepted connections.

``adopt`` returns ports that do not accept yet. Connections wait in the kernel's accept queue until
``startReading`` is called on the ports.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, final

from gateway.addresses import ListenAddress, TcpAddress
from gateway.configuration.sections import Config
from gateway.configuration.sections import Listener as ListenerConfig
from gateway.descriptors import descriptors as open_descriptors
from gateway.listeners.certificates import CertificateStore
from gateway.listeners.connections import ConnectionSet
from gateway.listeners.http import HTTPConnection
from gateway.listeners.http_service import HTTPService
from gateway.listeners.offered import OfferedConnection
from gateway.listeners.ports import adopt, places_of
from gateway.listeners.protocol_detection import Listener, ListenerState
from gateway.protocols.client_address import Proxies
from gateway.protocols.ingress import shared_ingress
from gateway.protocols.networks import Admission as AddressRules
from gateway.protocols.networks import Networks
from gateway.protocols.offers import Offer
from gateway.tls import TLSConnection
from gateway.transport import adopt_connection
from gateway.tunnels.relay_table import RelayTable
from gateway.workers.peering.offers import OfferLinks


@final
class ClientListeners:
    """``states`` is filled by ``adopt``, with the listener's configured address as key.

    ``offers``: the links to other workers, which are offered connections of their sessions.
    ``has_share``: whether this worker has its share of all connections.
    """

    def __init__(
        self,
        configuration: Config,
        reactor: Any,
        states: dict[str, ListenerState],
        connections: ConnectionSet,
        http: HTTPService,
        relays: RelayTable,
        certificates: CertificateStore | None,
        offers: OfferLinks,
        has_share: Callable[[], bool],
    ) -> None:
        self._configuration = configuration
        self._reactor = reactor
        self._states = states
        self._connections = connections
        self._http = http
        self._relays = relays
        self._certificates = certificates
        self._offers = offers
        self._has_share = has_share
        # For each listener, the call that makes an HTTP connection's protocol (address, secure).
        self._makers: list[Callable[[str, bool], HTTPConnection]] = []
        # TCP addresses of the open sockets, with the ports that the system has chosen.
        self.addresses: list[ListenAddress] = []
        # The listeners, and the TCP addresses of each one's socket.
        self.places: list[tuple[ListenerConfig, list[TcpAddress]]] = []

    def adopt(self, descriptors: Sequence[int]) -> list[Any]:
        """Adopt the supervisor's sockets, one for each listener; returns Twisted's ports."""
        return [
            self._started(
                listener, adopt(self._reactor, descriptor, Listener(self._new_state(listener)))
            )
            for listener, descriptor in zip(self._configuration.listeners, descriptors, strict=True)
        ]

    def _new_state(self, listener: ListenerConfig) -> ListenerState:
        state = self._states[str(listener.address)] = self._state(listener)
        return state

    def _started(self, listener: ListenerConfig, port: Any) -> Any:
        port.stopReading()
        places = places_of(port)
        self.addresses += places
        self.places.append((listener, places))
        return port

    def _state(self, listener: ListenerConfig) -> ListenerState:
        name = str(listener.address)
        certificates = self._certificates if listener.tls else None
        proxies = Proxies(
            Networks.of(listener.trusted), AddressRules.of(listener.allow, listener.deny)
        )
        number = len(self._makers)
        self._makers.append(partial(self._make_http_connection, name, proxies))
        return ListenerState(
            self._configuration.limits,
            self._connections,
            partial(self._http_protocol, number),
            partial(self._open_relay, name),
            monotonic,
            proxies.admission,
            proxies.trusted,
            listener.proxy_protocol,
            None if certificates is None else certificates.context,
            name=name,
            socket_policy=lambda: self._http.own.socket_policy,
        )

    def _http_protocol(
        self, listener: int, address: str, secure: bool, first: bytes
    ) -> HTTPConnection | OfferedConnection:
        """The protocol of an HTTP connection: it is offered to the owner of its first request's session."""
        make = self._makers[listener]
        # A TLS connection cannot be passed on: its state is in this process.
        link = None if secure else self._offers.link_for(first)
        if link is None:
            return make(address, secure)
        return OfferedConnection(
            self._connections, partial(link.offer, listener), partial(make, address, False), address
        )

    # Connections that other workers offer

    @property
    def listeners(self) -> int:
        """The number of listeners."""
        return len(self._makers)

    def has_room(self) -> bool:
        """Whether an offered connection can be taken. The limits already count it."""
        return open_descriptors.allow_client() and not self._has_share()

    def take(self, offer: Offer, connection: socket.socket) -> None:
        """Take over a connection as if this worker had accepted it."""
        http = self._makers[offer.listener](offer.address, False)
        adopt_connection(connection, http, self._reactor)
        http.dataReceived(offer.first)

    def _make_http_connection(
        self, listener: str, proxies: Proxies, address: str, secure: bool
    ) -> HTTPConnection:
        is_trusted = proxies.trusted.holds(address)
        return HTTPConnection(
            self._http, address, secure, listener, proxies if is_trusted else None
        )

    def _open_relay(
        self, listener: str, address: str, transport: Any, first: bytes, left: Callable[[], None]
    ) -> None:
        ingress = shared_ingress("rtmp", listener)
        if isinstance(transport, TLSConnection):
            ingress = shared_ingress("rtmps", listener, transport.server_name)
        self._relays.open(address, transport, first, ingress, left)
