"""Freed memory goes back to the system, without calls that find nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.workers.heap import GROWN_BYTES, LONGEST_S, SHORTEST_S, Heap, find_trim

ROOT = Path(__file__).resolve().parents[2]
START = 100 * GROWN_BYTES


class Process:
    """A process of which some bytes are in use and the others freed; swept every second."""

    def __init__(self, has_trim: bool = True) -> None:
        self.used = START
        self.freed = 0
        self.now = 0.0
        self.calls: list[float] = []
        self._heap = Heap(lambda: self.used + self.freed, self._trim if has_trim else None)

    def free(self, size: int) -> None:
        self.used -= size
        self.freed += size

    def passes(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            self._heap.sweep(self.now)

    def _trim(self) -> None:
        self.calls.append(self.now)
        self.freed = 0


def test_a_process_that_has_hardly_grown_is_left_alone() -> None:
    process = Process()
    process.used += GROWN_BYTES // 2
    process.free(GROWN_BYTES // 2)
    process.passes(3600)
    assert process.calls == []


def test_what_an_attack_has_taken_is_given_back_soon() -> None:
    process = Process()
    process.passes(3600)
    process.used += 10 * GROWN_BYTES
    process.passes(30)
    process.free(10 * GROWN_BYTES)
    process.passes(4 * SHORTEST_S)
    assert process.freed == 0
    calls = len(process.calls)
    process.passes(3600)
    assert len(process.calls) == calls


def test_a_gateway_that_needs_its_memory_is_asked_more_and_more_seldom() -> None:
    process = Process()
    process.used += 10 * GROWN_BYTES
    process.passes(7200)
    gaps = [
        later - earlier for earlier, later in zip(process.calls, process.calls[1:], strict=False)
    ]
    assert gaps == sorted(gaps)
    assert gaps[0] == 2 * SHORTEST_S
    assert gaps[-1] == LONGEST_S


def test_new_growth_is_looked_at_soon_again() -> None:
    process = Process()
    process.used += 2 * GROWN_BYTES
    process.passes(7200)
    process.used += GROWN_BYTES
    process.passes(1)
    process.free(3 * GROWN_BYTES)
    process.passes(SHORTEST_S + 1)
    assert process.freed == 0


def test_calls_are_never_closer_than_ten_seconds() -> None:
    process = Process()
    for _ in range(100):
        process.used += 2 * GROWN_BYTES
        process.free(2 * GROWN_BYTES)
        process.passes(1)
    assert 5 < len(process.calls) <= 11


def test_without_the_call_nothing_is_done() -> None:
    process = Process(has_trim=False)
    process.used += 10 * GROWN_BYTES
    process.passes(100)
    assert process.calls == []


@pytest.mark.skipif(find_trim() is None, reason="no glibc")
def test_the_systems_own_call_gives_memory_back() -> None:
    program = """
from gateway.workers.heap import Heap, find_trim, resident_bytes
heap = Heap(resident_bytes, find_trim())
sessions, kept = [], []
for number in range(800):
    sessions.append([bytes((1448, 4096, 16000, 65000)[number % 4]) for _ in range(12)])
    # What lives on lies between what is freed.
    kept.append(bytes(700))
full = resident_bytes()
sessions.clear()
heap.sweep(1.0)
print(full - resident_bytes())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 150 * 1024 * 1024
