"""Formatting of durations, sizes, end reasons and client text in log lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_REASONS: Final[Mapping[str, str]] = {
    "client_closed": "closed by the client",
    "client_lost": "client connection lost",
    "client_silent": "nothing more from the client",
    "client_stalled": "the client accepted no more data",
    "abandoned": "opened but never used",
    "bad_handshake": "RTMPE handshake malformed or not completed",
    "sequence_gap": "a command of the client was missing",
    "window_full": "too many commands came before a missing one",
    "client_vanished": "the client's network vanished",
    "replaced": "replaced by the publisher's newer session",
    "upstream_vanished": "the media server's network vanished",
    "upstream_closed": "closed by the media server",
    "upstream_lost": "media server connection lost",
    "upstream_stalled": "the media server accepted no more data",
    "upstream_unavailable": "no media server took the connection",
    "drained": "the gateway stopped",
    "denied": "refused by access control",
    "ended_by_operator": "ended by the operator",
    "fault": "a fault of the gateway",
}
_PREFIXES: Final = ("B", "kB", "MB", "GB", "TB")
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def reason_in_words(reason: str) -> str:
    """An end reason (protocols/reasons.py) in words."""
    return _REASONS.get(reason, reason.replace("_", " "))


def duration(seconds: float) -> str:
    """A duration as ``0 ms``, ``0.4 ms``, ``83 ms``, ``4.2 s``, ``3 min 20 s`` or ``5 h 12 min``."""
    if seconds < 0.00005:
        return "0 ms"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE_S - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"


def size(count: float) -> str:
    """A size as ``12 B``, ``1.2 kB``, ``350 kB`` or ``4.5 MB``, in powers of 1000."""
    for prefix in _PREFIXES:
        if count < 999.5 or prefix == _PREFIXES[-1]:
            break
        count /= 1000
    digits = 1 if count < 9.95 and prefix != "B" else 0
    return f"{count:.{digits}f} {prefix}"


def in_quotes(text: str) -> str:
    """Text from a client in double quotes. The line observer escapes control characters."""
    return '"' + text.replace('"', '\\"') + '"'
