"""Races between the addresses of a server, with attempts and a clock in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, NoRouteError
from twisted.internet.task import Clock

from gateway.upstreams.race import STAGGER_S, Race

_TIMEOUT_S = 3.0
# How long an attempt takes, and whether it succeeds.
Fate = tuple[float, bool]


class Attempt:
    """An attempt with a fate; it ends at its deadline if that is earlier."""

    def __init__(self, clock: Clock, fate: Fate, left_s: float, won: Callable[[], object]) -> None:
        self.began = clock.seconds()
        self.is_cancelled = False
        self.done: Deferred[None] = Deferred()
        self._won = won
        takes_s, succeeds = fate
        if takes_s > left_s:
            takes_s, succeeds = left_s, False
        self._end = clock.callLater(takes_s, self._succeed if succeeds else self._fail)

    def cancel(self) -> None:
        self.is_cancelled = True
        self._end.cancel()

    def _succeed(self) -> None:
        self._won()
        self.done.callback(None)

    def _fail(self) -> None:
        self.done.errback(NoRouteError())


class Run:
    """A race between the hosts "0", "1" ... with these fates, until its end."""

    def __init__(self, *fates: Fate) -> None:
        self.clock = Clock()
        self.attempts: dict[str, Attempt] = {}
        self.winner = ""
        self.ended_at = -1.0
        self.errors: list[Exception] = []
        self._fates = fates
        self.race = Race(self.clock, [*map(str, range(len(fates)))], self._begin, _TIMEOUT_S)
        self.race.done.addCallbacks(self._won, lambda failure: self._lost(failure.value))
        self.race.start()
        while self.clock.getDelayedCalls():
            self.clock.advance(
                max(0.0, self.clock.getDelayedCalls()[0].getTime() - self.clock.seconds())
            )

    def _begin(self, host: str, left_s: float, won: Callable[[], object]) -> Attempt:
        made = Attempt(self.clock, self._fates[int(host)], left_s, won)
        self.attempts[host] = made
        return made

    def _won(self, host: str) -> None:
        self.winner, self.ended_at = host, self.clock.seconds()

    def _lost(self, error: Exception) -> None:
        self.errors.append(error)
        self.ended_at = self.clock.seconds()


def test_a_single_address_has_no_timer() -> None:
    run = Run((0.5, True))
    assert (run.winner, run.ended_at, run.race.beaten) == ("0", 0.5, [])


def test_the_second_address_begins_after_a_quarter_of_a_second() -> None:
    run = Run((9.0, True), (0.1, True))
    assert run.attempts["1"].began == STAGGER_S
    assert (run.winner, run.ended_at) == ("1", STAGGER_S + 0.1)
    assert run.attempts["0"].is_cancelled
    assert run.race.beaten == ["0"]


def test_a_slower_first_address_still_wins_if_it_is_the_first_to_answer() -> None:
    run = Run((0.3, True), (0.2, True))
    assert run.winner == "0"
    assert run.attempts["1"].is_cancelled


def test_the_second_address_begins_when_the_first_one_fails() -> None:
    run = Run((0.1, False), (0.1, True), (0.1, True))
    assert run.attempts["1"].began == 0.1
    assert (run.winner, run.ended_at) == ("1", 0.2)
    assert "2" not in run.attempts
    assert [*run.race.failures] == run.race.beaten == ["0"]


def test_a_race_without_a_winner_fails_with_all_its_failures() -> None:
    run = Run((0.1, False), (0.4, False), (0.1, False))
    assert [type(error) for error in run.errors] == [NoRouteError]
    assert sorted(run.race.failures) == ["0", "1", "2"]
    assert all(isinstance(error, ConnectError) for error in run.race.failures.values())


fates = st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.3, 1.0, 2.9, 9.0]), st.booleans())


@given(st.lists(fates, min_size=1, max_size=20))
@example([(9.0, True)] * 20)
def test_a_race_has_one_end_in_time_and_leaves_nothing_behind(drawn: list[Fate]) -> None:
    run = Run(*drawn)
    assert bool(run.winner) is not bool(run.errors)
    assert run.ended_at <= _TIMEOUT_S
    for host, attempt in run.attempts.items():
        ended = attempt.done.called or attempt.is_cancelled
        assert ended
        assert (host in run.race.beaten) is (host != run.winner)
    began = [attempt.began for attempt in run.attempts.values()]
    assert began == sorted(began)
    assert began[-1] < _TIMEOUT_S
    assert all(later - earlier <= STAGGER_S + 1e-9 for earlier, later in pairwise(began))
    if not run.winner:
        # No address was left out that could have won in time.
        assert len(run.attempts) == len(drawn) or run.ended_at == _TIMEOUT_S


def test_a_race_that_is_given_up_cancels_its_attempts_and_begins_no_more() -> None:
    clock, attempts = Clock(), {}

    def begin(host: str, left_s: float, won: Callable[[], object]) -> Attempt:
        attempts[host] = Attempt(clock, (2.0, True), left_s, won)
        return attempts[host]

    race = Race(clock, ["0", "1", "2"], begin, _TIMEOUT_S)
    race.start()
    clock.advance(STAGGER_S)
    race.cancel()
    assert [each.is_cancelled for each in attempts.values()] == [True, True]
    assert clock.getDelayedCalls() == []
    assert not race.done.called
