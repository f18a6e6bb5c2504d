"""Collector of the aggregate metrics of one worker, over the plain counters of its sessions.

All labels have closed sets of values: protocol, listener and upstream as configured, command, direction,
state, reason, cause, outcome. All series that can occur exist from the start (``labels``). Metrics of
single sessions are in ``session_collector``.

The sums over sessions are taken in slices, between which other events are processed: first the totals of
ended sessions and the list of active ones, at one moment; then the active ones, a few at a time. Counters
never shrink: a session that ends in the meantime can repeat an answer after it was added up, so the sums of
the last scrape are lower bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

from attrs import define
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from gateway.telemetry.exposition.gateway_collector import GatewayCollector
from gateway.telemetry.exposition.histograms import add_histogram
from gateway.telemetry.exposition.labels import TUNNELLED
from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.sources import Sources
from gateway.telemetry.logs.refusals import CAUSES
from gateway.telemetry.measurement.event_loop import Loop
from gateway.telemetry.measurement.totals import LATENCIES
from gateway.telemetry.sessions import COUNTS, Sessions, add_living
from gateway.telemetry.sessions import Labels as SessionLabels
from gateway.telemetry.summary import Measured

# Adding up a session takes about 3 us.
_SLICE: Final = 250

_LATENCY_HELP: Final = {
    "upstream_connect": "From the decision to open a session to its upstream connection.",
    "downstream_wait": "From the arrival of upstream data to the answer that carries it.",
    "upstream_delay": "From the arrival of a body to its write upstream, in its turn.",
    "poll_gap": "From an answer to the client's next command.",
    "ping_client": "From an RTMP ping of the upstream to the client's response, seen from the gateway.",
    "ping_upstream": "From an RTMP ping of a client to the upstream's response, seen from the gateway.",
    "media_late": "Lateness of media by its own timestamps, against the earliest of the last minute.",
}
_WHERE: Final = ("protocol", "listener", "upstream")
# Counter, help text, label, and the counts by its values.
_BYTES: Final = (
    *("bytes", "RTMP bytes relayed.", "direction"),
    {"up": "bytes_up", "down": "bytes_down"},
)
_OF_TUNNELS: Final = (
    (
        "commands",
        "Commands that took effect.",
        "command",
        {"send": "sends", "idle": "idles", "close": "closes"},
    ),
    ("repeats", "Repeated commands.", "", {"": "repeats"}),
    ("reorders", "Commands that arrived out of order.", "", {"": "early"}),
    ("held_answers", "Answers to held idles.", "", {"": "holds"}),
    ("empty_answers", "Answers without data.", "", {"": "empty_answers"}),
    ("filled_answers", "Answers with upstream data.", "", {"": "filled_answers"}),
    ("streamed_answers", "Streamed answers.", "", {"": "streamed_answers"}),
    ("streamed_answer_bytes", "RTMP bytes in streamed answers.", "", {"": "streamed_bytes"}),
    ("streamed_answer_seconds", "Total duration of streamed answers.", "", {"": "streamed_s"}),
)
# Latencies of which most values are 0, and the count of these.
_PROMPT: Final = {"upstream_delay": "prompt_ups", "downstream_wait": "prompt_downs"}


@define
class _Sums:
    """Sums over the ended sessions, and over the active ones added so far."""

    counts: dict[SessionLabels, list[float]]
    states: Counter[tuple[str, str]]
    buffered_bytes: int = 0

    def add(self, session: Measured) -> None:
        """Add a session that was active at the start of the scrape."""
        add_living(self.counts, session)
        self.buffered_bytes += session.counted.buffered_bytes
        position = session.counted.position
        if position != "ended":
            self.states[session.ingress.protocol, position] += 1


@final
class WorkerCollector(Collector):
    """The aggregates of one worker, with those of its process and of Python."""

    def __init__(self, sessions: Sessions, loop: Loop, sources: Sources) -> None:
        self._sessions = sessions
        self._sources = sources
        self._shown: dict[SessionLabels, list[float]] = {}
        self._gateway = GatewayCollector(loop, sources)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._gateway)
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        return (family for family in self.families() if family is not None)

    def families(self) -> Iterator[Metric | None]:
        """The families. None: the caller may process other events before the next one."""
        sums, active = self._begin()
        for start in range(0, len(active), _SLICE):
            for session in active[start : start + _SLICE]:
                sums.add(session)
            yield None
        del active
        self._keep_growing(sums.counts)
        yield from self._counters(sums.counts)
        yield from self._latencies(sums.counts)
        labels = ("protocol", "state")
        yield _labelled(GaugeMetricFamily, "sessions", "Active sessions.", labels, sums.states)
        self._gateway.buffered_bytes = sums.buffered_bytes
        yield from self._registry.collect()

    def forget_server(self, server: str) -> None:
        """The sums of this server may begin anew."""
        self._shown = {
            labels: counts for labels, counts in self._shown.items() if labels[-1] != server
        }

    def _begin(self) -> tuple[_Sums, list[Measured]]:
        """The sums of all ended sessions, including zeros, and the active sessions."""
        ended, active = self._sessions.sums()
        expected = self._sources.expected
        for where in expected.sums(server.name for server in self._sources.upstreams()):
            ended.setdefault(where, [0] * len(COUNTS))
        return _Sums(ended, Counter(dict.fromkeys(expected.states(), 0))), active

    def _keep_growing(self, sums: dict[SessionLabels, list[float]]) -> None:
        for labels, counts in sums.items():
            shown = self._shown.get(labels, counts)
            counts[:] = map(max, counts, shown)
        self._shown = sums

    def _counters(self, sums: dict[SessionLabels, list[float]]) -> Iterator[Metric]:
        yield _summed(_BYTES, sums)
        # Relays have none of these.
        tunnels = {where: counts for where, counts in sums.items() if where[0] in TUNNELLED}
        for each in _OF_TUNNELS:
            yield _summed(each, tunnels)
        sessions = self._sessions
        opened = {**dict.fromkeys(sums, 0), **sessions.opened}
        help_text = "Sessions opened, with an upstream connection."
        yield _labelled(CounterMetricFamily, "sessions_opened", help_text, _WHERE, opened)
        ended = {**dict.fromkeys(self._sources.expected.ends(), 0), **sessions.ended}
        help_text = "Sessions ended, by reason; abandoned is not an error."
        labels = ("protocol", "reason")
        yield _labelled(CounterMetricFamily, "sessions_ended", help_text, labels, ended)
        refused = {**dict.fromkeys(CAUSES, 0), **sessions.refused}
        causes = {(cause,): count for cause, count in refused.items()}
        help_text = "Sessions that could not be opened, by cause; draining is not an error."
        yield _labelled(CounterMetricFamily, "opens_refused", help_text, ("cause",), causes)

    def _latencies(self, sums: dict[SessionLabels, list[float]]) -> Iterator[Metric]:
        for name in LATENCIES:
            family = HistogramMetricFamily(
                f"{PREFIX}{name}_seconds", _LATENCY_HELP[name], labels=["protocol"]
            )
            for protocol, histograms in self._sessions.totals.protocols.items():
                buckets = list(getattr(histograms, name))
                if name in _PROMPT:
                    index = COUNTS.index(_PROMPT[name])
                    buckets[0] += sum(
                        counts[index] for where, counts in sums.items() if where[0] == protocol
                    )
                if any(buckets) or self._sources.expected.has(name, protocol):
                    add_histogram(family, buckets, [protocol])
            yield family


def _summed(
    counter: tuple[str, str, str, Mapping[str, str]], sums: Mapping[SessionLabels, list[float]]
) -> Metric:
    name, help_text, label, parts = counter
    labels = [*_WHERE, label] if label else list(_WHERE)
    family = CounterMetricFamily(PREFIX + name, help_text, labels=labels)
    for where, counts in sums.items():
        for part, source in parts.items():
            own = (part,) if label else ()
            family.add_metric([*where, *own], counts[COUNTS.index(source)])
    return family


def _labelled(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    help_text: str,
    labels: tuple[str, ...],
    values: Mapping[Any, float],
) -> Metric:
    family = kind(PREFIX + name, help_text, labels=list(labels))
    for found, value in values.items():
        family.add_metric(list(found), value)
    return family
