"""The scenarios, as data: each scenario's load, its runs, and the figures read from them.

A load is the options of load/main.c; it is the same for the contender and its reference, except
for the protocol of their clients. A figure is read from the result of one run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from attrs import field, frozen

from .contenders import (
    HAPROXY_TCP,
    HAPROXY_TLS,
    RTMP,
    RTMPS,
    RTMPT,
    RTMPTS,
    TUNNELLED,
    UNHELD,
    UNHELD_UNMEASURED,
    UNMEASURED,
    Contender,
)
from .slow_path import SlowPath

Result = Mapping[str, float]

RECORD_BYTES = 2500  # as load/load.h
# The options of a load that say how many sessions there are.
_ROLES = ("quiet", "play", "publish", "flood_down", "flood_up")
# FFmpeg sleeps this long after an empty answer.
_PAUSE_MS = 50


class Better(Enum):
    """The comparison of a figure with its target."""

    RATIO_AT_MOST = "≤ {:g}x"
    RATIO_AT_LEAST = "≥ {:g}x"
    AT_LEAST = "≥ {:,.0f}"
    AT_MOST = "≤ {:g}"


@frozen
class Target:
    """The target of a figure: its ratio to the reference's figure, or its own value."""

    better: Better
    bound: float

    def __str__(self) -> str:
        return self.better.value.format(self.bound)


@frozen
class Figure:
    """One line of the table."""

    label: str
    unit: str
    of: Callable[[Result], float]
    target: Target | None = None
    digits: int = 1


@frozen
class Rounds:
    """The number of rounds, and the duration of each."""

    count: int
    warm_s: float
    measure_s: float


@frozen
class Scenario:
    """Something to measure: ``contender``, and ``reference`` under the same load, if there is one.

    ``{sessions}`` in the title is replaced by the number of sessions.
    """

    name: str
    title: str
    load: Mapping[str, int]
    figures: tuple[Figure, ...]
    rounds: Rounds
    contender: Contender = RTMPT
    reference: Contender | None = HAPROXY_TCP
    # Whether the generator's own ceiling is measured, with the same load on a trivial answerer.
    ceiling: bool = False
    # Whether the result is the target's memory with all sessions open, and not a load's figures.
    memory: bool = False
    quick_load: Mapping[str, int] = field(factory=dict)
    # Between clients and targets; None is this machine's loopback.
    path: SlowPath | None = None

    @property
    def heading(self) -> str:
        return self.title.format(sessions=sum(self.load.get(role, 0) for role in _ROLES))


def _at_most(ratio: float) -> Target:
    return Target(Better.RATIO_AT_MOST, ratio)


def _named(name: str) -> Callable[[Result], float]:
    return lambda result: result[name]


def _processor_share(result: Result) -> float:
    return 100 * result["target_cpu_s"] / result["wall_s"]


def _answers_per_s(result: Result) -> float:
    return result["answers"] / result["wall_s"]


def _answers_per_processor_s(result: Result) -> float:
    return result["answers"] / result["target_cpu_s"]


def _processor_us_an_answer(result: Result) -> float:
    return 1e6 * result["target_cpu_s"] / result["answers"]


def _gigabytes(result: Result) -> float:
    return result["records"] * RECORD_BYTES / 1e9


def _processor_per_gigabyte(result: Result) -> float:
    return result["target_cpu_s"] / _gigabytes(result)


def _gigabytes_per_s(result: Result) -> float:
    return _gigabytes(result) / result["wall_s"]


def _megabits_per_s(result: Result) -> float:
    return 8000 * _gigabytes_per_s(result)


_LIVE = {"play": 100, "publish": 100, "records_per_s": 50, "pause_ms": _PAUSE_MS}
_DOWN = {"flood_down": 20, "pause_ms": _PAUSE_MS}
_UP = {"flood_up": 20, "records_per_send": 10, "pause_ms": _PAUSE_MS}
# Awake: on one machine, waking a client that sleeps costs its server more than answering it.
_POLLS = {"quiet": 100, "pause_ms": 0, "spin": 1}


