"""The access log in W3C extended format, with the fields of Flash Media Server's log analysers.

Fields and events are those of Adobe's *Flash Media Server Administration Guide*, "Access logs": connect and
disconnect of a session, publish or play of a stream and their ends, one line each, tab-separated, with
times in UTC and ``-`` for unknown values. ``c-client-id`` is the session's alias. Streams have lines if
telemetry can read the RTMP; only the first stream of a session is found.

The number of lines is limited as in the log, and a remark has the number of omitted lines. ``reopen``
supports logrotate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from errno import EACCES
from pathlib import Path
from typing import IO, Final, final

from twisted.logger import Logger

from gateway.errors import RequestRefused
from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.telemetry.logs.line_observer import BURST, Bucket
from gateway.telemetry.logs.refusals import cause_of
from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Summary

_log = Logger()

FIELDS: Final = (
    *("x-event", "x-category", "date", "time", "tz", "x-ctx", "x-pid", "x-app", "x-duration"),
    *("x-status", "c-ip", "c-proto", "s-uri", "c-user-agent", "c-client-id"),
    *("cs-bytes", "sc-bytes", "x-sname", "x-comment"),
)
_OK: Final = 200
# Flash Media Server's status of a stream that stopped because its client disconnected.
_STOPPED: Final = 408
_STREAM_ENDS: Final = {"publish": "unpublish", "play": "stop"}
# Separators, line ends and terminal control characters. The format has no escape sequences.
_UNSAFE: Final = {code: f"%{code:02X}" for code in (*range(33), 0x22, 0x25, *range(127, 161))}


def check_path(path: Path) -> None:
    """Check that an access log can be written to ``path``, without creating it. Raises OSError if not.

    The file is not created, because the check may run as root and the gateway as another user.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    except FileNotFoundError:
        # Also raised for a directory.
        path.parent.stat()
        if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(EACCES, os.strerror(EACCES)) from None


@final
class AccessLog(SessionObserver):
    """Writes the access log. ``wall_clock`` gives seconds since 1970. ``open`` must be called first."""

    def __init__(
        self,
        path: Path,
        lines_per_s: float,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._wall_clock = wall_clock
        self._bucket = Bucket(lines_per_s, BURST, clock)
        self._file: IO[str] | None = None

    def open(self) -> None:
        """Create the file, or append to it. Raises OSError."""
        # Line-buffered, so that lines are complete after a crash, and in logrotate's copy.
        self._file = self._path.open("a", encoding="utf-8", errors="replace", buffering=1)
        try:
            if not self._file.tell():
                fields = " ".join(FIELDS)
                self._file.write(f"#Version: 1.0\n#Software: rtmpt-gateway\n#Fields: {fields}\n")
        except OSError:
            self.close()
            raise

    def reopen(self) -> None:
        """Open the file again after rotation. If that fails, an error is logged and no log is written."""
        self.close()
        try:
            self.open()
        except OSError as error:
            _log.error("access log {path}: {error}", path=str(self._path), error=error.strerror)

    def close(self) -> None:
        """Close the file. What a full disk has not taken is lost."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    # Sessions call

    def opened(self, summary: Summary) -> None:
        self._write("connect", "session", summary, _OK)

    def stream_began(self, summary: Summary) -> None:
        self._write(summary.action, "stream", summary, _OK)

    def ended(self, summary: Summary) -> None:
        if summary.action:
            ended = summary.reason == EndReason.CLIENT_CLOSED.value
            status = _OK if ended else _STOPPED
            self._write(_STREAM_ENDS[summary.action], "stream", summary, status)
        self._write("disconnect", "session", summary, _OK)

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self._put(
            {
                "x-event": "connect",
                "x-category": "session",
                "x-status": str(error.status),
                "c-ip": address,
                "c-proto": ingress.protocol,
                "x-comment": cause_of(type(error)),
            }
        )

    def _write(self, event: str, category: str, summary: Summary, status: int) -> None:
        self._put(
            {
                "x-event": event,
                "x-category": category,
                "x-app": summary.application,
                "x-duration": f"{summary.duration_s:.0f}",
                "x-status": str(status),
                "c-ip": summary.address,
                "c-proto": summary.protocol,
                "s-uri": _uri_of(summary),
                "c-user-agent": summary.client,
                "c-client-id": summary.alias,
                "cs-bytes": str(summary.bytes_up),
                "sc-bytes": str(summary.bytes_down),
                "x-sname": summary.stream,
                "x-comment": summary.reason,
            }
        )

    def _put(self, values: dict[str, str]) -> None:
        if self._file is None or not self._bucket.take():
            return
        left_out = self._bucket.take_refusals()
        moment = datetime.fromtimestamp(self._wall_clock(), UTC)
        values |= {"date": f"{moment:%Y-%m-%d}", "time": f"{moment:%H:%M:%S}", "tz": "UTC"}
        values["x-pid"] = str(os.getpid())
        line = "\t".join(values.get(name, "").translate(_UNSAFE) or "-" for name in FIELDS)
        remark = f"#Remark: {left_out} lines were left out\n" if left_out else ""
        try:
            self._file.write(f"{remark}{line}\n")
        except OSError as error:
            _log.error("access log {path}: {error}", path=str(self._path), error=error.strerror)
            self.close()


def _uri_of(summary: Summary) -> str:
    return f"{summary.protocol}://{summary.upstream}/{summary.application}"
