"""The sources of metrics other than sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Final, Protocol

from attrs import define, field, frozen

from gateway.protocols.limits import Limits
from gateway.protocols.rtmp.mirror_states import MirrorState
from gateway.telemetry.exposition.labels import NOTHING_EXPECTED, Expected
from gateway.telemetry.measurement.silence import silent_s

# The states of a media server; "set_down": by the operator.
SERVER_STATES: Final = ("up", "slow_start", "down", "drained", "set_down")


@frozen
class UpstreamHealth:
    """The state of an upstream server. ``dials``: connection durations, as counts by bucket.

    ``up``: whether the last connection succeeded; true before the first one. ``due``: whether the server is
    not tried last because of failures. ``tried_at``: when it was last connected to, in seconds of
    the machine's monotonic clock; 0.0 for never. ``unanswered_s`` and ``heard_s``: as in
    measurement/silence.py. ``drained``: whether the operator has new sessions kept from it. ``state``: one
    of ``SERVER_STATES``. ``failure_reasons``: the failures by reason. ``group``: the name of its upstream,
    in whose line so many are ``waiting``. ``checks``: durations of health checks by outcome, as ``dials``.
    ``addresses``: its IP addresses. ``failed_look_ups``: of its name; ``stale``: whether the last one has
    failed, so that the addresses are older. ``service``: the name of the SRV records that it is from.
    ``named_only``: whether it gets only what is sent to its upstream by name, such as mirrored streams.
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
    state: str = "up"
    weight: int = 1
    sessions: int = 0
    failure_reasons: Mapping[str, int] = field(factory=dict)
    group: str = ""
    waiting: int = 0
    checks: Mapping[str, Sequence[int]] = field(factory=dict)
    addresses: Sequence[str] = ()
    failed_look_ups: int = 0
    stale: bool = False
    service: str = ""
    named_only: bool = False

    @property
    def silent_s(self) -> float:
        """For how long it has sent nothing although sessions wait for it; 0.0 if it answers."""
        return silent_s(self.unanswered_s, self.heard_s)


# The counters of the port test by name, each with its counts by label values.
PortTestCounts = Mapping[str, Mapping[tuple[str, ...], int]]


class Relayed(Protocol):
    """Datagrams and bytes that were relayed in one direction."""

    datagrams: int
    bytes: int


class DatagramFigures(Protocol):
    """The figures of a UDP listener: sessions of unproven clients, what was relayed by direction, dropped
    datagrams by reason, and ICMP messages by the side that they came from.
    """

    refusals: Counter[str]

    @property
    def unproven(self) -> int: ...

    @property
    def relayed(self) -> Mapping[str, Relayed]: ...

    @property
    def drops(self) -> Mapping[str, int]: ...


@define
class Sources:
    """Figures that are read at each scrape.

    ``listener_states``: the address of each listener, and the counts of its connections
    (listeners/protocol_detection.py). ``certificates``: their names and expiry times, in seconds since
    1970. ``expected``: the series that exist from the start. ``forwarded``: counts of commands for sessions
    of other workers, by outcome; empty if there are none. ``nodes``: whether each other node is connected.
    ``offered``: counts of connections offered to other workers, by outcome; empty if there are none.
    ``callbacks``: counts of calls by callback and result; empty if there are none. ``mirrors``: the
    configured ones. ``port_test``: its counts; empty without a port test. ``udp``: by address.
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
    callbacks: Mapping[tuple[str, str], int] = {}
    mirrors: Callable[[], Sequence[MirrorState]] = lambda: ()
    port_test: Callable[[], PortTestCounts] = dict
    udp: Mapping[str, DatagramFigures] = {}
