"""Totals of workers that have ended, and of servers that workers have forgotten."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.protocols.reasons import EndReason
from gateway.supervisor.retired_totals import RetiredTotals
from gateway.telemetry.exposition.merging import PREFIX, merged
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.exposition.worker_collector import WorkerCollector
from gateway.telemetry.measurement.latency import BUCKETS
from gateway.telemetry.measurement.totals import FAILURES
from tests.helpers.fabricated_telemetry import Node

SERVER = "192.0.2.1:1935"


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


class Worker:
    """A worker's telemetry, and what the supervisor has of it. ``dials``: of its server, by bucket."""

    def __init__(self, totals: RetiredTotals) -> None:
        self.totals = totals
        self.families: list[Metric] = []
        self.node = Node()
        self.node.sources.upstreams = lambda: self.servers
        self.node.metrics = WorkerCollector(self.node.sessions, self.node.loop, self.node.sources)
        self.servers: list[UpstreamHealth] = []

    def serves(self, sessions: int, *dials: int) -> None:
        """So many sessions of the server begin and end, with 10 bytes each."""
        for _ in range(sessions):
            tunnel = self.node.open(server=SERVER)
            self.node.talk([tunnel], 10)
            tunnel.dismiss(EndReason.CLIENT_CLOSED)
        counts = [*dials, *[0] * (BUCKETS - len(dials))]
        reasons = {**dict.fromkeys(FAILURES, 0), "refused": sessions}
        self.servers = [UpstreamHealth(SERVER, True, True, 0, counts, failure_reasons=reasons)]

    def forgets(self) -> None:
        self.servers = []
        self.node.sessions.forget_server(SERVER)
        self.node.metrics.forget_server(SERVER)

    def is_scraped(self) -> None:
        found = list(self.node.metrics.collect())
        self.totals.keep_forgotten(self.families, found)
        self.families = found


def scraped(totals: RetiredTotals, *workers: Worker) -> dict[tuple[str, ...], float]:
    """The series of the server."""
    for worker in workers:
        worker.is_scraped()
    totals.forget_servers([worker.families for worker in workers])
    found = merged([totals.families, *(worker.families for worker in workers)])
    return {
        labels: value
        for labels, value in values([each for each in found if each.type != "gauge"]).items()
        if SERVER in labels
    }


def test_counters_of_a_server_do_not_fall_when_a_worker_forgets_it() -> None:
    totals = RetiredTotals()
    one, other, ended = Worker(totals), Worker(totals), Worker(totals)
    for worker, sessions in ((one, 5), (other, 2), (ended, 3)):
        worker.serves(sessions, 0, sessions)
    scraped(totals, one, other, ended)
    totals.add(ended.families, {})
    before = scraped(totals, one, other)
    assert before["sessions_opened_total", "rtmpt", "0.0.0.0:80", SERVER] == 10
    one.forgets()
    assert scraped(totals, one, other) == before
    # It has returned, and its counters have begun anew.
    one.serves(1, 1)
    after = scraped(totals, one, other)
    assert after["sessions_opened_total", "rtmpt", "0.0.0.0:80", SERVER] == 11
    assert after["upstream_dial_seconds_count", SERVER] == 11
    assert all(value >= before[series] for series, value in after.items())


def test_a_server_that_left_and_returned_between_two_scrapes_is_counted_on() -> None:
    totals = RetiredTotals()
    worker = Worker(totals)
    # A histogram in which the new counts reach the old ones in some buckets only.
    worker.serves(5, 5)
    before = scraped(totals, worker)
    worker.forgets()
    worker.serves(2, *[0] * 60, 6)
    after = scraped(totals, worker)
    assert after["sessions_opened_total", "rtmpt", "0.0.0.0:80", SERVER] == 7
    assert after["bytes_total", "rtmpt", "0.0.0.0:80", SERVER, "up"] == 70
    assert after["upstream_dial_seconds_count", SERVER] == 11
    buckets = [value for series, value in after.items() if "dial_seconds_bucket" in series[0]]
    assert buckets == sorted(buckets)
    assert all(value >= before[series] for series, value in after.items())


def test_the_series_of_a_server_end_when_no_worker_has_it() -> None:
    totals = RetiredTotals()
    one, other, ended = Worker(totals), Worker(totals), Worker(totals)
    for worker in (one, other, ended):
        worker.serves(2, 2)
    scraped(totals, one, other, ended)
    totals.add(ended.families, {})
    one.forgets()
    assert scraped(totals, one, other)
    other.forgets()
    assert scraped(totals, one, other) == {}
    assert all(
        SERVER not in sample.labels.values()
        for family in totals.families
        for sample in family.samples
    )


def test_a_server_that_only_ended_workers_have_had_is_forgotten_if_it_is_of_srv_records() -> None:
    totals = RetiredTotals()
    ended, other = Worker(totals), Worker(totals)
    ended.serves(1, 1)
    scraped(totals, ended, other)
    totals.add(ended.families, {})
    assert scraped(totals, other)
    totals.note_passing([SERVER])
    assert scraped(totals, other) == {}
