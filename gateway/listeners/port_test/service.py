"""What all requests of the port test share in a worker: page, tunnels, limits and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, final

from gateway.errors import RateExceeded
from gateway.listeners.forwarding_deadlines import Client
from gateway.listeners.http_service import Tunnels
from gateway.listeners.port_test.exchange import Exchange
from gateway.listeners.port_test.page import Page
from gateway.protocols.forwarding import Request
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import Limits
from gateway.protocols.networks import client_network
from gateway.protocols.port_test.rates import Rate, Rates
from gateway.protocols.port_test.resources import is_of_port_test

# The page makes about thirty requests for each way, and phones behind one address may test at once. A
# tunnel's command counts as one, so this bounds the polls of tunnels too: the tester's measurements have up
# to forty a second.
_REQUESTS: Final = Rate(3000, 50)
_REQUESTS_OF_ALL: Final = Rate(10_000, 400)
# Requests at the same time; most of them are held or wait. Each has a few hundred bytes.
_AT_ONCE: Final = 500
# The same for one IPv4 address or IPv6 /64. A browser has six connections to each port.
_AT_ONCE_EACH: Final = 100
OUTCOMES: Final = ("answered", "refused", "limited")


@final
class PortTest:
    """``tunnels``: those of the loopback. ``page``: set before the first request. ``workers``: that share
    the limits for all clients.

    ``counts``: of requests, by the resource's name and one of ``OUTCOMES``.
    """

    def __init__(
        self, tunnels: Tunnels, limits: Limits, clock: Callable[[], float], workers: int = 1
    ) -> None:
        self.tunnels = tunnels
        self.limits = limits
        self.clock = clock
        self.page = Page(())
        self.counts: Counter[tuple[str, str]] = Counter()
        of_all = Rate(_REQUESTS_OF_ALL.burst / workers, _REQUESTS_OF_ALL.per_s / workers)
        self._rates = Rates(_REQUESTS, of_all)
        self._most = max(1, _AT_ONCE // workers)
        # Exchanges with their clients, identified by ``client_network``.
        self._exchanges: dict[Exchange, str] = {}
        self._by_client: Counter[str] = Counter()

    def serves(self, target: bytes) -> bool:
        return is_of_port_test(target)

    def forward(
        self, client: Client, reader: RequestReader, transport: Any, request: Request
    ) -> Exchange:
        """Create the exchange of a request whose head has been read."""
        return Exchange(self, client, reader, transport, request)

    # Exchanges call

    def enter(self, exchange: Exchange, address: str) -> None:
        """Admit a request. Raises RateExceeded."""
        client = client_network(address)
        if len(self._exchanges) >= self._most or self._by_client[client] >= _AT_ONCE_EACH:
            raise RateExceeded("too many requests of the port test at once")
        if not self._rates.take(address, 1, self.clock()):
            raise RateExceeded("too many requests of the port test")
        self._exchanges[exchange] = client
        self._by_client[client] += 1

    def leave(self, exchange: Exchange) -> None:
        client = self._exchanges.pop(exchange, None)
        if client is None:
            return
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

    @property
    def exchanges(self) -> int:
        """The number of requests without a complete answer."""
        return len(self._exchanges)
