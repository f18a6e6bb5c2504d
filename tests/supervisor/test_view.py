"""Answers of several workers, merged."""

from __future__ import annotations

from prometheus_client.core import GaugeMetricFamily

from gateway.supervisor.view import merged_health, with_health
from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.sources import UpstreamHealth


def health(up: bool, tried_at: float, failures: int = 0, silent_s: float = 0.0) -> UpstreamHealth:
    return UpstreamHealth("media:1935", up, up, failures, [1, 0, 2], silent_s, tried_at)


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


def test_failures_and_dials_add_up_and_the_longest_silence_counts() -> None:
    (server,) = merged_health([[health(True, 1, 2, 3.0)], [health(True, 2, 3, 1.0)]])
    assert (server.failures, server.dials, server.silent_s) == (5, [2, 0, 4], 3.0)


def test_servers_that_some_workers_have_only_are_kept() -> None:
    other = UpstreamHealth("other:1935", True, True, 0, [0, 0, 0])
    names = [server.name for server in merged_health([[health(True, 1)], [health(True, 1), other]])]
    assert names == ["media:1935", "other:1935"]


def test_the_metric_says_the_same() -> None:
    family = GaugeMetricFamily(PREFIX + "upstream_up", "Up.", labels=["upstream"])
    family.add_metric(["media:1935"], 0)
    (found,) = with_health([family], [health(True, 1)])
    assert [sample.value for sample in found.samples] == [1]
