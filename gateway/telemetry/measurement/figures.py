"""The latency measurements of one active session, tunnelled or relayed.

The session, its tunnel and its connections report events with their times; this module keeps the
estimates. Plain counters (commands, bytes) are attributes of the session. A session takes about 800 bytes
here, and 350 to 700 more for each latency with values (600 to 1200 with more than 255 equal values in half
a minute).

The latencies, which do not overlap:

- *downstream wait*: from receiving upstream data to writing the answer that carries it;
- *upstream delay*: from receiving a command's body to writing all of it upstream, reordering included;
- *poll gap*: from writing an answer to receiving the client's next command. A command that arrives while
  an idle is held, or out of order, has none.
"""

from __future__ import annotations

from typing import Any, Final, final

from gateway.protocols.rtmp.passive import Facts, PassiveReader
from gateway.protocols.tunnel_options import ClientFigures
from gateway.telemetry.measurement.history import SAMPLE_S, History
from gateway.telemetry.measurement.latency import (
    NOTHING,
    Estimate,
    SlidingDelay,
    SlidingGaps,
    SlidingMinute,
)
from gateway.telemetry.measurement.tcp_info import read_tcp_info
from gateway.telemetry.measurement.totals import Histograms

# The number of upstream pieces whose arrival times are stored until they are answered. Further pieces, and
# those within a millisecond of the last, count as part of it, so their wait is slightly overestimated.
_MARKS: Final = 16
_MARK_S: Final = 0.001
# The number of proxies stored from `Via`. Few sessions use more than one.
_VIAS: Final = 4
_VIA_CHARACTERS: Final = 64


@final
class Figures:
    """The figures of one session. ``histograms``: the totals of its protocol.

    ``facts``: found by the passive reader, which measures media too with ``media``. ``transport``: the last
    client connection.
    """

    __slots__ = (
        "_histograms",
        "_reading",
        "client_figures",
        "connect_s",
        "connections",
        "downstream_wait",
        "facts",
        "history",
        "media_late",
        "ping_client",
        "ping_upstream",
        "poll_gap",
        "polled",
        "transport",
        "upstream_delay",
        "vias",
        "waiting",
    )

    def __init__(self, histograms: Histograms, media: bool = False) -> None:
        self._histograms = histograms
        self.facts = Facts()
        self._reading: Any = PassiveReader(self.facts, self if media else None)
        self.connect_s = 0.0
        self.connections = 0
        # What the client has measured last, if it says that.
        self.client_figures: ClientFigures | None = None
        self.downstream_wait = SlidingDelay(histograms.downstream_wait)
        self.upstream_delay = SlidingDelay(histograms.upstream_delay)
        self.poll_gap = SlidingGaps(histograms.poll_gap)
        # Called by the session for each command.
        self.polled = self.poll_gap.pending.append
        self.ping_client: SlidingMinute | None = None
        self.ping_upstream: SlidingMinute | None = None
        self.media_late: SlidingMinute | None = None
        self.transport: Any = None
        self.vias: tuple[str, ...] = ()
        self.waiting: list[tuple[int, float]] = []
        self.history: History | None = None

    # Called by the session

    def settle(self) -> None:
        """Count the pending poll gaps. Must be called at least for each 128th command."""
        self.poll_gap.settle()

    def downstream_waits(self, received_bytes: int, now: float) -> None:
        """Upstream data waits for an answer. ``received_bytes``: the total received so far."""
        waiting = self.waiting
        if waiting and (len(waiting) == _MARKS or now - waiting[-1][1] < _MARK_S):
            waiting[-1] = received_bytes, waiting[-1][1]
        else:
            waiting.append((received_bytes, now))

    def downstream_answered(self, answered_bytes: int, answers: int, now: float) -> None:
        """An answer has carried waiting data. ``answered_bytes``: the total answered so far.

        Must only be called while data is ``waiting``. ``answers``: the number of answers with data.
        """
        waiting = self.waiting
        self.downstream_wait.add_late(now - waiting[0][1], answers)
        gone = sum(received_bytes <= answered_bytes for received_bytes, _ in waiting)
        del waiting[:gone]

    def upstream_delayed(self, delay_s: float, sends: int) -> None:
        """The body of the last counted send reached the upstream after this delay."""
        self.upstream_delay.add_late(delay_s, sends)

    # Called by the connections and the session table

    def take_reading(self) -> Any:
        """The passive reader for the session, or None. The caller owns it afterwards."""
        reading, self._reading = self._reading, None
        return reading

    def connected(self, seconds: float) -> None:
        """The upstream connection was established after this time."""
        self.connect_s = seconds
        SlidingMinute(self._histograms.upstream_connect).add(seconds)

    def carried_by(self, transport: Any, via: bytes | None) -> None:
        """Another client connection carries the session's commands from now on."""
        self.connections += 1
        self.transport = transport
        if via and len(self.vias) < _VIAS:
            name = via[:_VIA_CHARACTERS].decode("latin-1")
            if name not in self.vias:
                self.vias = (*self.vias, name)

    def client_measured(self, figures: ClientFigures) -> None:
        """The client has said what it has measured."""
        self.client_figures = figures

    # Called by the passive reader

    def client_pinged(self, seconds: float) -> None:
        """The client answered a ping of the upstream after this time, as seen here."""
        if self.ping_client is None:
            self.ping_client = SlidingMinute(self._histograms.ping_client)
        self.ping_client.add(seconds)

    def upstream_pinged(self, seconds: float) -> None:
        """The upstream answered a ping of the client after this time, as seen here."""
        if self.ping_upstream is None:
            self.ping_upstream = SlidingMinute(self._histograms.ping_upstream)
        self.ping_upstream.add(seconds)

    def media_came(self, late_s: float) -> None:
        """A media message was this late by its timestamp."""
        if self.media_late is None:
            self.media_late = SlidingMinute(self._histograms.media_late)
        self.media_late.add(late_s)

    # Called by ``Sessions``

    def sample(self, counted: Any, opened_at: float, now: float) -> None:
        """Take a sample for the history. Must be called every ``SAMPLE_S``."""
        history = self.history
        up, down = counted.bytes_up, counted.bytes_down
        if history is None:
            if now - opened_at >= SAMPLE_S:
                self.history = History(up, down, opened_at, now)
            return
        wait_s = self.downstream_wait.estimate_at(counted.moments[1]).p95_s
        tcp = read_tcp_info(self.transport)
        round_trip_s = tcp.round_trip_s if tcp is not None else 0.0
        history.sample(wait_s, self.poll_gap.estimate().p95_s, round_trip_s, up, down, now)

    def turn(self, sends: int, answers: int) -> None:
        """Begin the next half minute of all latencies."""
        self.upstream_delay.turn_at(sends)
        self.downstream_wait.turn_at(answers)
        for latency in (self.poll_gap, self.ping_client, self.ping_upstream, self.media_late):
            if latency is not None:
                latency.turn()

    def estimates(self, sends: int, answers: int) -> dict[str, Estimate]:
        """The estimates of the last minute by latency, without those that have no values."""
        found = {
            "downstream_wait": self.downstream_wait.estimate_at(answers),
            "upstream_delay": self.upstream_delay.estimate_at(sends),
            "poll_gap": self.poll_gap.estimate(),
            "ping_client": self.ping_client.estimate() if self.ping_client else NOTHING,
            "ping_upstream": self.ping_upstream.estimate() if self.ping_upstream else NOTHING,
            "media_late": self.media_late.estimate() if self.media_late else NOTHING,
        }
        return {name: estimate for name, estimate in found.items() if estimate.count}
