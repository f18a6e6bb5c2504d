"""The record that every session leaves in the log when it ends: why, and all its figures, on one line.

The event has the figures as fields, which is what JSON shows; as text they are put into words. Times are
seconds; latencies are those of the last minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from twisted.logger import Logger

from gateway.errors import RequestRefused
from gateway.protocols.way import Way
from gateway.telemetry.labels import TUNNELLED
from gateway.telemetry.latency import Estimate
from gateway.telemetry.summary import Summary

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
_TCP: Final = (
    "round trip {tcp[round_trip_s]:.4f} ± {tcp[variation_s]:.4f}, {tcp[retransmits]} sent again"
)
_DRIFT: Final = "media drift {media_drift_s:.3f}"


@final
class EndRecords:
    """Told of sessions by ``Sessions``."""

    _log = Logger()

    def opened(self, summary: Summary) -> None:
        """A session leaves one record, at its end."""

    def stream_began(self, summary: Summary) -> None:
        """It is in the record of the end."""

    def ended(self, summary: Summary) -> None:
        self._log.info("; ".join(_parts(summary)), **summary.as_dict())

    def refused(self, error: RequestRefused, address: str, way: Way) -> None:
        """Counted, and told to the client; a line each would be an attacker's to write."""


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
    if summary.tcp is not None:
        yield _TCP
    if summary.media_drift_s is not None:
        yield _DRIFT
    if summary.latencies:
        yield "last/p50/p95/max: " + ", ".join(map(_latency, summary.latencies.items()))


def _latency(named: tuple[str, Estimate]) -> str:
    name, found = named
    return f"{name} {found.last_s:.4f}/{found.p50_s:.4f}/{found.p95_s:.4f}/{found.max_s:.4f}"
