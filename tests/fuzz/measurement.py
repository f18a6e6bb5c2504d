"""Time and memory that a reader takes for one input, and their bounds."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

from attrs import frozen

MOST_BYTES = 64 * 1024
# The bounds for an input of MOST_BYTES or less. Nothing takes more than 30 ms on a quiet Xeon of
# 2.6 GHz.
MOST_S = 0.05
MOST_MEMORY_BYTES = 16 * 1024 * 1024


@frozen
class Measured:
    """What one input took."""

    size_bytes: int
    seconds: float
    memory_bytes: int

    @property
    def is_within_bounds(self) -> bool:
        return self.seconds <= MOST_S and self.memory_bytes <= MOST_MEMORY_BYTES

    def __str__(self) -> str:
        memory_kib = self.memory_bytes // 1024
        return f"{self.size_bytes} bytes, {self.seconds * 1000:.1f} ms, {memory_kib} KiB"


def cpu_s(run: Callable[[bytes], None], data: bytes) -> float:
    """The processor time of one call."""
    started = time.thread_time()
    run(data)
    return time.thread_time() - started


def measure(run: Callable[[bytes], None], data: bytes) -> Measured:
    """The least time of three calls, and the most memory of one."""
    seconds = min(cpu_s(run, data) for _ in range(3))
    tracemalloc.start()
    run(data)
    memory_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Measured(len(data), seconds, memory_bytes)
