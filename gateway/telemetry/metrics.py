"""A worker's figures as families of samples, made when somebody asks.

Labels are from closed sets alone: protocol, listener and upstream as configured, command, direction, state,
reason, cause, outcome; what can occur of them is there from the start (labels.py). What is told by session
is in ``session_metrics``.

Sums over sessions are taken in slices, between which others run: first what has ended and who lives, in
one moment, then the living a few at a time. A session's counts only grow, and so do the sums. (One that
ends meanwhile may repeat an answer after its counts were added up: no sum is ever shown smaller than it
was.)
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, final

from attrs import define, frozen

from gateway.protocols.limits import Limits
from gateway.telemetry.families import Family, Kind, Labels, Merge
from gateway.telemetry.labels import HANDSHAKES, NOTHING_EXPECTED, SPOKEN, TUNNELLED, Expected
from gateway.telemetry.latency import MIDDLES, upper_bound
from gateway.telemetry.loop import Loop
from gateway.telemetry.process import read_process, version_of
from gateway.telemetry.refusals import CAUSES
from gateway.telemetry.sessions import COUNTS, Sessions, add_living
from gateway.telemetry.sessions import Labels as SessionLabels
from gateway.telemetry.summary import Measured
from gateway.telemetry.totals import LATENCIES
from gateway.telemetry.unraisable import unraisable

# Some 3 us each.
_SLICE: Final = 250
# 0.5 ms to 16.384 s, each twice the one before.
_BOUNDS: Final = range(8, 69, 4)

_LATENCY_HELP: Final = {
    "upstream_connect": "From the decision to open a session to its upstream connection.",
    "downstream_wait": "From bytes of the upstream in to the answer out that carries them.",
    "upstream_delay": "From a body in to its being taken upstream, the wait for its turn included.",
    "poll_gap": "From an answer out to the client's next command in.",
    "ping_client": "From an upstream's RTMP ping to the client's response, as seen from the gateway.",
    "ping_upstream": "From a client's RTMP ping to the upstream's response, as seen from the gateway.",
    "media_late": "How late media is by its own timestamps, against the earliest of the last minute.",
}
# Counter, the label that tells its parts apart, and the counts that it is made of.
_BYTES: Final = (
    *("bytes", "RTMP bytes relayed.", "direction"),
    {"up": "bytes_up", "down": "bytes_down"},
)
_WHERE: Final = ("protocol", "listener", "upstream")
_OF_TUNNELS: Final = (
    (
        "commands",
        "Commands that took effect.",
        "command",
        {"send": "sends", "idle": "idles", "close": "closes"},
    ),
    ("repeats", "Commands that repeated a number which had its turn.", "", {"": "repeats"}),
    ("reorders", "Commands that came before their turn.", "", {"": "early"}),
    ("held_answers", "Answers to idles that were held.", "", {"": "holds"}),
    ("empty_answers", "Answers that carried nothing.", "", {"": "empty_answers"}),
    ("filled_answers", "Answers that carried bytes of the upstream.", "", {"": "filled_answers"}),
    ("streamed_answers", "Answers that were streamed.", "", {"": "streamed_answers"}),
    ("streamed_answer_bytes", "RTMP bytes in streamed answers.", "", {"": "streamed_bytes"}),
    ("streamed_answer_seconds", "How long streamed answers took.", "", {"": "streamed_s"}),
)


@frozen
class UpstreamHealth:
    """One upstream server; ``dials`` are the counts by bucket of how long connecting took.

    It is ``up`` when it took the last connection, or had none yet; ``due`` when it is tried in its turn.
    ``silent_s``: for how long it has answered nothing although sessions wait; 0.0 if it answers.
    """

    name: str
    up: bool
    due: bool
    failures: int
    dials: Sequence[int]
    silent_s: float = 0.0


@define
class Sources:
    """Where the figures are that no session has, each asked when somebody asks for metrics.

    ``listener_states`` gives each listener's address and the counts of its connections
    (listeners/protocol_detection.py); ``certificates`` names, and when each expires, in seconds since
    1970. ``expected`` is what is shown before anything happened.
    """

    limits: Limits
    buffers_bytes: int
    connections: Callable[[], int] = lambda: 0
    listener_states: Callable[[], Iterable[tuple[str, Mapping[str, int]]]] = lambda: ()
    upstreams: Callable[[], Iterable[UpstreamHealth]] = lambda: ()
    certificates: Callable[[], Iterable[tuple[str, float]]] = lambda: ()
    expected: Expected = NOTHING_EXPECTED


@define
class _Sum:
    """What the sessions come to, as far as they were added up."""

    counts: dict[SessionLabels, list[float]]
    states: Counter[tuple[str, str]]
    buffered_bytes: int = 0

    def add(self, session: Measured) -> None:
        """One that lived when this was begun."""
        add_living(self.counts, session)
        self.buffered_bytes += session.counted.buffered_bytes
        position = session.counted.position
        if position != "ended":
            self.states[session.ingress.protocol, position] += 1


@final
class Metrics:
    """The families of one worker."""

    def __init__(self, sessions: Sessions, loop: Loop, sources: Sources) -> None:
        self._sessions = sessions
        self._loop = loop
        self._sources = sources
        self._started_at = sessions.wall_now()
        self._shown: dict[SessionLabels, list[float]] = {}

    def families(self) -> Iterator[Family | None]:
        """One family after the other; None where others may run before the next one is made."""
        sum_, living = self._begin()
        for start in range(0, len(living), _SLICE):
            for session in living[start : start + _SLICE]:
                sum_.add(session)
            yield None
        del living
        self._keep_growing(sum_.counts)
        yield from self._counters(sum_.counts)
        yield from self._latencies(sum_.counts)
        labels = ("protocol", "state")
        yield _labelled("sessions", Kind.GAUGE, "Living sessions.", labels, sum_.states)
        yield from self._capacity(sum_.buffered_bytes)
        yield from self._upstreams()
        yield from self._tls()
        yield from self._loop_and_process()

    def _begin(self) -> tuple[_Sum, list[Measured]]:
        """What all ended sessions come to, zeros included, and those that are still to be added."""
        ended, living = self._sessions.sums()
        expected = self._sources.expected
        for where in expected.sums(server.name for server in self._sources.upstreams()):
            ended.setdefault(where, [0] * len(COUNTS))
        return _Sum(ended, Counter(dict.fromkeys(expected.states(), 0))), living

    def _keep_growing(self, sums: dict[SessionLabels, list[float]]) -> None:
        for labels, counts in sums.items():
            shown = self._shown.get(labels, counts)
            counts[:] = map(max, counts, shown)
        self._shown = sums

    def _counters(self, sums: dict[SessionLabels, list[float]]) -> Iterator[Family]:
        yield _summed(_BYTES, sums)
        # A relay has none of these.
        tunnels = {where: counts for where, counts in sums.items() if where[0] in TUNNELLED}
        for each in _OF_TUNNELS:
            yield _summed(each, tunnels)
        sessions = self._sessions
        opened = {**dict.fromkeys(sums, 0), **sessions.opened}
        help_text = "Sessions whose upstream stood."
        yield _labelled("sessions_opened", Kind.COUNTER, help_text, _WHERE, opened)
        ended = {**dict.fromkeys(self._sources.expected.ends(), 0), **sessions.ended}
        help_text = "Sessions that ended, by reason; abandoned is no error."
        yield _labelled("sessions_ended", Kind.COUNTER, help_text, ("protocol", "reason"), ended)
        refused = {**dict.fromkeys(CAUSES, 0), **sessions.refused}
        causes = {(cause,): count for cause, count in refused.items()}
        help_text = "Sessions that could not be opened, by cause; draining is no error."
        yield _labelled("opens_refused", Kind.COUNTER, help_text, ("cause",), causes)

    def _latencies(self, sums: dict[SessionLabels, list[float]]) -> Iterator[Family]:
        prompt = {"upstream_delay": "prompt_ups", "downstream_wait": "prompt_downs"}
        for name in LATENCIES:
            family = Family(f"{name}_seconds", Kind.HISTOGRAM, _LATENCY_HELP[name])
            for protocol, histograms in self._sessions.totals.protocols.items():
                buckets = list(getattr(histograms, name))
                if name in prompt:
                    index = COUNTS.index(prompt[name])
                    buckets[0] += sum(
                        counts[index] for where, counts in sums.items() if where[0] == protocol
                    )
                if any(buckets) or self._sources.expected.has(name, protocol):
                    put_histogram(family, buckets, ("protocol", protocol))
            yield family

    def _capacity(self, buffered_bytes: int) -> Iterator[Family]:
        sources = self._sources
        limits = sources.limits
        for name, help_text, value in (
            ("sessions_limit", "Sessions that may live at once.", limits.sessions),
            ("connections", "Client connections that stand.", sources.connections()),
            ("connections_limit", "Connections that may stand at once.", limits.connections),
            ("buffers_bytes", "What all sessions' buffers hold.", buffered_bytes),
            ("buffers_limit_bytes", "What they may hold in all.", sources.buffers_bytes),
        ):
            yield _single(name, Kind.GAUGE, help_text, value)
        yield from self._listener_states()

    def _listener_states(self) -> Iterator[Family]:
        accepted = Family("connections_accepted", Kind.COUNTER, "Connections, by what they speak.")
        refused = Family("connections_refused", Kind.COUNTER, "Connections not served, by cause.")
        handshakes = Family("tls_handshakes", Kind.COUNTER, "TLS handshakes, by outcome.")
        expected = self._sources.expected.listener_states()
        for listener, counts in self._sources.listener_states():
            label = ("listener", listener)
            zeros = dict.fromkeys(expected.get(listener, ()), 0)
            for name, count in {**zeros, **counts}.items():
                if name in HANDSHAKES:
                    handshakes.put(count, label, ("outcome", HANDSHAKES[name]))
                elif name in SPOKEN:
                    accepted.put(count, label, ("speaks", name))
                else:
                    refused.put(count, label, ("cause", name))
        yield from (accepted, refused, handshakes)

    def _upstreams(self) -> Iterator[Family]:
        up = Family(
            "upstream_up",
            Kind.GAUGE,
            "Whether the server took the last connection; 1 before the first one.",
            merge=Merge.MIN,
        )
        silent = Family(
            "upstream_silent_seconds",
            Kind.GAUGE,
            "For how long the server has answered nothing although sessions wait for it.",
            merge=Merge.MAX,
        )
        failures = Family("upstream_failures", Kind.COUNTER, "Connections it did not take.")
        dials = Family(
            "upstream_dial_seconds", Kind.HISTOGRAM, "How long connecting to the server took."
        )
        for server in self._sources.upstreams():
            label = ("upstream", server.name)
            up.put(server.up, label)
            silent.put(server.silent_s, label)
            failures.put(server.failures, label)
            put_histogram(dials, server.dials, label)
        yield from (up, silent, failures, dials)

    def _tls(self) -> Iterator[Family]:
        expiry = Family(
            "tls_certificate_expiry_timestamp_seconds",
            Kind.GAUGE,
            "When the certificate ends, in seconds since 1970.",
            merge=Merge.MIN,
        )
        for name, expires_at in self._sources.certificates():
            expiry.put(expires_at, ("certificate", name))
        yield expiry

    def _loop_and_process(self) -> Iterator[Family]:
        lag = Family(
            "event_loop_lag_seconds", Kind.HISTOGRAM, "How late the event loop's timer came."
        )
        put_histogram(lag, self._loop.lag)
        yield lag
        busy = "Processor time of the event loop's thread."
        yield _single("event_loop_busy_seconds", Kind.COUNTER, busy, self._loop.busy_s)
        yield _single(
            "event_loop_busy_ratio",
            Kind.GAUGE,
            "The same as a share of the last ten seconds; of the busiest worker.",
            self._loop.busy_share,
            Merge.MAX,
        )
        process = read_process()
        for name, kind, help_text, value in (
            ("process_cpu_seconds", Kind.COUNTER, "Processor time.", process.processor_s),
            ("process_open_files", Kind.GAUGE, "Open files.", process.open_files),
            ("process_open_files_limit", Kind.GAUGE, "Their bound.", process.open_files_limit),
            ("process_memory_bytes", Kind.GAUGE, "Memory in use.", process.memory_bytes),
        ):
            yield _single(name, kind, help_text, value)
        yield _single(
            "process_start_time_seconds",
            Kind.GAUGE,
            "When the gateway started, in seconds since 1970.",
            self._started_at,
            Merge.MIN,
        )
        yield _single(
            "unraisable_exceptions",
            Kind.COUNTER,
            "Exceptions in callbacks that could not be raised; each is a fault.",
            unraisable.count,
        )
        build = Family("build_info", Kind.GAUGE, "What runs; always 1.", merge=Merge.MAX)
        build.put(1, *_BUILD)
        yield build


def put_histogram(family: Family, buckets: Sequence[int], *labels: tuple[str, str]) -> None:
    """Add the samples of one histogram. Its sum is made of the buckets' middles, true within 10 %."""
    until = 0
    counted = 0
    for bound in _BOUNDS:
        until += sum(buckets[counted : bound + 1])
        counted = bound + 1
        family.put(until, *labels, ("le", f"{upper_bound(bound):.6g}"), suffix="_bucket")
    until += sum(buckets[counted:])
    family.put(until, *labels, ("le", "+Inf"), suffix="_bucket")
    total = sum(count * middle for count, middle in zip(buckets, MIDDLES, strict=True) if count)
    family.put(total, *labels, suffix="_sum")
    family.put(until, *labels, suffix="_count")


def _summed(
    counter: tuple[str, str, str, Mapping[str, str]], sums: Mapping[SessionLabels, list[float]]
) -> Family:
    name, help_text, label, parts = counter
    family = Family(name, Kind.COUNTER, help_text)
    for where, counts in sums.items():
        labels: Labels = tuple(zip(_WHERE, where, strict=True))
        for part, source in parts.items():
            own = ((label, part),) if label else ()
            family.put(counts[COUNTS.index(source)], *labels, *own)
    return family


def _labelled(
    name: str,
    kind: Kind,
    help_text: str,
    labels: tuple[str, ...],
    values: Mapping[Any, int],
) -> Family:
    family = Family(name, kind, help_text)
    for found, value in values.items():
        family.put(value, *zip(labels, found, strict=True))
    return family


def _single(
    name: str, kind: Kind, help_text: str, value: float, merge: Merge = Merge.SUM
) -> Family:
    family = Family(name, kind, help_text, merge=merge)
    family.put(value)
    return family


_BUILD: Final = (
    ("version", version_of("rtmpt-gateway")),
    ("python", platform.python_version()),
    ("twisted", version_of("Twisted")),
)
