"""The summary of a tunnel's answers."""

from __future__ import annotations

import pytest

from gateway.port_test.held_idles import Answer, HeldIdles, delivery_of
from gateway.port_test.observations import Delivery, Holding


def test_the_longest_wait_for_an_empty_answer_is_the_hold() -> None:
    idles = HeldIdles()
    for wait in (248.0, 251.0):
        idles.answered(Answer(wait, wait, empty=True))
    idles.answered(Answer(900.0, 900.0, empty=False))
    assert idles.holding() == Holding(held_ms=251.0)


def test_the_first_cut_is_kept() -> None:
    idles = HeldIdles()
    idles.lost(1000.0)
    idles.lost(900.0)
    assert idles.holding() == Holding(cut_after_ms=1000.0)


@pytest.mark.parametrize(("fastest_ms", "lost_ms"), [(2.0, 5.0), (600.0, 500.0)])
def test_a_connection_lost_at_once_was_closed_after_its_last_answer(
    fastest_ms: float, lost_ms: float
) -> None:
    idles = HeldIdles()
    idles.answered(Answer(fastest_ms, fastest_ms, empty=True))
    idles.lost(lost_ms)
    assert idles.holding() == Holding(held_ms=fastest_ms, closes=True)


@pytest.mark.parametrize(
    ("answers", "delivery"),
    [
        ([], None),
        ([Answer(250.0, 250.0, empty=True)], None),
        # Soon, with the newest frame.
        ([Answer(38.0, 38.0, False, 40.0)] * 3, Delivery.WHOLE),
        # Filled over 400 ms.
        ([Answer(12.0, 412.0, False, 400.0)], Delivery.STREAMED),
        # The same one, behind a proxy that buffers it.
        ([Answer(412.0, 413.0, False, 400.0)], Delivery.BUFFERED),
        # A slow stream: the wait was for its next frame.
        ([Answer(500.0, 500.0, False, 40.0)], Delivery.WHOLE),
        # One that was streamed proves that nothing buffers.
        ([Answer(412.0, 413.0, False, 400.0), Answer(1.0, 300.0, False, 300.0)], Delivery.STREAMED),
    ],
)
def test_delivery_is_told_by_the_times_of_media(
    answers: list[Answer], delivery: Delivery | None
) -> None:
    assert delivery_of(answers) is delivery
