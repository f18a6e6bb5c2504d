"""The port test of a worker: its requests, and the loopback that its tunnels end at, with their limits.

The loopback's sessions have a separate table, admission and counts. They are in no list, log, limit or
metric of clients' sessions, and cannot reach a media server. Their ids differ in form (``tunnels.ids``), so
that other workers forward commands to them for requests of the port test alone, and these forward none to
clients' sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, final

from attrs import evolve

from gateway.addresses import TcpAddress
from gateway.configuration.sections import Config
from gateway.configuration.sections import Listener as ListenerConfig
from gateway.errors import RequestRefused, UnknownSession
from gateway.listeners.port_test.page import Page
from gateway.listeners.port_test.service import OUTCOMES, PortTest
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits, StreamedAnswers
from gateway.protocols.networks import client_network
from gateway.protocols.port_test.rates import Rate, Rates
from gateway.protocols.port_test.resources import Name
from gateway.protocols.reasons import EndReason
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds, is_of_port_test
from gateway.tunnels.table import SessionTable
from gateway.upstreams.loopback import Loopback

# The limits of the whole gateway, divided by its workers. A page has a tunnel for each port at once.
_SESSIONS: Final = 200
_SESSIONS_PER_ADDRESS: Final = 16
_BUFFER_BYTES: Final = 128 * 1024
# After the last command of a page that was closed.
_SILENT_S: Final = 12.0
# Measurements of throughput, of 7.5 MB each at most: the tester makes two for each way. In the long run
# one address can use 0.5 MB a second, and all together 4 MB.
_MEASUREMENTS: Final = Rate(24, 1 / 15)
_MEASUREMENTS_OF_ALL: Final = Rate(60, 0.5)
_MEASUREMENTS_AT_ONCE: Final = 8


@final
class _OwnCount:
    """The loopback's sessions of this worker."""

    def __init__(self) -> None:
        self.total = 0
        # Sessions by ``client_network``.
        self._by_client: Counter[str] = Counter()

    def of_address(self, address: str) -> int:
        # Reading a Counter adds nothing to it.
        return self._by_client[client_network(address)]

    def add(self, address: str, number: int) -> None:
        self.total += number
        client = client_network(address)
        self._by_client[client] += number
        if not self._by_client[client]:
            del self._by_client[client]


@final
class TunnelCounts:
    """Observer of the loopback's sessions."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("opened", "ended", "refused"), 0)

    def session_opened(self, tunnel: object) -> None:
        self.counts["opened"] += 1

    def session_ended(self, tunnel: object, reason: EndReason) -> None:
        self.counts["ended"] += 1

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self.counts["refused"] += 1


@final
class WorkerPortTest:
    """``ids``: with the ending of the port test's. ``find_elsewhere`` finds sessions of other workers;
    ``later`` calls in the reactor's next iteration. ``workers``: those that share the limits.

    ``service`` handles the requests.
    """

    def __init__(
        self,
        configuration: Config,
        ids: SessionIds,
        find_elsewhere: Callable[[bytes], Any],
        clock: Callable[[], float],
        later: Callable[[Callable[[], None]], None],
        workers: int = 1,
    ) -> None:
        limits = _limits_of(configuration.limits, workers)
        self._configuration = configuration
        self._clock = clock
        self._most = max(1, _MEASUREMENTS_AT_ONCE // workers)
        of_all = Rate(_MEASUREMENTS_OF_ALL.burst / workers, _MEASUREMENTS_OF_ALL.per_s / workers)
        self._rates = Rates(_MEASUREMENTS, of_all)
        self._loopback = Loopback(clock, later, self._may_measure)
        self._tunnel_counts = TunnelCounts()
        self._own = _OwnCount()
        admission = Admission(limits, limits.sessions * 2 * _BUFFER_BYTES, self._own)
        self._tunnels = SessionTable(
            *(limits, configuration.tunnel.hold_s, admission, ids, self._loopback.connect, clock),
            self._tunnel_counts,
            streamed_answers=StreamedAnswers.NEVER,
            find_elsewhere=partial(_find_among, True, find_elsewhere),
        )
        self.service = PortTest(self._tunnels, limits, clock, workers)

    def create_page(self, places: Iterable[tuple[ListenerConfig, Sequence[TcpAddress]]]) -> None:
        """Create the page. ``places``: the listeners, and the addresses of their sockets."""
        configured = self._configuration.port_test.public_ports
        self.service.page = Page(configured or public_ports(places))

    def finder(self, find: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """``find``, and the loopback's sessions of this worker."""

        def find_either(session_id: bytes) -> Any:
            of_test = is_of_port_test(session_id)
            return self._tunnels.find_own(session_id) if of_test else find(session_id)

        return find_either

    @property
    def tunnels(self) -> int:
        """The number of open tunnels. They end within half a minute."""
        return self._own.total

    def sweep(self, now: float) -> None:
        self._loopback.sweep(now)
        self._tunnels.sweep(now)

    def stop(self) -> None:
        """End all sessions."""
        self._tunnels.end_all(EndReason.DRAINED)

    def counts(self) -> dict[str, dict[tuple[str, ...], int]]:
        """For metrics: requests by resource and outcome, tunnels by event, bytes by direction."""
        zeros: dict[tuple[str, ...], int] = {
            (name.value, outcome): 0 for name in Name for outcome in OUTCOMES
        }
        loopback = self._loopback
        return {
            "requests": zeros | {("other", "refused"): 0} | dict(self.service.counts),
            "tunnels": {(event,): count for event, count in self._tunnel_counts.counts.items()},
            "bytes": {("up",): loopback.bytes_up, ("down",): loopback.bytes_down},
        }

    def _may_measure(self, address: str) -> bool:
        measuring = sum(transport.is_measuring for transport in self._loopback.transports)
        return measuring < self._most and self._rates.take(address, 1, self._clock())


def of_clients(find: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """``find``, with UnknownSession for sessions of the port test."""
    return partial(_find_among, False, find)


def _find_among(of_test: bool, find: Callable[[bytes], Any], session_id: bytes) -> Any:
    if is_of_port_test(session_id) is not of_test:
        raise UnknownSession("no such session on this path")
    return find(session_id)


def public_ports(places: Iterable[tuple[ListenerConfig, Sequence[TcpAddress]]]) -> tuple[str, ...]:
    """The ports that browsers can use, as ``http:80`` or ``https:443``.

    Listeners behind a PROXY protocol have the ports of their proxy, which are not known here. Loopback
    addresses are left out, unless there is nothing else.
    """
    found = [
        (listener, address)
        for listener, addresses in places
        for address in addresses
        if not listener.proxy_protocol
    ]
    public = [each for each in found if not each[1].is_loopback] or found
    ports: dict[str, None] = {}
    for listener, address in public:
        ports[f"http:{address.port}"] = None
        if listener.tls:
            ports[f"https:{address.port}"] = None
    return tuple(ports)


def _limits_of(limits: Limits, workers: int) -> Limits:
    return evolve(
        limits,
        sessions=max(1, _SESSIONS // workers),
        sessions_per_address=_SESSIONS_PER_ADDRESS,
        down_buffer_bytes=_BUFFER_BYTES,
        up_buffer_bytes=_BUFFER_BYTES,
        replay_bytes=_BUFFER_BYTES,
        silent_session_s=_SILENT_S,
    )
