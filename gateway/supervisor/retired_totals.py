"""The totals of workers that have ended, so that no counter of the gateway ever falls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, final

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.protocols.reasons import EndReason
from gateway.telemetry.exposition.merging import PREFIX, merged

_LASTING: Final = ("counter", "histogram")


@final
class RetiredTotals:
    """``families``: counters and histograms of all ended workers together."""

    def __init__(self) -> None:
        self.families: list[Metric] = []

    def add(self, families: Iterable[Metric], lost_sessions: Mapping[str, int]) -> None:
        """A worker has ended. ``families``: its metrics, as far as they are known. ``lost_sessions``: its
        sessions that ended with it, by protocol.
        """
        lasting = [family for family in families if family.type in _LASTING]
        self.families = merged([self.families, lasting, [_lost(lost_sessions)]])


def _lost(sessions: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        PREFIX + "sessions_ended", "Sessions by end reason.", labels=["protocol", "reason"]
    )
    for protocol, number in Counter(sessions).items():
        if number:
            family.add_metric([protocol, EndReason.WORKER_LOST.value], number)
    return family
