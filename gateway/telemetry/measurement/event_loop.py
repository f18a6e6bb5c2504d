"""Measurement of the event loop: its lag and its busy share, which affect all latencies.

The worker's sweep takes the samples, and knows when each was due. The busy share is the reactor thread's
processor time divided by the wall clock's. It has no cost for each event, and does not include waiting for
disks, which shows as lag.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from gateway.telemetry.measurement.latency import BUCKETS, SlidingMinute

# The busy share is calculated over this interval.
_SHARE_S = 10.0


@final
class Loop:
    """``thread_time`` gives the processor time of the calling thread, in seconds."""

    def __init__(self, period_s: float, thread_time: Callable[[], float]) -> None:
        self._period_s = period_s
        self._thread_time = thread_time
        self._due: float | None = None
        self._began: tuple[float, float] | None = None
        self.lag = [0] * BUCKETS
        self._lag = SlidingMinute(self.lag)
        self.busy_s = 0.0
        self.busy_share = 0.0

    def sample(self, now: float) -> None:
        """Take a sample. Must be called by each sweep."""
        if self._due is not None:
            self._lag.add(max(0.0, now - self._due))
        self._due = now + self._period_s
        self.busy_s = self._thread_time()
        began = self._began
        if began is None:
            self._began = now, self.busy_s
        elif now - began[0] >= _SHARE_S:
            self.busy_share = min(1.0, (self.busy_s - began[1]) / (now - began[0]))
            self._began = now, self.busy_s
