"""Collector of a worker's metrics beside sessions: capacity, listeners, upstreams, TLS, event loop."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Final, final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.telemetry.exposition.histograms import add_histogram
from gateway.telemetry.exposition.labels import HANDSHAKES, SPOKEN
from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.sources import Sources
from gateway.telemetry.exposition.udp_families import udp_families
from gateway.telemetry.logs.unraisable import unraisable
from gateway.telemetry.measurement.event_loop import Loop
from gateway.telemetry.versions import version_of

_BUILD: Final = {
    "version": version_of("rtmpt-gateway"),
    "python": platform.python_version(),
    "twisted": version_of("Twisted"),
}

_PORT_TEST: Final = (
    (
        "requests",
        "Requests of the port test: answered, refused, or refused because of its limits.",
        ["resource", "outcome"],
    ),
    ("tunnels", "Tunnels to the port test's loopback: opened, ended, or refused.", ["event"]),
    ("bytes", "RTMP bytes that the loopback has received (up) and sent (down).", ["direction"]),
)


@final
class GatewayCollector(Collector):
    """``buffered_bytes`` is the size of all sessions' buffers; it is set before each ``collect``."""

    def __init__(self, loop: Loop, sources: Sources) -> None:
        self._loop = loop
        self._sources = sources
        self.buffered_bytes = 0

    def collect(self) -> Iterator[Metric]:
        yield from self._capacity()
        yield from self._listeners()
        yield from self._upstreams()
        yield self._certificates()
        yield from self._event_loop()
        yield from self._by_outcome(
            "forwarded_commands",
            "Commands for sessions of other workers: forwarded, or refused with 404 because the worker"
            " or node that the session id names does not exist here.",
            self._sources.forwarded(),
        )
        yield from self._by_outcome(
            "offered_connections",
            "Connections offered to the worker that owns the session of their first request: taken by"
            " it, or declined, so that their commands are forwarded.",
            self._sources.offered(),
        )
        yield from self._nodes()
        yield from self._callbacks()
        yield from self._mirrors()
        yield from self._port_test()
        yield from udp_families(self._sources.udp)
        yield CounterMetricFamily(
            PREFIX + "unraisable_exceptions",
            "Exceptions in callbacks that could not be raised; each is a fault.",
            unraisable.count,
        )
        build = GaugeMetricFamily(
            PREFIX + "build_info", "Versions; the value is always 1.", labels=list(_BUILD)
        )
        build.add_metric(list(_BUILD.values()), 1)
        yield build

    def _capacity(self) -> Iterator[Metric]:
        sources = self._sources
        limits = sources.limits
        for name, help_text, value in (
            ("sessions_limit", "Limit on the number of sessions.", limits.sessions),
            ("connections", "Client connections.", sources.connections()),
            ("connections_limit", "Limit on the number of connections.", limits.connections),
            ("buffers_bytes", "Bytes in the buffers of all sessions.", self.buffered_bytes),
            ("buffers_limit_bytes", "Limit on these.", sources.buffers_bytes),
        ):
            yield GaugeMetricFamily(PREFIX + name, help_text, value)

    def _listeners(self) -> Iterator[Metric]:
        accepted = CounterMetricFamily(
            PREFIX + "connections_accepted",
            "Connections by protocol.",
            labels=["listener", "speaks"],
        )
        refused = CounterMetricFamily(
            PREFIX + "connections_refused",
            "Refused connections by cause.",
            labels=["listener", "cause"],
        )
        handshakes = CounterMetricFamily(
            PREFIX + "tls_handshakes", "TLS handshakes by outcome.", labels=["listener", "outcome"]
        )
        expected = self._sources.expected.listener_states()
        for listener, counts in self._sources.listener_states():
            zeros = dict.fromkeys(expected.get(listener, ()), 0)
            for name, count in {**zeros, **counts}.items():
                if name in HANDSHAKES:
                    handshakes.add_metric([listener, HANDSHAKES[name]], count)
                elif name in SPOKEN:
                    accepted.add_metric([listener, name], count)
                else:
                    refused.add_metric([listener, name], count)
        yield from (accepted, refused, handshakes)

    def _upstreams(self) -> Iterator[Metric]:
        labels = ["upstream"]
        up = GaugeMetricFamily(
            PREFIX + "upstream_up",
            "Whether the last connection to the server succeeded; 1 before the first one.",
            labels=labels,
        )
        silent = GaugeMetricFamily(
            PREFIX + "upstream_silent_seconds",
            "For how long the server has sent nothing although sessions wait for it.",
            labels=labels,
        )
        failures = CounterMetricFamily(
            PREFIX + "upstream_failures",
            "Failed connections to the server by reason; at_birth: it closed or ignored a new session.",
            labels=["upstream", "reason"],
        )
        dials = HistogramMetricFamily(
            PREFIX + "upstream_dial_seconds", "Duration of connects to the server.", labels=labels
        )
        look_ups = CounterMetricFamily(
            PREFIX + "upstream_look_up_failures",
            "Failed resolutions of the server's name, or of the SRV records that it is from.",
            labels=labels,
        )
        for server in self._sources.upstreams():
            up.add_metric([server.name], server.up)
            silent.add_metric([server.name], server.silent_s)
            for reason, count in server.failure_reasons.items():
                failures.add_metric([server.name, reason], count)
            add_histogram(dials, server.dials, [server.name])
            look_ups.add_metric([server.name], server.failed_look_ups)
        yield from (up, silent, failures, dials, look_ups)

    def _certificates(self) -> Metric:
        expiry = GaugeMetricFamily(
            PREFIX + "tls_certificate_expiry_timestamp_seconds",
            "Expiry time of the certificate, in seconds since 1970.",
            labels=["certificate"],
        )
        for name, expires_at in self._sources.certificates():
            expiry.add_metric([name], expires_at)
        return expiry

    def _by_outcome(self, name: str, help_text: str, counts: Mapping[str, int]) -> Iterator[Metric]:
        if counts:
            family = CounterMetricFamily(PREFIX + name, help_text, labels=["outcome"])
            for outcome, count in counts.items():
                family.add_metric([outcome], count)
            yield family

    def _nodes(self) -> Iterator[Metric]:
        states = self._sources.nodes()
        if states:
            up = GaugeMetricFamily(
                PREFIX + "peer_up",
                "Whether the other node of the group is connected, so that commands of its sessions can be"
                " forwarded.",
                labels=["node"],
            )
            for node, is_connected in states.items():
                up.add_metric([node], is_connected)
            yield up

    def _callbacks(self) -> Iterator[Metric]:
        counts = self._sources.callbacks
        if counts:
            family = CounterMetricFamily(
                PREFIX + "callbacks",
                "Calls of HTTP callbacks: whether they allowed or refused, or failed.",
                labels=["callback", "result"],
            )
            for names, count in counts.items():
                family.add_metric(names, count)
            yield family

    def _mirrors(self) -> Iterator[Metric]:
        mirrors = self._sources.mirrors()
        if not mirrors:
            return
        streams = GaugeMetricFamily(
            PREFIX + "mirrored_streams",
            "Streams of clients by mirror: published there, or waiting for a connection.",
            labels=["mirror", "state"],
        )
        failures = CounterMetricFamily(
            PREFIX + "mirror_failures",
            "Connections to the mirror that failed or ended early.",
            labels=["mirror"],
        )
        left_out = CounterMetricFamily(
            PREFIX + "mirror_left_out_messages",
            "Messages that the mirror did not get, because it was too slow or had to await a keyframe.",
            labels=["mirror"],
        )
        queued = GaugeMetricFamily(
            PREFIX + "mirror_queued_bytes",
            "Size of the messages that wait for the mirror's servers to read.",
            labels=["mirror"],
        )
        for mirror in mirrors:
            streams.add_metric([mirror.name, "publishing"], mirror.publishing)
            streams.add_metric([mirror.name, "waiting"], mirror.waiting)
            failures.add_metric([mirror.name], mirror.failures)
            left_out.add_metric([mirror.name], mirror.left_out)
            queued.add_metric([mirror.name], mirror.queued_bytes)
        yield from (streams, failures, left_out, queued)

    def _port_test(self) -> Iterator[Metric]:
        counts = self._sources.port_test()
        for name, help_text, labels in _PORT_TEST if counts else ():
            family = CounterMetricFamily(f"{PREFIX}port_test_{name}", help_text, labels=labels)
            for values, count in counts[name].items():
                family.add_metric(values, count)
            yield family

    def _event_loop(self) -> Iterator[Metric]:
        lag = HistogramMetricFamily(
            PREFIX + "event_loop_lag_seconds", "Delay of the event loop's timer."
        )
        add_histogram(lag, self._loop.lag)
        yield lag
        yield CounterMetricFamily(
            PREFIX + "event_loop_busy_seconds",
            "Processor time of the event loop's thread.",
            self._loop.busy_s,
        )
        yield GaugeMetricFamily(
            PREFIX + "event_loop_busy_ratio",
            "The same as a share of the last ten seconds; of the busiest worker.",
            self._loop.busy_share,
        )
