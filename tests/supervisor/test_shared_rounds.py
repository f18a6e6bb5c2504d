"""Rounds of work that many ask for."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from gateway.supervisor.shared_rounds import SharedRounds


class Work:
    """Rounds that the test ends."""

    def __init__(self) -> None:
        self.begun: list[Deferred[None]] = []
        self.rounds = SharedRounds(self.round)

    async def round(self) -> None:
        self.begun.append(Deferred())
        await self.begun[-1]

    def join(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.rounds.join())


def test_calls_during_a_round_share_the_next_one() -> None:
    work = Work()
    first, second, third = work.join(), work.join(), work.join()
    assert len(work.begun) == 1
    work.begun[0].callback(None)
    assert (first.called, second.called, third.called) == (True, False, False)
    assert len(work.begun) == 2
    late = work.join()
    work.begun[1].callback(None)
    assert (second.called, third.called, late.called) == (True, True, False)
    work.begun[2].callback(None)
    assert late.called
    assert len(work.begun) == 3


def test_a_failed_round_is_that_of_its_calls_only() -> None:
    work = Work()
    first, second = work.join(), work.join()
    work.begun[0].errback(ValueError("a fault"))
    with pytest.raises(ValueError, match="a fault"):
        first.result.raiseException()  # type: ignore[attr-defined]
    first.addErrback(lambda _: None)
    work.begun[1].callback(None)
    assert second.called
    third = work.join()
    work.begun[2].callback(None)
    assert third.called


def test_a_call_that_is_given_up_ends_no_round() -> None:
    work = Work()
    first, second = work.join(), work.join()
    first.cancel()
    first.addErrback(lambda _: None)
    work.begun[0].callback(None)
    work.begun[1].callback(None)
    assert second.called
