"""Histogram families from the counts by bucket of ``latency``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client.core import HistogramMetricFamily

from gateway.telemetry.measurement.latency import MIDDLES, upper_bound

# 0.5 ms to 16.384 s, each twice the one before.
_BOUNDS: Final = range(8, 69, 4)


def add_histogram(
    family: HistogramMetricFamily, counts: Sequence[int], labels: Sequence[str] = ()
) -> None:
    """Add a histogram. Its sum is calculated from the middles of the buckets, within 10 %."""
    buckets = []
    until = counted = 0
    for bound in _BOUNDS:
        until += sum(counts[counted : bound + 1])
        counted = bound + 1
        buckets.append((f"{upper_bound(bound):.6g}", until))
    buckets.append(("+Inf", until + sum(counts[counted:])))
    total = sum(count * middle for count, middle in zip(counts, MIDDLES, strict=True) if count)
    family.add_metric(list(labels), buckets, total)
