"""When the heap is trimmed, and that trimming returns memory to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.workers.heap_trimming import (
    GROWN_BYTES,
    LONGEST_S,
    SHORTEST_S,
    HeapTrimmer,
    find_trim,
)

ROOT = Path(__file__).resolve().parents[2]
START = 100 * GROWN_BYTES


class Process:
    """A process with used and freed bytes; its trimmer is swept every second."""

    def __init__(self, has_trim: bool = True) -> None:
        self.used = START
        self.freed = 0
        self.now = 0.0
        self.calls: list[float] = []
        self._heap = HeapTrimmer(lambda: self.used + self.freed, self._trim if has_trim else None)

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


def test_a_process_that_has_hardly_grown_is_not_trimmed() -> None:
    process = Process()
    process.used += GROWN_BYTES // 2
    process.free(GROWN_BYTES // 2)
    process.passes(3600)
    assert process.calls == []


def test_memory_freed_after_a_peak_is_returned_soon() -> None:
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


def test_intervals_grow_while_no_memory_is_returned() -> None:
    process = Process()
    process.used += 10 * GROWN_BYTES
    process.passes(7200)
    gaps = [
        later - earlier for earlier, later in zip(process.calls, process.calls[1:], strict=False)
    ]
    assert gaps == sorted(gaps)
    assert gaps[0] == 2 * SHORTEST_S
    assert gaps[-1] == LONGEST_S


def test_new_growth_shortens_the_interval() -> None:
    process = Process()
    process.used += 2 * GROWN_BYTES
    process.passes(7200)
    process.used += GROWN_BYTES
    process.passes(1)
    process.free(3 * GROWN_BYTES)
    process.passes(SHORTEST_S + 1)
    assert process.freed == 0


def test_calls_are_at_least_ten_seconds_apart() -> None:
    process = Process()
    for _ in range(100):
        process.used += 2 * GROWN_BYTES
        process.free(2 * GROWN_BYTES)
        process.passes(1)
    assert 5 < len(process.calls) <= 11


def test_without_malloc_trim_nothing_is_done() -> None:
    process = Process(has_trim=False)
    process.used += 10 * GROWN_BYTES
    process.passes(100)
    assert process.calls == []


@pytest.mark.skipif(find_trim() is None, reason="no glibc")
def test_malloc_trim_returns_memory() -> None:
    program = """
from gateway.workers.heap_trimming import HeapTrimmer, find_trim, resident_bytes
heap = HeapTrimmer(resident_bytes, find_trim())
sessions, kept = [], []
for number in range(800):
    sessions.append([bytes((1448, 4096, 16000, 65000)[number % 4]) for _ in range(12)])
    # Memory that stays in use lies between freed memory.
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
