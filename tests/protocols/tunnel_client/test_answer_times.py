"""One write at a time is timed, until the answer to the send that carries its last byte."""

from __future__ import annotations

from gateway.protocols.tunnel_client.answer_times import AnswerTimes


def test_a_write_is_timed_until_all_of_it_is_answered() -> None:
    times = AnswerTimes()
    assert not times.is_timing
    times.wrote(10, 1.0)
    assert times.is_timing
    times.answered(1, 1.25)
    assert times.take() == []
    times.answered(0, 1.5)
    assert not times.is_timing
    assert times.take() == [0.5]
    assert times.take() == []


def test_writes_behind_the_timed_one_are_not_waited_for() -> None:
    times = AnswerTimes()
    times.wrote(10, 1.0)
    times.wrote(30, 1.25)
    times.answered(30, 1.5)
    assert times.take() == [0.5]
    # Of what is still under way, nothing is timed.
    times.answered(0, 1.75)
    assert times.take() == []


def test_the_next_write_after_an_answer_is_timed() -> None:
    times = AnswerTimes()
    times.wrote(10, 1.0)
    times.answered(0, 1.25)
    times.wrote(10, 2.0)
    times.answered(10, 2.25)
    times.answered(0, 2.5)
    assert times.take() == [0.25, 0.5]
