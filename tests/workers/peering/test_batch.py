"""Frames of one iteration of the reactor are one write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway import dispatch
from gateway.transport import JOIN_BYTES
from gateway.workers.peering.batch import Batch


class Recording:
    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def write_two(self, first: bytes, second: bytes) -> None:
        self.writes.append(first + second)


@pytest.fixture
def iteration() -> Iterator[dispatch._Iteration]:
    """An iteration, until the test ends it."""
    dispatch._iteration.is_running = True
    yield dispatch._iteration
    dispatch._iteration.end()


def test_frames_of_an_iteration_are_one_write(iteration: dispatch._Iteration) -> None:
    transport = Recording()
    batch = Batch(transport)
    for round_ in (b"1", b"2"):
        iteration.is_running = True
        batch.write(round_ + b"a")
        batch.write_two(round_, b"b")
        assert len(transport.writes) == int(round_) - 1
        iteration.end()
    assert transport.writes == [b"1a1b", b"2a2b"]


def test_a_large_body_comes_after_what_was_written_before(iteration: dispatch._Iteration) -> None:
    transport = Recording()
    batch = Batch(transport)
    body = bytes(JOIN_BYTES + 1)
    batch.write(b"first")
    batch.write_two(b"head", body)
    batch.write(b"last")
    iteration.end()
    assert transport.writes == [b"first", b"head" + body, b"last"]


def test_outside_of_an_iteration_a_frame_is_written_at_once() -> None:
    transport = Recording()
    Batch(transport).write(b"frame")
    assert transport.writes == [b"frame"]


def test_a_write_that_fails_keeps_no_other_from_being_made(
    iteration: dispatch._Iteration,
) -> None:
    transport = Recording()

    def fail() -> None:
        raise ZeroDivisionError

    dispatch.at_end_of_iteration(fail)
    Batch(transport).write(b"frame")
    iteration.end()
    assert transport.writes == [b"frame"]
