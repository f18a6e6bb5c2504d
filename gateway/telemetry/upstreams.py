"""What connecting to the upstream servers comes to, by server: told by the pool, read by the metrics."""

from __future__ import annotations

from collections import Counter
from typing import final

from gateway.telemetry.latency import BUCKETS, SlidingMinute


@final
class UpstreamCounts:
    """There are as many servers as the operator configured."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._dials: dict[str, list[int]] = {}

    def dials_of(self, server: str) -> list[int]:
        """The counts by bucket of how long its connections took to stand."""
        return self._dials.setdefault(server, [0] * BUCKETS)

    def connected(self, server: str, seconds: float) -> None:
        SlidingMinute(self.dials_of(server)).add(seconds)

    def failed(self, server: str) -> None:
        self.failures[server] += 1
