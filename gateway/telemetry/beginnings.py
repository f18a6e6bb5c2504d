"""The line that each session leaves in the log when it is known what it does: who, how, what, to where.

It is written at the stream's publish or play, and at the open where neither can be read (RTMPE, telemetry
turned off).
"""

from __future__ import annotations

from typing import Final, final

from twisted.logger import Logger

from gateway.errors import RequestRefused
from gateway.protocols.ingress import Ingress
from gateway.telemetry.summary import Summary
from gateway.telemetry.words import in_quotes

_VERBS: Final = {"play": "plays", "publish": "publishes"}
_FIELDS: Final = (
    *("alias", "address", "protocol", "listener", "upstream", "client", "proxies"),
    *("application", "stream", "action"),
)


@final
class BeginRecords:
    """A record of ``Sessions``."""

    _log = Logger()

    def opened(self, summary: Summary) -> None:
        """What the session is for is not known yet."""

    def stream_began(self, summary: Summary) -> None:
        self._write(summary)

    def stream_unknown(self, summary: Summary) -> None:
        self._write(summary)

    def ended(self, summary: Summary) -> None:
        """In the record of the end (records.py)."""

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        """No session; RefusalWarnings has a line for it."""

    def _write(self, summary: Summary) -> None:
        found = summary.as_dict()
        self._log.info(
            "session {alias}: {log_words}",
            log_words=who_and_what(summary),
            **{name: found[name] for name in _FIELDS},
        )


def who_and_what(summary: Summary) -> str:
    """``192.0.2.7 plays "live/test" by RTMPT on 0.0.0.0:80, from 127.0.0.1:1935 (FMLE/3.0)``."""
    stream = "/".join(filter(None, (summary.application, summary.stream)))
    does = f"{_VERBS[summary.action]} {in_quotes(stream)}" if summary.action else "connected"
    by = f"by {summary.protocol.upper()} on {summary.listener}"
    where = f"{'from' if summary.action == 'play' else 'to'} {summary.upstream}"
    proxies = f", through {in_quotes(', '.join(summary.proxies))}" if summary.proxies else ""
    client = f" ({summary.client})" if summary.client else ""
    return f"{summary.address or 'a local client'} {does} {by}, {where}{proxies}{client}"
