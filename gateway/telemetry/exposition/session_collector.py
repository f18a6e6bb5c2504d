"""Collector of the metrics of single sessions, labelled by alias.

Each session has about 35 samples, and up to 45 if media is measured. They are written a few sessions at a
time, and only the text is kept until all sessions are read, because a family's samples must follow each
other. Summaries of thousands of sessions, kept at once, would make the garbage collector stop the process
for 50 to 80 ms. Sessions that have ended are included once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, final

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.text import Writer
from gateway.telemetry.sessions import ALL, SessionFilter, Sessions
from gateway.telemetry.summary import Summary

# On a slow machine, the summary of a session takes 60 us, and its text 500 us (900 us in OpenMetrics).
_SESSIONS_A_SLICE: Final = 3
# Texts of slices that are sent as one piece, of about 300 bytes each.
_TEXTS_A_PIECE: Final = 100
_PRINTABLE: Final = re.compile(r"[ -~]*")
# Control characters and line separators, which some scrapers and terminals mishandle in labels.
_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160), 8232, 8233), "?")

Labels = dict[str, str]
# The samples of a session in one family: labels beside the alias, and a value.
_Values = Callable[[Summary], Iterator[tuple[Labels, float]]]


def _info(summary: Summary) -> Iterator[tuple[Labels, float]]:
    names = ("protocol", "listener", "upstream", "state", "application", "stream", "action")
    values = {name: getattr(summary, name) for name in (*names, "client", "streaming")}
    yield {name: printable(value) for name, value in values.items()}, 1


def _latencies(summary: Summary) -> Iterator[tuple[Labels, float]]:
    for name, found in summary.latencies.items():
        for statistic in ("last", "p50", "p95", "max"):
            labels = {"latency": name, "statistic": statistic}
            yield labels, getattr(found, f"{statistic}_s")


def _one(attribute: str) -> _Values:
    """A family with the value of one attribute."""

    def values(summary: Summary) -> Iterator[tuple[Labels, float]]:
        yield {}, getattr(summary, attribute)

    return values


def _tcp(attribute: str) -> _Values:
    """A family with a figure of the kernel, if it is known."""

    def values(summary: Summary) -> Iterator[tuple[Labels, float]]:
        if summary.tcp is not None:
            yield {}, getattr(summary.tcp, attribute)

    return values


def _by(label: str, **attributes: str) -> _Values:
    """A family with one attribute for each value of ``label``."""

    def values(summary: Summary) -> Iterator[tuple[Labels, float]]:
        for value, attribute in attributes.items():
            yield {label: value}, getattr(summary, attribute)

    return values


def _media_drift(summary: Summary) -> Iterator[tuple[Labels, float]]:
    if summary.media_drift_s is not None:
        yield {}, summary.media_drift_s


# Name, type, help text, and values.
_FAMILIES: Final[tuple[tuple[str, str, str, _Values], ...]] = (
    ("info", "gauge", "Properties of a session; the value is always 1.", _info),
    ("latency_seconds", "gauge", "Latencies of a session over the last minute.", _latencies),
    (
        *("upstream_connect_seconds", "gauge", "Duration of the connect to the upstream."),
        _one("upstream_connect_s"),
    ),
    (
        *("client_round_trip_seconds", "gauge", "Round trip time of the client's connection."),
        _tcp("round_trip_s"),
    ),
    (
        *("client_round_trip_variation_seconds", "gauge", "Mean deviation of the round trip time."),
        _tcp("variation_s"),
    ),
    (
        *("client_retransmits", "counter", "Retransmitted segments of the client's connection."),
        _tcp("retransmits"),
    ),
    (
        *("media_drift_seconds", "gauge", "Drift of media timestamps against arrival times."),
        _media_drift,
    ),
    ("duration_seconds", "gauge", "Duration of the session.", _one("duration_s")),
    (
        *("connections", "counter", "Client connections that carried its commands."),
        _one("connections"),
    ),
    (
        *("bytes", "counter", "RTMP bytes relayed."),
        _by("direction", up="bytes_up", down="bytes_down"),
    ),
    ("buffered_bytes", "gauge", "Bytes in its buffers.", _one("buffered_bytes")),
    (
        "commands",
        "counter",
        "Commands that took effect.",
        _by("command", send="sends", idle="idles"),
    ),
    ("repeats", "counter", "Repeated commands.", _one("repeats")),
    ("reorders", "counter", "Commands that arrived out of order.", _one("reorders")),
    (
        *("answers", "counter", "Answers by content."),
        _by("content", empty="empty_answers", filled="filled_answers"),
    ),
    ("held_answers", "counter", "Answers to held idles.", _one("held_answers")),
    ("streamed_answers", "counter", "Streamed answers.", _one("streamed_answers")),
    (
        *("streamed_answer_bytes", "counter", "RTMP bytes in streamed answers."),
        _one("streamed_bytes"),
    ),
    (
        *("streamed_answer_seconds", "counter", "Total duration of streamed answers."),
        _one("streamed_s"),
    ),
)

FAMILY_COUNT: Final = len(_FAMILIES)


@final
class SessionCollector:
    """``most``: the largest number of sessions in one exposition. Ended sessions come first."""

    def __init__(self, sessions: Sessions, most: int) -> None:
        self._sessions = sessions
        self._most = most

    def samples(self, accept: str, wanted: SessionFilter = ALL) -> Iterator[tuple[int, bytes]]:
        """Texts of samples, each with the index of its family, for ``assembled``."""
        writer = Writer(accept)
        ended = self._sessions.just_ended(wanted)[: self._most]
        found = islice(chain(ended, self._sessions.summaries(wanted)), self._most)
        while slice_ := list(islice(found, _SESSIONS_A_SLICE)):
            for index, (name, kind, help_text, values) in enumerate(_FAMILIES):
                yield index, writer.samples(_family(name, kind, help_text, slice_, values))
        self._sessions.forget_ended(ended)


def assembled(texts: Sequence[Sequence[bytes]], accept: str) -> Iterator[bytes]:
    """The exposition in pieces, with these texts for each family."""
    writer = Writer(accept)
    for (name, kind, help_text, values), text in zip(_FAMILIES, texts, strict=True):
        yield writer.family(_family(name, kind, help_text, (), values))
        for first in range(0, len(text), _TEXTS_A_PIECE):
            yield b"".join(text[first : first + _TEXTS_A_PIECE])
    yield writer.end


def _family(
    name: str, kind: str, help_text: str, summaries: Iterable[Summary], values: _Values
) -> Metric:
    family = Metric(f"{PREFIX}session_{name}", help_text, kind)
    sample_name = family.name + ("_total" if kind == "counter" else "")
    for summary in summaries:
        for labels, value in values(summary):
            labels["session"] = summary.alias
            family.samples.append(Sample(sample_name, labels, value))
    return family


def printable(value: str) -> str:
    """``value`` with its control characters replaced."""
    return value if _PRINTABLE.fullmatch(value) else value.translate(_CONTROLS)
