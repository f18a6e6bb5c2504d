"""The queue for a place on a server: in order, bounded, and for a limited time."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.errors import UpstreamFull
from gateway.upstreams.waiting import LOOK_S, WaitingQueue


class Bench:
    """A queue of four for two seconds, and places that are taken by the one who gets them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = WaitingQueue(self.clock, self.clock.seconds, 4, 2.0)
        self.places = 0
        self.served: list[str] = []
        self.refused: dict[str, float] = {}

    def join(self, name: str, deadline: float = inf, needs: int = 1) -> None:
        async def wait() -> None:
            try:
                await self.queue.wait(lambda: self.places >= needs, deadline)
            except UpstreamFull:
                self.refused[name] = self.clock.seconds()
            else:
                self.places -= needs
                self.served.append(name)

        result: Deferred[Any] = Deferred.fromCoroutine(wait())
        result.addErrback(lambda failure: pytest.fail(str(failure)))

    def free(self, places: int) -> None:
        self.places += places
        self.clock.advance(LOOK_S)


def test_places_are_given_in_the_order_of_arrival() -> None:
    bench = Bench()
    for name in "abcd":
        bench.join(name)
    assert len(bench.clock.getDelayedCalls()) == 1
    bench.free(2)
    assert bench.served == ["a", "b"]
    bench.join("e")
    bench.free(2)
    assert bench.served == ["a", "b", "c", "d"]
    assert len(bench.queue) == 1


def test_one_for_whom_there_is_no_place_does_not_keep_others_from_theirs() -> None:
    bench = Bench()
    bench.join("a", needs=2)
    bench.join("b")
    assert not bench.queue.is_claimed
    bench.places = 1
    assert bench.queue.is_claimed
    bench.free(0)
    assert bench.served == ["b"]
    bench.free(2)
    assert bench.served == ["b", "a"]


def test_more_than_may_wait_are_refused_at_once() -> None:
    bench = Bench()
    for name in "abcdef":
        bench.join(name)
    assert bench.refused == {"e": 0.0, "f": 0.0}
    bench.free(9)
    assert bench.served == ["a", "b", "c", "d"]


def test_the_wait_ends_with_the_queues_seconds_or_the_deadline_of_the_open() -> None:
    bench = Bench()
    bench.join("a")
    bench.join("b", deadline=1.0)
    for _ in range(50):
        bench.clock.advance(LOOK_S)
    assert 1.0 <= bench.refused["b"] <= 1.0 + 2 * LOOK_S
    assert 2.0 <= bench.refused["a"] <= 2.0 + 2 * LOOK_S
    assert not len(bench.queue)


def test_nothing_runs_while_nothing_waits() -> None:
    bench = Bench()
    bench.join("a")
    bench.free(1)
    assert bench.served == ["a"]
    assert not bench.clock.getDelayedCalls()
    bench.join("b")
    bench.free(1)
    assert bench.served == ["a", "b"]
    assert not bench.clock.getDelayedCalls()


def test_a_fault_of_one_that_waits_is_its_own() -> None:
    bench = Bench()

    def fail() -> bool:
        raise RuntimeError("a fault")

    failed: list[Any] = []
    Deferred.fromCoroutine(bench.queue.wait(fail, inf)).addErrback(failed.append)
    bench.join("a")
    bench.free(1)
    assert bench.served == ["a"]
    assert [failure.type for failure in failed] == [RuntimeError]
    bench.join("b")
    bench.free(1)
    assert bench.served == ["a", "b"]
