"""Heap trimming: returns freed memory to the operating system with glibc's ``malloc_trim``.

glibc keeps freed memory below the top of its heap (ARCHITECTURE.md, Freed memory). A call takes 0.13 ms for
each MiB that it returns, and 0.2 to 3.5 ms if there is none. So calls are made only while the process is
larger than at its start: every ten seconds while they return memory, and at growing intervals otherwise.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from mmap import PAGESIZE
from pathlib import Path
from typing import Final, final

from twisted.logger import Logger

_log = Logger()

_MIB: Final = 1024 * 1024
# Growth since the start, or since the last call, that justifies a call.
GROWN_BYTES: Final = 64 * _MIB
# A call that returned this much is repeated after the shortest interval.
_FOUND_BYTES: Final = 16 * _MIB
SHORTEST_S: Final = 10.0
LONGEST_S: Final = 640.0


@final
class HeapTrimmer:
    """``resident`` returns the resident memory in bytes. ``trim`` is malloc_trim, None without glibc."""

    def __init__(self, resident: Callable[[], int], trim: Callable[[], object] | None) -> None:
        self._resident = resident
        self._trim = trim
        self._at_start = self._after_last = resident()
        self._wait_s = SHORTEST_S
        self._due_at = 0.0

    def sweep(self, now: float) -> None:
        """Trim the heap if it is due. Call about once a second."""
        before = self._resident()
        if self._trim is None or before < self._at_start + GROWN_BYTES:
            return
        if before >= self._after_last + GROWN_BYTES:
            self._due_at = min(self._due_at, now + SHORTEST_S)
            self._wait_s = SHORTEST_S
        if now < self._due_at:
            return
        self._trim()
        self._after_last = self._resident()
        found = before - self._after_last
        self._wait_s = SHORTEST_S if found >= _FOUND_BYTES else min(2 * self._wait_s, LONGEST_S)
        self._due_at = now + self._wait_s
        if found >= GROWN_BYTES:
            _log.info("returned {mib} MiB of freed memory to the system", mib=found // _MIB)


def resident_bytes() -> int:
    """The process's resident set size; 0 without ``/proc``."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * PAGESIZE


def find_trim() -> Callable[[], object] | None:
    """glibc's malloc_trim(3); None with another C library."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)
