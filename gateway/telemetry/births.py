"""Sessions that a media server ends at birth: it closes the connection, and has sent a handshake at most.

An overloaded server does this, and a proxy without a server behind it: they accept connections, so neither
connects nor checks by TCP notice. A client can cause it too, by sending garbage. So such an end is only a
suspicion: the supervisor then checks the server with a handshake of its own (``supervisor/health_checks``),
and a client can do no more than cause one such check a second.
"""

from __future__ import annotations

from typing import Final, final

from gateway.protocols.reasons import EndReason
from gateway.telemetry.measurement.totals import UpstreamCounts
from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Summary

_BIRTH_S: Final = 2.0
# S0, S1 and S2 (the RTMP specification, 5.2).
_HANDSHAKE_BYTES: Final = 1 + 1536 + 1536
_ENDS_OF_SERVER: Final = frozenset((EndReason.UPSTREAM_CLOSED.value, EndReason.UPSTREAM_LOST.value))


@final
class BirthWatch(SessionObserver):
    """Counts these ends as failures of the server."""

    def __init__(self, counts: UpstreamCounts) -> None:
        self._counts = counts

    def ended(self, summary: Summary) -> None:
        if (
            summary.reason in _ENDS_OF_SERVER
            and summary.duration_s < _BIRTH_S
            and summary.bytes_down <= _HANDSHAKE_BYTES
        ):
            self._counts.failed(summary.upstream, "at_birth")
