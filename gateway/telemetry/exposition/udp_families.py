"""The metrics of UDP listeners beside those of their sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.sources import DatagramFigures


def udp_families(listeners: Mapping[str, DatagramFigures]) -> Iterator[Metric]:
    """The families; none without a listener."""
    if not listeners:
        return
    unproven = GaugeMetricFamily(
        PREFIX + "udp_unproven_sessions",
        "Sessions whose client has not proved its address; they are in no other metric before their end.",
        labels=["listener"],
    )
    datagrams = _counter("datagrams", "Relayed datagrams.", "direction")
    relayed_bytes = _counter("bytes", "Bytes in these.", "direction")
    dropped = _counter("dropped_datagrams", "Datagrams that were not relayed, by reason.", "reason")
    refused = _counter(
        "refused_datagrams", "Datagrams that an ICMP message has refused, by its sender.", "side"
    )
    for name, figures in listeners.items():
        unproven.add_metric([name], figures.unproven)
        for direction, counts in figures.relayed.items():
            datagrams.add_metric([name, direction], counts.datagrams)
            relayed_bytes.add_metric([name, direction], counts.bytes)
        for reason, count in figures.drops.items():
            dropped.add_metric([name, reason], count)
        for side, count in figures.refusals.items():
            refused.add_metric([name, side], count)
    yield from (unproven, datagrams, relayed_bytes, dropped, refused)


def _counter(name: str, help_text: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}udp_{name}", help_text, labels=["listener", label])
