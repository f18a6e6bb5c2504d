"""Totals of workers that have ended."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.supervisor.retired_totals import RetiredTotals
from gateway.telemetry.exposition.merging import PREFIX, merged


def families(count: float) -> list[Metric]:
    counter = CounterMetricFamily(PREFIX + "bytes", "Bytes.", labels=["direction"])
    counter.add_metric(["up"], count)
    return [counter, GaugeMetricFamily(PREFIX + "sessions", "Sessions.", 3)]


def values(found: list[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix(PREFIX), *sample.labels.values()): sample.value
        for family in found
        for sample in family.samples
    }


def test_counters_add_up_and_gauges_end_with_their_worker() -> None:
    totals = RetiredTotals()
    totals.add(families(5), {})
    totals.add(families(7), {})
    assert values(totals.families) == {("bytes_total", "up"): 12}


def test_sessions_that_ended_with_their_worker_are_counted_by_that_reason() -> None:
    totals = RetiredTotals()
    totals.add([], {"rtmpt": 3, "rtmp": 0})
    totals.add([], {"rtmpt": 1})
    assert values(totals.families) == {("sessions_ended_total", "rtmpt", "worker_lost"): 4}


def test_a_gateways_counters_do_not_fall_when_a_worker_ends() -> None:
    totals = RetiredTotals()
    before = values(merged([families(5), families(7)]))
    totals.add(families(7), {})
    after = values(merged([totals.families, families(5)]))
    assert after["bytes_total", "up"] == before["bytes_total", "up"] == 12
