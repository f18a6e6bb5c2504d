"""Replacement of publishers, in one worker and over several."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from gateway.telemetry.replaced_publishers import ReplacedPublishers
from gateway.telemetry.summary import Summary
from tests.helpers.admin_server import summary

NAME = ("live", "stream", "192.0.2.1")


def publisher(alias: str, **changes: Any) -> Summary:
    publishes = summary(alias=alias, action="publish")
    application, stream, address = NAME
    return attrs.evolve(
        publishes, **{"application": application, "stream": stream, "address": address, **changes}
    )


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.replaced: list[str] = []
        self.announced: list[tuple[str, tuple[str, str, str], float]] = []
        self.publishers = ReplacedPublishers(self.replaced.append, lambda: self.now)
        self.publishers.announce = lambda *values: self.announced.append(values)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_newer_publisher_of_the_same_stream_ends_the_older_one(bench: Bench) -> None:
    for alias in ("n-1", "n-2", "n-3"):
        bench.publishers.stream_began(publisher(alias))
    assert bench.replaced == ["n-1", "n-2"]


@pytest.mark.parametrize(
    "changes",
    [{"stream": "other"}, {"application": "other"}, {"address": "192.0.2.2"}, {"action": "play"}],
    ids=str,
)
def test_other_streams_addresses_and_players_are_left_alone(
    bench: Bench, changes: dict[str, str]
) -> None:
    bench.publishers.stream_began(publisher("n-1"))
    bench.publishers.stream_began(publisher("n-2", **changes))
    assert bench.replaced == []


def test_a_publisher_that_has_ended_is_not_replaced(bench: Bench) -> None:
    bench.publishers.stream_began(publisher("n-1"))
    bench.publishers.ended(publisher("n-1"))
    bench.publishers.stream_began(publisher("n-2"))
    assert bench.replaced == []


def test_a_publisher_that_has_ended_with_another_stream_is_forgotten(bench: Bench) -> None:
    bench.publishers.stream_began(publisher("n-1"))
    bench.publishers.ended(publisher("n-1", stream="other"))
    bench.publishers.stream_began(publisher("n-2"))
    assert bench.replaced == []


def test_each_publisher_is_announced_to_other_workers_with_its_time(bench: Bench) -> None:
    bench.publishers.stream_began(publisher("n-1"))
    assert bench.announced == [("n-1", NAME, 100.0)]


@pytest.mark.parametrize(("since", "replaced"), [(100.0, ["n-1"]), (101.0, ["n-1"]), (99.9, [])])
def test_a_publisher_of_another_worker_replaces_an_older_one_only(
    bench: Bench, since: float, replaced: list[str]
) -> None:
    bench.publishers.stream_began(publisher("n-1"))
    bench.publishers.replace_older(NAME, since)
    assert bench.replaced == replaced
