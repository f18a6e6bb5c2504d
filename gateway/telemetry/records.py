"""The record that every session leaves in the log when it ends.

As text, one line that people read: why, after how long, how many bytes, and the latency that its viewer or
publisher notices. The event has all figures as fields, which JSON shows. At level debug a second line has
all figures as text. Times are seconds; latencies are those of the last minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from twisted.logger import Logger

from gateway.errors import RequestRefused
from gateway.logs import debugging
from gateway.protocols.ingress import Ingress
from gateway.telemetry.beginnings import who_and_what
from gateway.telemetry.exposition.labels import TUNNELLED
from gateway.telemetry.latency import Estimate
from gateway.telemetry.summary import Summary
from gateway.telemetry.words import duration, reason_in_words, size

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
class EndRecords:
    """Told of sessions by ``Sessions``."""

    _log = Logger()

    def opened(self, summary: Summary) -> None:
        """BeginRecords has a line for it."""

    def stream_began(self, summary: Summary) -> None:
        """BeginRecords has a line for it."""

    def stream_unknown(self, summary: Summary) -> None:
        """BeginRecords has a line for it."""

    def ended(self, summary: Summary) -> None:
        found = summary.as_dict()
        self._log.info("session {alias} ended: {log_words}", log_words=_in_short(summary), **found)
        if debugging.enabled:
            self._log.debug("; ".join(_parts(summary)), **found)

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        """Counted, and told to the client; a line each would be an attacker's to write."""


def _in_short(summary: Summary) -> str:
    """Also who it was, if no publish or play gave a line with that."""
    parts = [
        f"{reason_in_words(summary.reason)} after {duration(summary.duration_s)}",
        f"{size(summary.bytes_up)} up, {size(summary.bytes_down)} down",
    ]
    if not summary.action:
        parts.append(who_and_what(summary))
    name = "upstream_delay" if summary.action == "publish" else "downstream_wait"
    found = summary.latencies.get(name)
    if found is not None:
        half, most = duration(found.p50_s), duration(found.p95_s)
        parts.append(f"{_LATENCY_WORDS[name]} {half}, 95 % under {most}")
    return "; ".join(parts)


def _parts(summary: Summary) -> Iterator[str]:
    """The record's format, without what there is nothing of; no word of it is a client's."""
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
