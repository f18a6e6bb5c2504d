"""Samples of single sessions, by alias, for as many of them as there may be.

A form of its own, since thousands of sessions with some 30 samples each are more than ``families`` is meant
for: each session's lines are made at once and put with their family, a few sessions at a time, and what is
left is to write the families out. Sessions that have ended are shown once more, and then forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final, final

from gateway.telemetry.families import (
    OPEN_METRICS_END,
    PREFIX,
    Kind,
    escaped,
    head,
    is_open_metrics,
)
from gateway.telemetry.sessions import ALL, SessionFilter, Sessions
from gateway.telemetry.summary import Summary

# Some 60 us each.
_SLICE: Final = 20
# A piece of output; one session's lines of one family are some 100 bytes.
_PIECE_LINES: Final = 500
_STATISTICS: Final = ("last", "p50", "p95", "max")

# Name, kind, help; the lines are made below, in this order.
_FAMILIES: Final = (
    ("session_info", Kind.GAUGE, "What a session is about; always 1."),
    ("session_latency_seconds", Kind.GAUGE, "A session's latencies over the last minute."),
    ("session_upstream_connect_seconds", Kind.GAUGE, "How long its upstream connection took."),
    ("session_client_round_trip_seconds", Kind.GAUGE, "Round trip of its client connection."),
    ("session_client_round_trip_variation_seconds", Kind.GAUGE, "Its mean variation."),
    ("session_client_retransmits", Kind.COUNTER, "Segments sent again on that connection."),
    ("session_media_drift_seconds", Kind.GAUGE, "Media clock against arrival, since the start."),
    ("session_duration_seconds", Kind.GAUGE, "How long the session has lived."),
    ("session_connections", Kind.COUNTER, "Client connections that carried its commands."),
    ("session_bytes", Kind.COUNTER, "RTMP bytes relayed."),
    ("session_buffered_bytes", Kind.GAUGE, "What its buffers hold."),
    ("session_commands", Kind.COUNTER, "Commands that took effect."),
    ("session_repeats", Kind.COUNTER, "Commands that repeated a number which had its turn."),
    ("session_reorders", Kind.COUNTER, "Commands that came before their turn."),
    ("session_answers", Kind.COUNTER, "Answers, by what they carried."),
    ("session_held_answers", Kind.COUNTER, "Answers to idles that were held."),
    ("session_streamed_answers", Kind.COUNTER, "Answers that were streamed."),
    ("session_streamed_answer_bytes", Kind.COUNTER, "RTMP bytes in those."),
    ("session_streamed_answer_seconds", Kind.COUNTER, "How long those took together."),
)
_NAMES: Final = {
    name: f"{PREFIX}{name}_total" if kind is Kind.COUNTER else f"{PREFIX}{name}"
    for name, kind, _ in _FAMILIES
}
Lines = dict[str, list[str]]


@final
class SessionMetrics:
    """``most``: how many sessions are shown at once; those that have ended come first."""

    def __init__(self, sessions: Sessions, most: int) -> None:
        self._sessions = sessions
        self._most = most

    def exposition(self, accept: str = "", wanted: SessionFilter = ALL) -> Iterator[bytes]:
        """The text in pieces, some of them empty; after each one others may run."""
        lines: Lines = {name: [] for name, _, _ in _FAMILIES}
        ended = self._sessions.just_ended(wanted)[: self._most]
        summaries = chain(ended, self._sessions.summaries(wanted))
        for shown, summary in zip(range(1, self._most + 1), summaries, strict=False):
            add_session(lines, summary)
            if not shown % _SLICE:
                yield b""
        yield from _text(lines, is_open_metrics(accept))
        self._sessions.forget_ended(ended)


def add_session(lines: Lines, summary: Summary) -> None:
    """Add all lines of one session."""
    label = f'{{session="{summary.alias}"'
    _add_info(lines["session_info"], label, summary)
    latencies = lines["session_latency_seconds"]
    for name, found in summary.latencies.items():
        start = f'{_NAMES["session_latency_seconds"]}{label},latency="{name}",statistic="'
        for statistic, value in zip(
            _STATISTICS, (found.last_s, found.p50_s, found.p95_s, found.max_s), strict=True
        ):
            latencies.append(f'{start}{statistic}"}} {value:.6g}\n')
    for name, labels, value in _plain_samples(summary):
        lines[name].append(f"{_NAMES[name]}{label}{labels}}} {value:.10g}\n")


def _add_info(lines: list[str], label: str, summary: Summary) -> None:
    values = "".join(
        f',{name}="{escaped(value)}"'
        for name, value in (
            ("protocol", summary.protocol),
            ("listener", summary.listener),
            ("upstream", summary.upstream),
            ("state", summary.state),
            ("application", summary.application),
            ("stream", summary.stream),
            ("action", summary.action),
            ("client", summary.client),
            ("streaming", summary.streaming),
        )
    )
    lines.append(f"{_NAMES['session_info']}{label}{values}}} 1\n")


def _plain_samples(summary: Summary) -> Iterator[tuple[str, str, float]]:
    yield "session_upstream_connect_seconds", "", summary.upstream_connect_s
    if summary.tcp is not None:
        yield "session_client_round_trip_seconds", "", summary.tcp.round_trip_s
        yield "session_client_round_trip_variation_seconds", "", summary.tcp.variation_s
        yield "session_client_retransmits", "", summary.tcp.retransmits
    if summary.media_drift_s is not None:
        yield "session_media_drift_seconds", "", summary.media_drift_s
    yield "session_duration_seconds", "", summary.duration_s
    yield "session_connections", "", summary.connections
    yield "session_bytes", ',direction="up"', summary.bytes_up
    yield "session_bytes", ',direction="down"', summary.bytes_down
    yield "session_buffered_bytes", "", summary.buffered_bytes
    yield "session_commands", ',command="send"', summary.sends
    yield "session_commands", ',command="idle"', summary.idles
    yield "session_repeats", "", summary.repeats
    yield "session_reorders", "", summary.reorders
    yield "session_answers", ',content="empty"', summary.empty_answers
    yield "session_answers", ',content="filled"', summary.filled_answers
    yield "session_held_answers", "", summary.held_answers
    yield "session_streamed_answers", "", summary.streamed_answers
    yield "session_streamed_answer_bytes", "", summary.streamed_bytes
    yield "session_streamed_answer_seconds", "", summary.streamed_s


def _text(lines: Lines, open_metrics: bool) -> Iterator[bytes]:
    for name, kind, help_text in _FAMILIES:
        yield head(name, kind, help_text, open_metrics).encode()
        found = lines.pop(name)
        for start in range(0, len(found), _PIECE_LINES):
            yield "".join(found[start : start + _PIECE_LINES]).encode()
    if open_metrics:
        yield OPEN_METRICS_END
