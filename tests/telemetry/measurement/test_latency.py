"""Estimates of latencies over the last minute: precision, and expiry."""

from __future__ import annotations

import sys
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.measurement.latency import (
    BUCKETS,
    LEAST_S,
    MIDDLES,
    NOTHING,
    PENDING,
    SlidingDelay,
    SlidingGaps,
    SlidingMinute,
    upper_bound,
)

SECONDS = st.floats(LEAST_S, 32.0)
VALUES = st.lists(SECONDS, min_size=1, max_size=400)


def within(estimate: float, truth: float) -> bool:
    """Whether the estimate is within 3 % from a millisecond on, else within 10 %."""
    return abs(estimate - truth) <= (0.03 if truth >= 0.001 else 0.1) * truth


def check(estimate, values: list[float]) -> None:
    ordered = sorted(values)
    assert estimate.max_s == pytest.approx(ordered[-1], rel=1e-6)
    assert estimate.last_s <= estimate.max_s
    assert estimate.p50_s <= estimate.p95_s <= estimate.max_s
    assert estimate.count == len(values)
    assert within(estimate.p50_s, ordered[(len(ordered) + 1) // 2 - 1])
    assert within(estimate.p95_s, ordered[ceil(len(ordered) * 0.95) - 1])
    assert within(estimate.max_s, ordered[-1])
    assert estimate.last_s == pytest.approx(values[-1], rel=1e-6)


@given(VALUES)
def test_median_95th_percentile_and_maximum_are_within_3_per_cent_from_a_millisecond_on(
    values: list[float],
) -> None:
    latency = SlidingMinute([0] * BUCKETS)
    for value in values:
        latency.add(value)
    check(latency.estimate(), values)


@given(VALUES, st.sets(st.integers(0, 400)))
def test_values_that_are_counted_later_have_the_same_precision(
    values: list[float], settled: set[int]
) -> None:
    gaps = SlidingGaps([0] * BUCKETS)
    for index, value in enumerate(values):
        gaps.pending.append(value)
        if index in settled:
            gaps.settle()
    check(gaps.estimate(), values)


@given(st.lists(SECONDS), st.lists(SECONDS), st.lists(SECONDS))
def test_the_values_of_the_older_slice_count_until_the_next_turn(first, second, third) -> None:
    totals = [0] * BUCKETS
    latency = SlidingMinute(totals)
    for slice_ in (first, second):
        latency.turn()
        for value in slice_:
            latency.add(value)
    assert latency.estimate().count == len(first) + len(second)
    latency.turn()
    for value in third:
        latency.add(value)
    assert latency.estimate().count == len(second) + len(third)
    assert sum(totals) == len(first) + len(second) + len(third)


def test_there_is_no_estimate_before_the_first_value_and_a_minute_after_the_last() -> None:
    latency = SlidingMinute([0] * BUCKETS)
    assert latency.estimate() == NOTHING
    latency.add(0.2)
    latency.turn()
    assert latency.estimate().count == 1
    latency.turn()
    assert latency.estimate() == NOTHING


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, LEAST_S / 2])
@pytest.mark.parametrize("kind", [SlidingMinute, SlidingGaps])
def test_values_below_the_range_count_as_zero(kind, seconds: float) -> None:
    latency = kind([0] * BUCKETS)
    if kind is SlidingGaps:
        latency.pending.append(seconds)
    else:
        latency.add(seconds)
    assert latency.estimate().max_s == 0.0


@pytest.mark.parametrize("kind", [SlidingMinute, SlidingGaps])
def test_values_above_the_range_are_in_the_last_bucket(kind) -> None:
    latency = kind([0] * BUCKETS)
    if kind is SlidingGaps:
        latency.pending.append(1e30)
    else:
        latency.add(1e30)
    assert latency.estimate().max_s == MIDDLES[-1]


