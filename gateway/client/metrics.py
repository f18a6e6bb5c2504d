"""The client's Prometheus metrics, and their page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.protocols.policies import WrappingFactory
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import Site

from gateway.port_test.ways import Way
from gateway.protocols.reasons import EndReason
from gateway.telemetry.versions import version_of
from gateway.tunnels.relay import Relay

PREFIX: Final = "rtmpt_client"
_REFUSALS: Final = ("limit", "no_way", "no_rtmp")
_ANSWER_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_HANDSHAKE_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A Prometheus server keeps one connection.
_MOST_CONNECTIONS: Final = 16
# For requests that do not end, and connections without one.
_REQUEST_S: Final = 10


@final
class Metrics:
    """``registry`` has the metrics of one client."""

    def __init__(self, ways: Collection[Way]) -> None:
        registry = self.registry = CollectorRegistry()
        self._live: Callable[[], Collection[Relay]] = list
        self._waiting: Callable[[], int] = int
        self._info = GaugeMetricFamily(
            f"{PREFIX}_build_info", "1, with the version.", labels=["version"]
        )
        self._info.add_metric([version_of("rtmpt-gateway")], 1)
        self._races = Counter(
            *(f"{PREFIX}_races", "Ways of races, by result.", ["way", "result"]), registry=registry
        )
        self._handshake = Histogram(
            f"{PREFIX}_handshake_seconds",
            "From the local program's first bytes to the server's handshake, by the way that won.",
            ["way"],
            buckets=_HANDSHAKE_S,
            registry=registry,
        )
        self._refused = Counter(
            f"{PREFIX}_refused_connections",
            "Local connections that were closed without a stream, by cause.",
            ["cause"],
            registry=registry,
        )
        self._ended = Counter(
            f"{PREFIX}_ended_streams", "Ended streams, by reason.", ["reason"], registry=registry
        )
        self._bytes = Counter(
            f"{PREFIX}_ended_streams_bytes",
            "Bytes of ended streams, by way and direction.",
            ["way", "direction"],
            registry=registry,
        )
        self._reconnects = Counter(
            f"{PREFIX}_ended_streams_reconnects",
            "Lost connections that ended streams have survived.",
            registry=registry,
        )
        self._answers = Histogram(
            f"{PREFIX}_answer_seconds",
            "From a read of the local program's data to the gateway's answer, which may be held until the"
            " next data; only of tunnels, one read at a time.",
            ["way"],
            buckets=_ANSWER_S,
            registry=registry,
        )
        self._begin_at_zero(ways)
        registry.register(self)

    def _begin_at_zero(self, ways: Collection[Way]) -> None:
        """Show the series whose labels are known, so that their first increase is seen."""
        for way in ways:
            self._handshake.labels(str(way))
            for result in ("won", "failed"):
                self._races.labels(str(way), result)
        for cause in _REFUSALS:
            self._refused.labels(cause)

    def watch(self, waiting: Callable[[], int], live: Callable[[], Collection[Relay]]) -> None:
        """``waiting``: the number of local connections without a stream. ``live``: the streams."""
        self._waiting, self._live = waiting, live

    # Events

    def won(self, way: Way, took_s: float) -> None:
        self._races.labels(str(way), "won").inc()
        self._handshake.labels(str(way)).observe(took_s)

    def answers_of(self, way: Way) -> Callable[[float], None]:
        """Counts an answer's time, in seconds."""
        return self._answers.labels(str(way)).observe

    def failed(self, way: Way) -> None:
        self._races.labels(str(way), "failed").inc()

    def refused(self, cause: str) -> None:
        self._refused.labels(cause).inc()

    def ended(self, relay: Relay, reason: EndReason) -> None:
        way = relay.figures.way
        self._ended.labels(reason.value).inc()
        self._bytes.labels(way, "up").inc(relay.bytes_up)
        self._bytes.labels(way, "down").inc(relay.bytes_down)
        self._reconnects.inc(relay.figures.reconnects)

    # The registry calls

    def collect(self) -> Iterator[Metric]:
        """The live streams."""
        yield self._info
        live = self._live()
        counted = (
            ("waiting_connections", "Local connections that wait for a way.", self._waiting()),
            ("streams", "Streams that are relayed.", len(live)),
        )
        for name, text, value in counted:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
        yield from self._of_streams(live)

    def _of_streams(self, live: Collection[Relay]) -> Iterator[Metric]:
        families: tuple[tuple[str, str, Callable[[Relay], float | None]], ...] = (
            ("bytes_up", "Bytes of a live stream to the gateway.", lambda r: r.bytes_up),
            ("bytes_down", "Bytes of a live stream from the gateway.", lambda r: r.bytes_down),
            ("buffered_bytes", "Bytes that no socket has accepted.", lambda r: r.buffered_bytes),
            ("reconnects", "Lost connections it has survived.", lambda r: r.figures.reconnects),
            (
                *("round_trip_seconds", "The kernel's round trip time to the gateway or proxy."),
                lambda r: r.figures.round_trip_s,
            ),
            (
                *(
                    "answer_seconds",
                    "The last time from a read to the gateway's answer; of tunnels.",
                ),
                lambda r: r.figures.answers.last_s if r.figures.answers.count else None,
            ),
            (
                *("gateway_wait_seconds", "Time that data has waited for the gateway."),
                lambda r: r.figures.upstream_wait.total_s,
            ),
            (
                *("program_wait_seconds", "Time that data has waited for the local program."),
                lambda r: r.figures.downstream_wait.total_s,
            ),
        )
        for name, text, value_of in families:
            family = GaugeMetricFamily(f"{PREFIX}_stream_{name}", text, labels=["stream", "way"])
            for relay in live:
                value = value_of(relay)
                if value is not None:
                    family.add_metric([relay.alias, relay.figures.way], value)
            yield family


@final
class _Page(Resource):
    """``GET /metrics``."""

    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._metrics = metrics

    def render_GET(self, request: Any) -> bytes:
        request.setHeader(b"content-type", CONTENT_TYPE_LATEST.encode())
        return generate_latest(self._metrics.registry)


@final
class _Root(Resource):
    """Everything beside ``/metrics`` is not found."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.putChild(b"metrics", _Page(metrics))

    def getChild(self, path: bytes, request: Any) -> Any:
        return notFound()


@final
class _Limited(WrappingFactory):
    """Closes connections over the limit."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        return super().buildProtocol(addr) if len(self.protocols) < _MOST_CONNECTIONS else None


def metrics_site(metrics: Metrics) -> Any:
    """The HTTP server of the metrics."""
    site = Site(_Root(metrics), timeout=_REQUEST_S)
    site.displayTracebacks = False
    site.noisy = False
    return _Limited(site)  # type: ignore[no-untyped-call]