# The protocol of clients: load/load.h, enum program.
_LIBRTMP = {"program": 1}
_WHOLE = {"program": 2}
_PUBLISHERS = {"publish": 10, "records_per_s": 50}
_VIEWERS = {"play": 10, "records_per_s": 50, "pause_ms": _PAUSE_MS}
_NEAR = SlowPath()
_FAR = SlowPath(delay_s=0.15, loss=0.0)
_PERCENTILES = (("median", "p50"), ("p90", "p90"), ("p99", "p99"))


def _milliseconds(name: str) -> Callable[[Result], float]:
    return lambda result: result[name] / 1000


def _latencies(side: str, name: str, ratios: tuple[float | None, ...]) -> tuple[Figure, ...]:
    """Median, 90th and 99th percentile of one direction, each with the most that its ratio may be."""
    return tuple(
        Figure(
            f"{side} latency, {label}",
            "ms",
            _milliseconds(f"{name}_{percentile}_us"),
            None if ratio is None else _at_most(ratio),
        )
        for (label, percentile), ratio in zip(_PERCENTILES, ratios, strict=True)
    )


def _viewing(*ratios: float | None) -> tuple[Figure, ...]:
    """The figures of viewers on a slow path; ``ratios``: as of ``_latencies``."""
    return (*_latencies("downstream", "down", ratios), Figure("answers", "1/s", _answers_per_s))


def _publishing(*ratios: float | None) -> tuple[Figure, ...]:
    """The figures of publishers on a slow path; ``ratios``: as of ``_latencies``."""
    return _latencies("upstream", "up", ratios)


def _live(median: float | None, p99: float | None, processor: float | None) -> tuple[Figure, ...]:
    """The figures of a paced load, each with the most that its ratio may be."""
    bounds = [None if ratio is None else _at_most(ratio) for ratio in (median, p99, processor)]
    middle, tail, share = bounds
    return (
        Figure("downstream latency, median", "µs", _named("down_p50_us"), middle),
        Figure("downstream latency, p99", "µs", _named("down_p99_us"), tail),
        Figure("upstream latency, median", "µs", _named("up_p50_us"), middle),
        Figure("upstream latency, p99", "µs", _named("up_p99_us"), tail),
        Figure("processor", "% of a core", _processor_share, share),
    )


def _bulk(processor: float | None) -> tuple[Figure, ...]:
    """The figures of a load as large as it can be."""
    bound = None if processor is None else _at_most(processor)
    return (
        Figure("processor per gigabyte", "s", _processor_per_gigabyte, bound, digits=2),
        Figure("throughput", "GB/s", _gigabytes_per_s, digits=2),
    )


_LIVE_ROUNDS = Rounds(5, warm_s=1.0, measure_s=5.0)
_MORE_LIVE_ROUNDS = Rounds(3, warm_s=1.0, measure_s=5.0)
# Long, since losses are few and each one matters.
_SLOW_ROUNDS = Rounds(2, warm_s=10.0, measure_s=60.0)
_BULK_ROUNDS = Rounds(3, warm_s=0.5, measure_s=3.0)
# Many, since a few percent are looked for and two processes of the same program differ by as much.
_TELEMETRY_ROUNDS = Rounds(11, warm_s=0.5, measure_s=2.5)


def _on_slow_path(
    name: str,
    title: str,
    load: Mapping[str, int],
    figures: tuple[Figure, ...],
    contender: Contender = RTMPT,
    path: SlowPath = _NEAR,
) -> Scenario:
    """A scenario on a slow path, against plain RTMP."""
    return Scenario(
        name, title, load, figures, _SLOW_ROUNDS, contender=contender, reference=RTMP, path=path
    )


def _in_bulk(
    name: str,
    title: str,
    load: Mapping[str, int],
    processor: float | None,
    contender: Contender = RTMPT,
    reference: Contender = HAPROXY_TCP,
) -> Scenario:
    """A scenario with a load as large as it can be; ``processor``: the most that its ratio may be."""
    figures = _bulk(processor)
    return Scenario(name, title, load, figures, _BULK_ROUNDS, contender, reference)


