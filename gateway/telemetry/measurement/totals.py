"""Totals of a worker, as counts by bucket: the latencies of all sessions, and the connects to upstreams.

The counts are plain lists, because sessions add to them for each command. The collectors read them.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, final

from gateway.telemetry.measurement.latency import BUCKETS, SlidingMinute

# The names of a session's latencies, also in the status page, metrics and logs.
LATENCIES: Final = (
    "upstream_connect",
    "downstream_wait",
    "upstream_delay",
    "poll_gap",
    "ping_client",
    "ping_upstream",
    "media_late",
)

# Why a connect to a media server fails; "at_birth": it has closed the connection of a session that had just
# begun, or not answered the connect command that the gateway has repeated.
FAILURES: Final = ("refused", "timeout", "handshake", "other", "at_birth")


@final
class Histograms:
    """The counts by bucket of one protocol's sessions, for each latency."""

    __slots__ = LATENCIES

    def __init__(self) -> None:
        self.upstream_connect = [0] * BUCKETS
        self.downstream_wait = [0] * BUCKETS
        self.upstream_delay = [0] * BUCKETS
        self.poll_gap = [0] * BUCKETS
        self.ping_client = [0] * BUCKETS
        self.ping_upstream = [0] * BUCKETS
        self.media_late = [0] * BUCKETS


@final
class Totals:
    """The histograms of a worker, by protocol."""

    def __init__(self) -> None:
        self.protocols: dict[str, Histograms] = {}

    def protocol(self, name: str) -> Histograms:
        """The histograms of one protocol."""
        found = self.protocols.get(name)
        if found is None:
            found = self.protocols[name] = Histograms()
        return found


@final
class UpstreamCounts:
    """Failures and durations of connects to the configured servers. The pool reports them."""

    def __init__(self) -> None:
        self._suspicions: Counter[str] = Counter()
        self._failures: dict[str, Counter[str]] = {}
        self._dials: dict[str, list[int]] = {}

    def reasons_of(self, server: str) -> Counter[str]:
        """The failures of ``server`` by their reason."""
        return self._failures.setdefault(server, Counter(dict.fromkeys(FAILURES, 0)))

    def failures_of(self, server: str) -> int:
        return self.reasons_of(server).total()

    def dials_of(self, server: str) -> list[int]:
        """The durations of connects to ``server``, as counts by bucket."""
        return self._dials.setdefault(server, [0] * BUCKETS)

    def connected(self, server: str, seconds: float) -> None:
        SlidingMinute(self.dials_of(server)).add(seconds)

    def failed(self, server: str, reason: str) -> None:
        """``reason`` is one of ``FAILURES``."""
        self.reasons_of(server)[reason] += 1
        self._suspicions[server] += 1

    def take_suspicions(self) -> dict[str, int]:
        """The number of each server's failures since the last call."""
        taken, self._suspicions = self._suspicions, Counter()
        return dict(taken)

    def forget(self, server: str) -> None:
        """The server is no longer used."""
        self._suspicions.pop(server, None)
        self._failures.pop(server, None)
        self._dials.pop(server, None)
