"""How busy the event loop is, and how late: what makes every other latency worse.

Sampled by the worker's own sweep, which knows when it should have come. The busy share is the reactor
thread's processor time by the wall clock's: it costs nothing per event, and tells nothing of waiting for a
disk, which shows as lag.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from gateway.telemetry.measurement.latency import BUCKETS, SlidingMinute

# The share is over this long: a scrape more often than that sees the same.
_SHARE_S = 10.0


@final
class Loop:
    """``thread_time`` gives the processor seconds of the thread that calls."""

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
        """The sweep has come."""
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
