"""The sources of metrics other than sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import define, frozen

from gateway.protocols.limits import Limits
from gateway.telemetry.exposition.labels import NOTHING_EXPECTED, Expected


@frozen
class UpstreamHealth:
    """The state of an upstream server. ``dials``: connection durations, as counts by bucket.

    ``up``: whether the last connection succeeded; true before the first one. ``due``: whether the server is
    used in turn, and not avoided after failures. ``silent_s``: for how long it has sent nothing although
    sessions wait for it; 0.0 if it answers. ``tried_at``: when it was last connected to, in seconds of the
    machine's monotonic clock; 0.0 for never.
    """

    name: str
    up: bool
    due: bool
    failures: int
    dials: Sequence[int]
    silent_s: float = 0.0
    tried_at: float = 0.0


@define
class Sources:
    """Figures that are read at each scrape.

    ``listener_states``: the address of each listener, and the counts of its connections
    (listeners/protocol_detection.py). ``certificates``: their names and expiry times, in seconds since
    1970. ``expected``: the series that exist from the start. ``forwarded``: counts of commands for sessions
    of other workers, by outcome; empty if there are none.
    """

    limits: Limits
    buffers_bytes: int
    connections: Callable[[], int] = lambda: 0
    listener_states: Callable[[], Iterable[tuple[str, Mapping[str, int]]]] = lambda: ()
    upstreams: Callable[[], Iterable[UpstreamHealth]] = lambda: ()
    certificates: Callable[[], Iterable[tuple[str, float]]] = lambda: ()
    expected: Expected = NOTHING_EXPECTED
    forwarded: Callable[[], Mapping[str, int]] = dict
