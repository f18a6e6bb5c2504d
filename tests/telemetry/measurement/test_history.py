"""The history of a session, and its pauses."""

from __future__ import annotations

import sys

import pytest

from gateway.protocols.stream_policy import Delivery
from gateway.telemetry.measurement.history import MOVING_BYTES, SAMPLE_S, SAMPLES, History
from gateway.telemetry.measurement.latency import SLICE_S
from gateway.telemetry.sessions import TURN_S
from tests.helpers.fabricated_telemetry import Node


def history(down: int = 0) -> History:
    return History(0, down, 0.0, 10.0)


def test_samples_are_returned_oldest_first_with_small_rounding_errors() -> None:
    ring = history()
    ring.sample(0.25, 1.003, 0.02, 1000, 125_000, 20.0)
    ring.sample(0.5, 0.0, 0.03, 1000, 125_000, 30.0)
    first, second = ring.samples()
    assert first == pytest.approx((0.25, 1.003, 12_500, 100, 0.02), rel=0.001)
    assert second == pytest.approx((0.5, 0, 0, 0, 0.03), rel=0.001)


def test_the_samples_of_ten_minutes_take_600_bytes() -> None:
    ring = history()
    for number in range(1, 3 * SAMPLES):
        ring.sample(number, 0, 0, 0, 0, 10.0 * number)
    assert [sample[0] for sample in ring.samples()] == list(range(2 * SAMPLES, 3 * SAMPLES))
    assert len(ring._ring) == 600
    assert SAMPLES * SAMPLE_S == 600
    assert sys.getsizeof(ring) + sys.getsizeof(ring._ring) < 900


def test_a_rate_above_the_range_of_a_sample_is_stored_as_the_maximum() -> None:
    ring = history()
    ring.sample(0, 0, 0, 0, 1 << 50, 20.0)
    assert ring.samples()[0][2] == pytest.approx(65_504_000)


def test_the_quiet_time_of_a_direction_begins_at_its_last_media() -> None:
    ring = history()
    ring.sample(0, 0, 0, 0, 10_000, 20.0)
    # Pings are no media.
    ring.sample(0, 0, 0, MOVING_BYTES - 1, 10_000 + MOVING_BYTES - 1, 30.0)
    assert ring.quiet_down_s(10_000, 35.0) == 15.0
    assert ring.quiet_up_s(0, 35.0) == 35.0
    assert ring.quiet_down_s(20_000, 35.0) == 0.0


def test_the_duration_of_a_pause_is_stored_when_the_stream_resumes() -> None:
    ring = history(down=10_000)
    ring.sample(0, 0, 0, 0, 10_000, 20.0)
    ring.sample(0, 0, 0, 0, 10_000, 30.0)
    assert ring.resumed_at == 0
    ring.sample(0, 0, 0, 0, 20_000, 40.0)
    assert (ring.resumed_at, ring.pause_s) == (40.0, 20.0)


def run(node: Node, seconds: float) -> None:
    for _ in range(int(seconds / TURN_S)):
        node.now += TURN_S
        node.sessions.turn()


def test_the_timers_add_a_sample_every_ten_seconds_and_none_at_the_open() -> None:
    node = Node()
    tunnel = node.open()
    run(node, SAMPLE_S - 1)
    assert tunnel.figures.history is None
    assert node.sessions.summary("n100-1").quiet_down_s is None
    run(node, 2 * SLICE_S + SAMPLE_S + 1)
    assert 6 <= len(tunnel.figures.history.samples()) <= 7
    assert node.sessions.summary("n100-1").quiet_down_s == pytest.approx(node.now - 1000, abs=1)
    assert node.sessions.history("n100-1") is tunnel.figures.history
    assert node.sessions.history("n100-2") is None


def test_no_history_is_sampled_without_telemetry() -> None:
    node = Node(enabled=False)
    node.open()
    run(node, SLICE_S)
    assert node.sessions.history("n100-1") is None
    assert node.sessions.summary("n100-1").quiet_up_s is None


def test_the_summary_of_a_session_has_its_streaming_state_and_counts() -> None:
    node = Node()
    tunnel = node.open()
    found = node.sessions.summary("n100-1").as_dict()
    assert found["streaming"] == tunnel.session.streaming == Delivery.CLIENT.value
    assert (found["streamed_answers"], found["streamed_bytes"], found["streamed_s"]) == (0, 0, 0.0)
