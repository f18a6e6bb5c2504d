"""The log records of sessions: one at the publish or play, and one at the end.

The first record is logged at the session's opening if publish and play cannot be read (RTMPE, or telemetry
disabled). The text of the last one has the reason, duration, bytes, and the latency that the viewer or
publisher notices. The events have all figures as fields, which JSON logs contain. At level debug, a further
record has all figures as text. Times are in seconds; latencies are those of the last minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from twisted.logger import Logger

from gateway.logs import debugging
from gateway.telemetry.exposition.labels import TUNNELLED
from gateway.telemetry.logs.formatting import duration, in_quotes, reason_in_words, size
from gateway.telemetry.measurement.latency import Estimate
from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Summary

_VERBS: Final = {"play": "plays", "publish": "publishes"}
_FIELDS: Final = (
    *("alias", "address", "protocol", "listener", "upstream", "client", "proxies"),
    *("application", "stream", "action"),
)
_LATENCY_WORDS: Final = {"downstream_wait": "downstream wait", "upstream_delay": "upstream delay"}
_WHO: Final = (
    "session {alias} of {address} ended: {reason} after {duration_s:.3f} s; {protocol} on {listener}, "
    "upstream {upstream} in {upstream_connect_s:.4f} s, client {client!r}"
)
_STREAM: Final = "{action} {application!r}/{stream!r}"
_PROXIES: Final = "by way of {proxies}"
_BYTES: Final = "{bytes_up} bytes up, {bytes_down} down"
_TUNNEL: Final = (
    "{sends} sends, {idles} idles, {closes} closes, {repeats} repeated, {reorders} reordered, "
    "on {connections} connections; answers: {held_answers} held, {empty_answers} empty, "
    "{filled_answers} filled"
)
_STREAMED: Final = "{streamed_answers} streamed, of {streamed_bytes} bytes in {streamed_s:.3f} s"
_TCP: Final = (
    "round trip {tcp[round_trip_s]:.4f} ± {tcp[variation_s]:.4f}, {tcp[retransmits]} sent again"
)
_DRIFT: Final = "media drift {media_drift_s:.3f}"


@final
class SessionStartLog(SessionObserver):
    """Logs the first record of a session."""

    _log = Logger()

    def stream_began(self, summary: Summary) -> None:
        self._log_client(summary)

    def stream_unknown(self, summary: Summary) -> None:
        self._log_client(summary)

    def _log_client(self, summary: Summary) -> None:
        found = summary.as_dict()
        self._log.info(
            "session {alias}: {log_words}",
            log_words=session_in_words(summary),
            **{name: found[name] for name in _FIELDS},
        )


@final
class SessionEndLog(SessionObserver):
    """Logs the last record of a session."""

    _log = Logger()

    def ended(self, summary: Summary) -> None:
        found = summary.as_dict()
        self._log.info("session {alias} ended: {log_words}", log_words=_in_short(summary), **found)
        if debugging.enabled:
            self._log.debug("; ".join(_parts(summary)), **found)


def session_in_words(summary: Summary) -> str:
    """Text such as ``192.0.2.7 plays "live/test" by RTMPT on 0.0.0.0:80, from 127.0.0.1:1935 (FMLE)``."""
    stream = "/".join(filter(None, (summary.application, summary.stream)))
    does = f"{_VERBS[summary.action]} {in_quotes(stream)}" if summary.action else "connected"
    by = f"by {summary.protocol.upper()} on {summary.listener}"
    where = f", {'from' if summary.action == 'play' else 'to'} {summary.upstream}"
    proxies = f", through {in_quotes(', '.join(summary.proxies))}" if summary.proxies else ""
    client = f" ({summary.client})" if summary.client else ""
    if not summary.upstream:
        # Its client has not sent the connect that its route depends on.
        where = ""
    return f"{summary.address or 'a local client'} {does} {by}{where}{proxies}{client}"


def _in_short(summary: Summary) -> str:
    """The text of the last record. It names the client if no publish or play was logged."""
    parts = [
        f"{reason_in_words(summary.reason)} after {duration(summary.duration_s)}",
        f"{size(summary.bytes_up)} up, {size(summary.bytes_down)} down",
    ]
    if not summary.action:
        parts.append(session_in_words(summary))
    name = "upstream_delay" if summary.action == "publish" else "downstream_wait"
    found = summary.latencies.get(name)
    if found is not None:
        half, most = duration(found.p50_s), duration(found.p95_s)
        parts.append(f"{_LATENCY_WORDS[name]} {half}, 95 % under {most}")
    return "; ".join(parts)


def _parts(summary: Summary) -> Iterator[str]:
    """The parts of the debug record's format that apply. None contains text from a client."""
    yield _WHO
    if summary.action or summary.application:
        yield _STREAM
    if summary.proxies:
        yield _PROXIES
    yield _BYTES
    if summary.protocol in TUNNELLED:
        yield _TUNNEL
    if summary.streamed_answers:
        yield _STREAMED
    if summary.tcp is not None:
        yield _TCP
    if summary.media_drift_s is not None:
        yield _DRIFT
    if summary.latencies:
        yield "last/p50/p95/max: " + ", ".join(map(_latency, summary.latencies.items()))


def _latency(named: tuple[str, Estimate]) -> str:
    name, found = named
    return f"{name} {found.last_s:.4f}/{found.p50_s:.4f}/{found.p95_s:.4f}/{found.max_s:.4f}"
