"""Metrics of media servers as the whole gateway sees them: their states, sessions, queues and checks.

What workers count is not here: it would fall when a worker ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import (
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from gateway.telemetry.exposition.histograms import add_histogram
from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.sources import SERVER_STATES, UpstreamHealth


def upstream_families(servers: Sequence[UpstreamHealth]) -> list[Metric]:
    """The families, for servers merged from all workers."""
    return [_states(servers), *_figures(servers), _queues(servers), _checks(servers)]


def _states(servers: Sequence[UpstreamHealth]) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "upstream_state",
        "1 for the state that the server is in.",
        labels=["upstream", "state"],
    )
    for server in servers:
        for state in SERVER_STATES:
            family.add_metric([server.name, state], server.state == state)
    return family


def _figures(servers: Sequence[UpstreamHealth]) -> list[Metric]:
    sessions = GaugeMetricFamily(
        PREFIX + "upstream_sessions", "Sessions of the server.", labels=["upstream"]
    )
    weights = GaugeMetricFamily(
        PREFIX + "upstream_weight",
        "Weight of the server, as configured or in its SRV record.",
        labels=["upstream"],
    )
    stale = GaugeMetricFamily(
        PREFIX + "upstream_stale",
        "Whether the server's name, or the SRV records that it is from, cannot be resolved now, so that"
        " the last addresses stay in use.",
        labels=["upstream"],
    )
    for server in servers:
        sessions.add_metric([server.name], server.sessions)
        weights.add_metric([server.name], server.weight)
        stale.add_metric([server.name], server.stale)
    return [sessions, weights, stale]


def _queues(servers: Sequence[UpstreamHealth]) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "upstream_queue",
        "Opens that wait for a place on a server of the group.",
        labels=["group"],
    )
    for group, waiting in {server.group: server.waiting for server in servers}.items():
        family.add_metric([group], waiting)
    return family


def _checks(servers: Sequence[UpstreamHealth]) -> Metric:
    family = HistogramMetricFamily(
        PREFIX + "upstream_check_seconds",
        "Duration of health checks of the server.",
        labels=["upstream", "outcome"],
    )
    for server in servers:
        for outcome, counts in server.checks.items():
            add_histogram(family, counts, [server.name, outcome])
    return family
