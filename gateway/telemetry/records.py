"""The record that every session leaves in the log when it ends: why, and all its figures, on one line."""

from __future__ import annotations

from typing import Final, final

from twisted.logger import Logger

from gateway.errors import RequestRefused
from gateway.telemetry.summary import Summary

_TEXT: Final = (
    "session {alias} of {address} ended: {reason} after {duration_s:.3f} s; {protocol}, "
    "upstream {upstream} in {upstream_connect_s:.4f} s, {action} {application!r}/{stream!r}, "
    "client {client!r}, {sends} sends, {idles} idles, {repeats} repeated, {reorders} reordered, "
    "{connections} connections, {bytes_up} bytes up, {bytes_down} down; p95 {p95}"
)


@final
class EndRecords:
    """Told of sessions by ``Sessions``."""

    _log = Logger()

    def opened(self, summary: Summary) -> None:
        """A session leaves one record, at its end."""

    def stream_began(self, summary: Summary) -> None:
        """It is in the record of the end."""

    def ended(self, summary: Summary) -> None:
        p95 = ", ".join(
            f"{name} {estimate.p95_s:.4f}" for name, estimate in summary.latencies.items()
        )
        self._log.info(_TEXT, p95=p95 or "none", **summary.as_dict())

    def refused(self, error: RequestRefused) -> None:
        """Counted, and told to the client; a line each would be an attacker's to write."""
