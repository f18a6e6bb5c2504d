"""The race of ways: which begins when, which one is used, and which are given up."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.way_race import STAGGER_S, WayRace

WAYS = ["rtmp", "rtmps", "rtmpt", "rtmpts"]
TIMEOUT_S = 10.0


def begun(now: float = 0.0, ways: list[str] = WAYS, head_start_s: float = STAGGER_S) -> Race:
    race: Race = WayRace(ways, now, TIMEOUT_S, head_start_s)
    assert race.expire(now) == ways[:1]
    return race


Race = WayRace[str, str]


def test_each_way_begins_a_quarter_of_a_second_after_the_one_before_it() -> None:
    race = begun(100.0)
    for count, way in enumerate(WAYS[1:], 1):
        at = 100.0 + count * 0.25
        assert race.deadline == at
        assert race.expire(at - 0.001) == []
        assert race.expire(at) == [way]
    assert race.running == WAYS
    assert race.deadline == 100.0 + TIMEOUT_S


def test_the_next_way_begins_at_once_when_one_fails() -> None:
    race = begun()
    assert race.fail("rtmp", "refused", 0.01) == ["rtmps"]
    assert race.deadline == 0.01 + STAGGER_S
    assert race.failures == {"rtmp": "refused"}
    assert race.running == ["rtmps"]


def test_a_failure_of_an_earlier_way_begins_the_next_one_too() -> None:
    race = begun()
    race.expire(0.25)
    assert race.fail("rtmp", "refused", 0.3) == ["rtmpt"]


def test_the_first_way_has_its_head_start() -> None:
    race = begun(head_start_s=0.8)
    assert race.expire(0.79) == []
    assert race.expire(0.8) == ["rtmps"]
    assert race.deadline == pytest.approx(0.8 + STAGGER_S)


def test_the_first_answer_decides_and_the_others_are_given_up() -> None:
    race = begun()
    race.expire(0.25)
    race.expire(0.5)
    assert race.win("rtmps") == ["rtmp", "rtmpt"]
    assert race.winner == "rtmps"
    assert race.is_over
    assert race.deadline == inf
    assert race.expire(0.75) == []
    assert race.fail("rtmp", "closed", 0.8) == []
    assert race.failures == {}


def test_a_race_without_an_answer_is_lost_with_the_last_failure() -> None:
    race = begun(ways=["rtmp", "rtmps"])
    race.fail("rtmp", "refused", 0.1)
    assert not race.is_lost
    race.fail("rtmps", "closed", 0.2)
    assert race.is_lost
    assert race.is_over
    assert race.deadline == inf
    assert list(race.failures.items()) == [("rtmp", "refused"), ("rtmps", "closed")]


def test_after_the_time_out_nothing_begins_and_the_rest_is_failed() -> None:
    race = begun(ways=["rtmp", "rtmps"], head_start_s=2 * TIMEOUT_S)
    assert not race.is_late(TIMEOUT_S - 0.001)
    assert race.deadline == TIMEOUT_S
    assert race.is_late(TIMEOUT_S)
    assert race.expire(TIMEOUT_S) == []
    assert race.fail("rtmp", "no answer", TIMEOUT_S) == []
    assert race.is_lost


def test_a_failure_of_a_way_that_does_not_run_is_ignored() -> None:
    race = begun()
    assert race.fail("rtmpt", "refused", 0.1) == []
    assert race.failures == {}


@given(
    st.lists(
        st.tuples(st.sampled_from(["time", "fail", "win"]), st.integers(0, 3), st.floats(0, 2)),
        max_size=30,
    )
)
def test_a_race_ends_in_any_case_and_begins_no_way_twice(
    steps: list[tuple[str, int, float]],
) -> None:
    now = 0.0
    race = begun()
    ways = ["rtmp"]
    for step, index, passed_s in steps:
        now += passed_s
        if step == "win" and race.running:
            winner = race.running[index % len(race.running)]
            others = set(race.running) - {winner}
            assert set(race.win(winner)) == others
            break
        if step == "fail" and race.running:
            ways += race.fail(race.running[index % len(race.running)], "lost", now)
        else:
            ways += race.expire(now)
    while not race.is_over:
        now = max(now, race.deadline)
        if race.is_late(now):
            for way in list(race.running):
                ways += race.fail(way, "late", now)
            # What has not begun is not waited for.
            assert race.is_lost
        else:
            ways += race.expire(now)
    assert len(ways) == len(set(ways))
    assert not race.running