SCENARIOS = (
    Scenario(
        "live",
        "{sessions} sessions of 1 Mbit/s, 100 playing and 100 publishing, 50 records a second each",
        load=_LIVE,
        figures=_live(1.1, 2, 1.6),
        rounds=_LIVE_ROUNDS,
    ),
    Scenario(
        "bursts",
        "{sessions} viewers of 1 Mbit/s, all records of a period in the same millisecond",
        load={"play": 200, "records_per_s": 50, "pause_ms": _PAUSE_MS, "burst": 1},
        figures=tuple(each for each in _live(None, None, 1.3) if "upstream" not in each.label),
        rounds=_LIVE_ROUNDS,
    ),
    _on_slow_path(
        "slow",
        "{sessions} viewers as FFmpeg at 1 Mbit/s, 50 ms one way, 1 % loss, against plain RTMP",
        load=_VIEWERS,
        figures=_viewing(1.05, 1.4, 2),
    ),
    _on_slow_path(
        "slow-librtmp",
        "the same, viewers as librtmp",
        load=_VIEWERS | _LIBRTMP,
        figures=_viewing(1.05, 1.4, 2),
    ),
    _on_slow_path(
        "slow-4m",
        "{sessions} viewers as FFmpeg at 4 Mbit/s, 50 ms one way, 1 % loss, against plain RTMP",
        load=_VIEWERS | {"records_per_s": 200},
        figures=_viewing(1.1, 1.5, 2),
    ),
    _on_slow_path(
        "slow-far",
        "{sessions} viewers as FFmpeg at 1 Mbit/s, 150 ms one way, no loss, against plain RTMP",
        load=_VIEWERS,
        figures=_viewing(1.1, 1.5, 2),
        path=_FAR,
    ),
    _on_slow_path(
        "slow-far-librtmp",
        "the same, viewers as librtmp",
        load=_VIEWERS | _LIBRTMP,
        figures=_viewing(1.1, 1.5, 2),
        path=_FAR,
    ),
    _on_slow_path(
        "slow-whole",
        "{sessions} viewers that read whole answers, 1 Mbit/s, 50 ms one way, 1 % loss",
        load=_VIEWERS | _WHOLE,
        figures=_viewing(None, None, None),
    ),
    _on_slow_path(
        "slow-publish",
        "{sessions} publishers as FFmpeg at 1 Mbit/s, 50 ms one way, 1 % loss, against plain RTMP",
        load={"publish": 10, "records_per_s": 50, "pause_ms": _PAUSE_MS}
        | {"two_segments": 1, "batch": 7},
        figures=_publishing(None, None, None),
    ),
    _on_slow_path(
        "client-play",
        "{sessions} players by the tunnel client at 1 Mbit/s, 50 ms one way, 1 % loss, against RTMP",
        load=_VIEWERS,
        figures=_viewing(1.1, 1.5, 2),
        contender=TUNNELLED,
    ),
    _on_slow_path(
        "client-play-4m",
        "the same, {sessions} at 4 Mbit/s",
        load=_VIEWERS | {"play": 3, "records_per_s": 200},
        figures=_viewing(1.1, 1.5, 2),
        contender=TUNNELLED,
    ),
    _on_slow_path(
        "client-publish",
        "{sessions} publishers by the tunnel client at 1 Mbit/s, 50 ms one way, 1 % loss, against RTMP",
        load=_PUBLISHERS,
        figures=_publishing(1.1, 1.5, 2),
        contender=TUNNELLED,
    ),
    _on_slow_path(
        "client-publish-4m",
        "the same, {sessions} at 4 Mbit/s",
        load=_PUBLISHERS | {"publish": 3, "records_per_s": 200},
        figures=_publishing(1.1, 1.5, 2),
        contender=TUNNELLED,
    ),
    _on_slow_path(
        "client-up",
        "{sessions} publisher without pause by the tunnel client, the same path",
        load={"flood_up": 1},
        figures=(
            Figure("throughput", "Mbit/s", _megabits_per_s, Target(Better.RATIO_AT_LEAST, 0.9)),
        ),
        contender=TUNNELLED,
    ),
    Scenario(
        "live-awake",
        "the first again, with a load that never sleeps, so that no wake-up adds to the latency",
        load=_LIVE | {"spin": 1},
        figures=_live(1.2, 3, 2),
        rounds=_MORE_LIVE_ROUNDS,
    ),
    Scenario(
        "live-ffmpeg",
        "the first again, as FFmpeg sends: head and body in two segments, Nagle's algorithm on",
        load=_LIVE | {"two_segments": 1},
        figures=_live(1.2, 3, 2),
        rounds=_MORE_LIVE_ROUNDS,
    ),
    Scenario(
        "live-rtmps",
        "the first again, RTMPS, against HAProxy with TLS",
        load=_LIVE,
        figures=_live(1.5, None, None),
        rounds=_LIVE_ROUNDS,
        contender=RTMPS,
        reference=HAPROXY_TLS,
    ),
    Scenario(
        "live-rtmpts",
        "the first again, RTMPTS, against RTMPT",
        load=_LIVE,
        figures=_live(None, None, None),
        rounds=_MORE_LIVE_ROUNDS,
        contender=RTMPTS,
        reference=RTMPT,
    ),
    Scenario(
        "live-rtmp",
        "the first again, plain RTMP, against HAProxy",
        load=_LIVE,
        figures=_live(None, None, None),
        rounds=_MORE_LIVE_ROUNDS,
        contender=RTMP,
    ),
    Scenario(
        "live-telemetry",
        "the first again, with telemetry against without",
        load=_LIVE,
        figures=_live(None, None, 1.05),
        rounds=_TELEMETRY_ROUNDS,
        reference=UNMEASURED,
    ),
    Scenario(
        "polls",
        "{sessions} sessions that poll without pause, idles never held, no data",
        load=_POLLS,
        figures=(
            Figure("empty polls", "1/s", _answers_per_s, digits=0),
            Figure(
                "empty polls per processor second",
                "1/s",
                _answers_per_processor_s,
                Target(Better.AT_LEAST, 100_000),
                digits=0,
            ),
        ),
        rounds=Rounds(5, warm_s=0.5, measure_s=3.0),
        contender=UNHELD,
        reference=None,
        ceiling=True,
    ),
    Scenario(
        "polls-telemetry",
        "the same, with telemetry against without",
        load=_POLLS,
        figures=(
            Figure("processor per poll", "µs", _processor_us_an_answer, _at_most(1.05), digits=2),
        ),
        rounds=_TELEMETRY_ROUNDS,
        contender=UNHELD,
        reference=UNHELD_UNMEASURED,
    ),
    _in_bulk(
        "bulk-down",
        "{sessions} sessions, upstream writes as fast as it can",
        load=_DOWN,
        processor=1.2,
    ),
    _in_bulk(
        "bulk-up",
        "{sessions} sessions, clients send 25 kB at a time as fast as they can",
        load=_UP,
        processor=None,
    ),
    _in_bulk(
        "bulk-down-rtmps",
        "{sessions} sessions, RTMPS, upstream writes as fast as it can",
        load=_DOWN,
        processor=2,
        contender=RTMPS,
        reference=HAPROXY_TLS,
    ),
    _in_bulk(
        "bulk-up-rtmps",
        "{sessions} sessions, RTMPS, clients write as fast as they can",
        load=_UP,
        processor=2,
        contender=RTMPS,
        reference=HAPROXY_TLS,
    ),
    _in_bulk(
        "bulk-down-rtmpts",
        "{sessions} sessions, RTMPTS against RTMPT, upstream writes as fast as it can",
        load=_DOWN,
        processor=None,
        contender=RTMPTS,
        reference=RTMPT,
    ),
    _in_bulk(
        "bulk-up-rtmpts",
        "{sessions} sessions, RTMPTS against RTMPT, clients send 25 kB at a time",
        load=_UP,
        processor=None,
        contender=RTMPTS,
        reference=RTMPT,
    ),
    _in_bulk(
        "bulk-down-rtmp",
        "{sessions} sessions, plain RTMP, upstream writes as fast as it can",
        load=_DOWN,
        processor=None,
        contender=RTMP,
    ),
    Scenario(
        "memory",
        "{sessions} open sessions, each polling at FFmpeg's pace with its idles held",
        load={"quiet": 3000, "pause_ms": _PAUSE_MS},
        figures=(
            Figure(
                "memory per session, the kernel's apart",
                "KiB",
                _named("kib_per_session"),
                Target(Better.AT_MOST, 6),
            ),
        ),
        rounds=Rounds(1, warm_s=1.5, measure_s=0.0),
        memory=True,
        quick_load={"quiet": 300, "pause_ms": _PAUSE_MS},
    ),
)

QUICK = Rounds(1, warm_s=0.3, measure_s=1.2)
# Several round trips, so that answers are streamed.
QUICK_SLOW = Rounds(1, warm_s=1.5, measure_s=2.5)
