"""The totals of workers that have ended, and of media servers that workers have forgotten, so that no
counter of the gateway ever falls.

Each worker forgets a server of SRV records by itself, and its series begin anew if the server returns. The
series of the gateway go on until no worker has the server. Then they end, because names would accumulate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.samples import Sample

from gateway.protocols.reasons import EndReason
from gateway.telemetry.exposition.merging import PREFIX, merged, with_samples

_LASTING: Final = ("counter", "histogram")
_SERVER: Final = "upstream"
_BOUND: Final = "le"


@final
class RetiredTotals:
    """``families``: counters and histograms of all ended workers together, and of forgotten servers."""

    def __init__(self) -> None:
        self.families: list[Metric] = []
        # The names of servers that come and go.
        self._passing: set[str] = set()

    def add(self, families: Iterable[Metric], lost_sessions: Mapping[str, int]) -> None:
        """A worker has ended. ``families``: its last known metrics. ``lost_sessions``: its sessions that
        ended with it, by protocol.
        """
        lasting = [family for family in families if family.type in _LASTING]
        self.families = merged([self.families, lasting, [_lost(lost_sessions)]])

    def keep_forgotten(self, before: Iterable[Metric], now: Iterable[Metric]) -> None:
        """The metrics of a worker were ``before``, and are ``now``. Keep the series of servers that are no
        longer there, or have begun anew.
        """
        kept = list(_ended_series(before, {family.name: family for family in now}))
        if kept:
            self.note_passing(name for family in kept for name in _servers_of([family]))
            self.families = merged([self.families, kept])

    def note_passing(self, servers: Iterable[str]) -> None:
        """Servers of SRV records, which can be forgotten."""
        self._passing.update(servers)

    def forget_servers(self, workers: Collection[Iterable[Metric]]) -> None:
        """End the series of servers that are in the metrics of no worker. Those of all must be known."""
        if not self._passing:
            return
        left = self._passing - {name for families in workers for name in _servers_of(families)}
        if not left:
            return
        self._passing -= left
        self.families = [
            with_samples(
                family, [each for each in family.samples if each.labels.get(_SERVER) not in left]
            )
            for family in self.families
        ]


def _servers_of(families: Iterable[Metric]) -> Iterator[str]:
    for family in _by_server(families):
        for sample in family.samples:
            yield sample.labels[_SERVER]


def _by_server(families: Iterable[Metric]) -> Iterator[Metric]:
    """Those with counters of servers. All samples of a family have the same labels."""
    for family in families:
        if family.type in _LASTING and family.samples and _SERVER in family.samples[0].labels:
            yield family


def _ended_series(before: Iterable[Metric], now: Mapping[str, Metric]) -> Iterator[Metric]:
    """The series that are missing in ``now``, or lower there. A histogram is one series."""
    for family in _by_server(before):
        current = now.get(family.name)
        values = {} if current is None else {_key(each): each.value for each in current.samples}
        ended = {
            _series(each) for each in family.samples if values.get(_key(each), -1.0) < each.value
        }
        if ended:
            samples = [each for each in family.samples if _series(each) in ended]
            yield with_samples(family, samples)


def _key(sample: Sample) -> tuple[str, ...]:
    return sample.name, *sample.labels.values()


def _series(sample: Sample) -> tuple[str, ...]:
    return tuple(value for label, value in sample.labels.items() if label != _BOUND)


def _lost(sessions: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        PREFIX + "sessions_ended", "Sessions by end reason.", labels=["protocol", "reason"]
    )
    for protocol, number in Counter(sessions).items():
        if number:
            family.add_metric([protocol, EndReason.WORKER_LOST.value], number)
    return family
