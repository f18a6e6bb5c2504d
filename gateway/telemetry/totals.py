"""The worker's own counts by bucket, of all its sessions together: what the histograms are made of.

Plain lists, since a session adds to them for each command; whoever shows them reads them then.
"""

from __future__ import annotations

from typing import Final, final

from gateway.telemetry.latency import BUCKETS

# The latencies of a session, as they are called everywhere: here, in the pages, metrics and logs.
LATENCIES: Final = (
    "upstream_connect",
    "downstream_wait",
    "upstream_delay",
    "poll_gap",
    "ping_client",
    "ping_upstream",
    "media_late",
)


@final
class Histograms:
    """The counts of one protocol's sessions, by latency and bucket."""

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
        """Those of one protocol; there are as many as there are protocols, a handful."""
        found = self.protocols.get(name)
        if found is None:
            found = self.protocols[name] = Histograms()
        return found
