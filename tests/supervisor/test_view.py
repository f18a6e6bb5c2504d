"""Answers of several workers, merged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from math import inf
from typing import Any

import attrs
import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred

from gateway.supervisor.retired_totals import RetiredTotals
from gateway.supervisor.view import GatewayView, merged_health, with_health
from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.workers.plain_values import plain_family


def health(
    up: bool, tried_at: float, failures: int = 0, unanswered_s: float = 0.0, heard_s: float = inf
) -> UpstreamHealth:
    return UpstreamHealth(
        *("media:1935", up, up, failures, [1, 0, 2]), tried_at, unanswered_s, heard_s
    )


def test_the_last_connect_shows_whether_a_server_is_up() -> None:
    for workers in ([health(False, 10), health(True, 20)], [health(True, 20), health(False, 10)]):
        (server,) = merged_health([each] for each in workers)
        assert server.up
        assert server.due
    (server,) = merged_health([[health(True, 10)], [health(False, 20)]])
    assert not server.up


def test_a_worker_that_has_not_tried_knows_nothing() -> None:
    (server,) = merged_health([[health(True, 0.0)], [health(False, 5)], [health(True, 0.0)]])
    assert not server.up


class EndingWorker:
    """A worker that sends its totals while it is asked for its metrics."""

    prefix = "0001"
    has_ended = has_totals = is_retiring = False
    families: Sequence[Metric] = ()

    def __init__(self) -> None:
        self.channel = self

    async def stream(self, name: str) -> AsyncIterator[Any]:
        yield plain_family(CounterMetricFamily("ended", "Help.", 1))
        self.has_totals, self.families = True, [CounterMetricFamily("ended", "Help.", 2)]

    async def call(self, name: str) -> list[Any]:
        return []

    def note_families(self, families: Sequence[Metric]) -> None:
        self.families = families


class Workers:
    """One worker."""

    restarts = 0

    def __init__(self, worker: Any) -> None:
        self.running = (worker,)
        self.totals = RetiredTotals()


class Reloads:
    reloads: Mapping[str, int] = {}


def view_of(worker: Any) -> GatewayView:
    workers: Any = Workers(worker)
    nothing: Any = Reloads()
    return GatewayView(workers, nothing, None, nothing)


def values_of(found: Sequence[Metric], name: str) -> list[float]:
    return [sample.value for family in found if family.name == name for sample in family.samples]


def test_the_totals_of_a_worker_are_not_replaced_by_earlier_figures() -> None:
    found: list[Any] = []
    Deferred.fromCoroutine(view_of(EndingWorker()).families()).addBoth(found.extend)
    assert values_of(found, "ended") == [2]


class SlowWorker:
    """A worker whose answers arrive when the test says so, each with a higher count."""

    prefix = "0001"
    has_ended = has_totals = is_retiring = False
    families: Sequence[Metric] = ()

    def __init__(self) -> None:
        self.channel = self
        self.count = 0
        self.asked: list[Deferred[None]] = []

    async def stream(self, name: str) -> AsyncIterator[Any]:
        self.count += 1
        family = plain_family(CounterMetricFamily("counted", "Help.", self.count))
        answered: Deferred[None] = Deferred()
        self.asked.append(answered)
        await answered
        yield family

    async def call(self, name: str) -> list[Any]:
        return []

    def note_families(self, families: Sequence[Metric]) -> None:
        self.families = families


def test_counters_do_not_fall_if_the_answers_to_two_scrapes_arrive_in_another_order() -> None:
    worker = SlowWorker()
    view = view_of(worker)
    found: list[float] = []

    def scrape() -> None:
        Deferred.fromCoroutine(view.families()).addCallback(
            lambda families: found.extend(values_of(families, "counted"))
        )

    scrape()
    scrape()
    # The latest first.
    while worker.asked:
        worker.asked.pop().callback(None)
    scrape()
    worker.asked.pop().callback(None)
    assert found == sorted(found)
    assert len(found) == 3
    assert values_of(worker.families, "counted") == [worker.count]


def test_failures_and_dials_add_up() -> None:
    (server,) = merged_health([[health(True, 1, 2)], [health(True, 2, 3)]])
    assert (server.failures, server.dials) == (5, [2, 0, 4])


def test_sessions_waits_and_failures_by_reason_add_up() -> None:
    one, other = (
        attrs.evolve(
            health(True, 1), sessions=number, waiting=number, failure_reasons={"refused": number}
        )
        for number in (2, 3)
    )
    (server,) = merged_health([[one], [other]])
    assert (server.sessions, server.waiting) == (5, 5)
    assert server.failure_reasons == {"refused": 5}


@pytest.mark.parametrize(
    ("heard_s", "silent_s"),
    [((inf, inf), 8.0), ((9.0, inf), 8.0), ((inf, 7.0), 0.0), ((7.0, 30.0), 0.0)],
)
def test_a_server_is_silent_if_no_worker_has_heard_it_since(
    heard_s: tuple[float, float], silent_s: float
) -> None:
    one = health(True, 1, unanswered_s=8.0, heard_s=heard_s[0])
    other = health(True, 2, unanswered_s=5.0, heard_s=heard_s[1])
    (server,) = merged_health([[one], [other]])
    assert server.silent_s == silent_s


def test_servers_that_only_some_workers_know_are_listed() -> None:
    other = UpstreamHealth("other:1935", True, True, 0, [0, 0, 0])
    names = [server.name for server in merged_health([[health(True, 1)], [health(True, 1), other]])]
    assert names == ["media:1935", "other:1935"]


@pytest.mark.parametrize(("name", "value"), [("upstream_up", 1), ("upstream_silent_seconds", 8)])
def test_the_metrics_say_the_same(name: str, value: float) -> None:
    family = GaugeMetricFamily(PREFIX + name, "Help.", labels=["upstream"])
    family.add_metric(["media:1935"], 0)
    (found,) = with_health([family], [health(True, 1, unanswered_s=8.0)])
    assert [sample.value for sample in found.samples] == [value]
