"""What becomes of sessions: one count and one log line for each end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, final

from twisted.logger import Logger

from gateway.errors import RequestRefused
from gateway.protocols.reasons import EndReason


class EndedTunnel(Protocol):
    """What the record of an ended session is made of."""

    alias: str
    address: str
    server: str
    opened_at: float

    @property
    def session(self) -> Any: ...


@final
class SessionRecords:
    """Counts are plain integers that whoever shows them reads."""

    _log = Logger()

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.opened = 0
        self.ended: dict[EndReason, int] = dict.fromkeys(EndReason, 0)
        self.refused: Counter[str] = Counter()

    def session_opened(self, tunnel: EndedTunnel) -> None:
        self.opened += 1

    def open_refused(self, error: RequestRefused) -> None:
        self.refused[type(error).__name__] += 1

    def session_ended(self, tunnel: EndedTunnel, reason: EndReason) -> None:
        self.ended[reason] += 1
        session = tunnel.session
        self._log.info(
            "session {alias} of {address} ended: {reason} after {duration_s:.3f} s; upstream {server}, "
            "{commands} commands, {repeats} repeated, {bytes_up} bytes up, {bytes_down} down",
            alias=tunnel.alias,
            address=tunnel.address,
            server=tunnel.server,
            reason=reason.value,
            duration_s=self._clock() - tunnel.opened_at,
            commands=session.commands,
            repeats=session.repeats,
            bytes_up=session.bytes_up,
            bytes_down=session.bytes_down,
        )