def test_values_beyond_the_maximum_of_a_count_keep_their_proportions() -> None:
    totals = [0] * BUCKETS
    gaps = SlidingGaps(totals)
    for _ in range(2 * 65_536 // PENDING):
        gaps.pending.extend([0.01] * (PENDING * 3 // 4) + [1.0] * (PENDING // 4))
        gaps.settle()
    found = gaps.estimate()
    assert within(found.p50_s, 0.01)
    assert within(found.p95_s, 1.0)
    assert sum(totals) == 2 * 65_536


@given(st.lists(st.one_of(st.none(), SECONDS), min_size=1, max_size=200))
def test_a_delay_includes_events_without_delay_that_were_not_added(
    events: list[float | None],
) -> None:
    delay = SlidingDelay([0] * BUCKETS)
    for number, late_s in enumerate(events, 1):
        if late_s is not None:
            delay.add_late(late_s, number)
    found = delay.estimate_at(len(events))
    ordered = sorted(late_s or 0.0 for late_s in events)
    assert found.count == len(events)
    assert within(found.p50_s, ordered[(len(ordered) + 1) // 2 - 1])
    assert within(found.max_s, ordered[-1])
    assert found.last_s == (events[-1] or 0.0)


def test_events_without_delay_expire_after_a_minute() -> None:
    delay = SlidingDelay([0] * BUCKETS)
    delay.turn_at(10)
    assert delay.estimate_at(10).count == 10
    delay.turn_at(10)
    assert delay.estimate_at(10) == NOTHING
    assert delay.estimate_at(13).count == 3


def test_every_fourth_bound_is_a_bound_of_the_histograms() -> None:
    assert [upper_bound(index) for index in (8, 12, 64)] == pytest.approx([0.0005, 0.001, 8.192])


@pytest.mark.parametrize("kind", [SlidingMinute, SlidingGaps])
def test_a_steady_latency_is_exact(kind) -> None:
    latency = kind([0] * BUCKETS)
    for _ in range(2):
        for _ in range(30):
            latency.pending.append(1.0) if kind is SlidingGaps else latency.add(1.0)
        found = latency.estimate()
        assert found.last_s == found.p50_s == found.p95_s == found.max_s == 1.0
        latency.turn()


@given(st.lists(SECONDS, min_size=1), st.lists(SECONDS, min_size=1))
def test_the_maximum_is_over_both_slices_and_expires_with_its_slice(first, second) -> None:
    latency = SlidingMinute([0] * BUCKETS)
    for value in first:
        latency.add(value)
    latency.turn()
    for value in second:
        latency.add(value)
    assert latency.estimate().max_s == max(first + second)
    latency.turn()
    assert latency.estimate().max_s == max(second)


def test_the_last_value_does_not_exceed_the_maximum() -> None:
    latency = SlidingMinute([0] * BUCKETS)
    for value in (1e-9, 1e30, 1e-9):
        latency.add(value)
        assert latency.estimate().last_s <= latency.estimate().max_s


@pytest.mark.parametrize("kind", [SlidingMinute, SlidingGaps])
def test_a_client_that_polls_every_second_has_that_median_after_a_few_quick_polls(kind) -> None:
    latency = kind([0] * BUCKETS)
    for seconds in (0.002, 0.4, *[1.0] * 28, 1.2):
        latency.pending.append(seconds) if kind is SlidingGaps else latency.add(seconds)
    found = latency.estimate()
    assert found.p50_s == pytest.approx(1.0, rel=0.03)
    assert found.p95_s == pytest.approx(1.0, rel=0.03)
    assert (found.last_s, found.max_s) == pytest.approx((1.2, 1.2), rel=1e-6)


@given(SECONDS)
def test_a_value_is_counted_in_the_bucket_of_the_totals_that_contains_the_value(
    seconds: float,
) -> None:
    totals = [0] * BUCKETS
    SlidingMinute(totals).add(seconds)
    index = totals.index(1)
    assert upper_bound(index - 1) <= seconds * (1 + 1e-9)
    assert seconds <= upper_bound(index) * (1 + 1e-9)


def test_a_slice_takes_350_bytes_until_a_count_exceeds_one_byte() -> None:
    latency = SlidingMinute([0] * BUCKETS)
    for _ in range(255):
        latency.add(0.5)
    assert latency._newer is not None
    assert sys.getsizeof(latency._newer) <= 360
    latency.add(0.5)
    assert latency.estimate().count == 256
