"""The sources of metrics other than sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

from attrs import define, frozen

from gateway.protocols.limits import Limits
from gateway.telemetry.exposition.labels import NOTHING_EXPECTED, Expected
from gateway.telemetry.measurement.silence import silent_s


@frozen
class UpstreamHealth:
    """The state of an upstream server. ``dials``: connection durations, as counts by bucket.

    ``up``: whether the last connection succeeded; true before the first one. ``due``: whether the server is
    not tried last because of failures. ``tried_at``: when it was last connected to, in seconds of
    the machine's monotonic clock; 0.0 for never. ``unanswered_s`` and ``heard_s``: as in
    measurement/silence.py. ``drained``: whether the operator has new sessions kept from it.
    """

    name: str
    up: bool
    due: bool
    failures: int
    dials: Sequence[int]
    tried_at: float = 0.0
    unanswered_s: float = 0.0
    heard_s: float = inf
    drained: bool = False

    @property
    def silent_s(self) -> float:
        """For how long it has sent nothing although sessions wait for it; 0.0 if it answers."""
        return silent_s(self.unanswered_s, self.heard_s)


@define
class Sources:
    """Figures that are read at each scrape.

    ``listener_states``: the address of each listener, and the counts of its connections
    (listeners/protocol_detection.py). ``certificates``: their names and expiry times, in seconds since
    1970. ``expected``: the series that exist from the start. ``forwarded``: counts of commands for sessions
    of other workers, by outcome; empty if there are none. ``nodes``: whether each other node is connected.
    ``offered``: counts of connections offered to other workers, by outcome; empty if there are none.
    """

    limits: Limits
    buffers_bytes: int
    connections: Callable[[], int] = lambda: 0
    listener_states: Callable[[], Iterable[tuple[str, Mapping[str, int]]]] = lambda: ()
    upstreams: Callable[[], Iterable[UpstreamHealth]] = lambda: ()
    certificates: Callable[[], Iterable[tuple[str, float]]] = lambda: ()
    expected: Expected = NOTHING_EXPECTED
    forwarded: Callable[[], Mapping[str, int]] = dict
    nodes: Callable[[], Mapping[str, bool]] = dict
    offered: Callable[[], Mapping[str, int]] = dict
