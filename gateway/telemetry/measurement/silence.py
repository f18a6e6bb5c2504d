"""Detection of media servers that accept connections but do not answer.

A stopped or deadlocked server process looks healthy from outside: its kernel still accepts connections
and acknowledges data. But every RTMP server answers a handshake immediately. A server therefore counts as
*silent* from the opening of a session whose handshake it has not answered, unless it has sent data on
another session since. Sessions are checked every ``SAMPLE_S``, so a silence is detected up to that much
later.

A server whose streams have paused is not silent: a session without new data proves nothing if its
handshake was answered.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final, final

from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from gateway.telemetry.measurement.history import SAMPLE_S

# C0 and C1: a server answers once it has received them.
_HELLO_BYTES: Final = 1 + BLOCK_BYTES
# Longer than a busy server or a slow network needs for the answer.
SILENT_S: Final = 3.0
# Sessions are checked every ``SAMPLE_S``, by timers that can be late.
_STALE_S: Final = 1.5 * SAMPLE_S


def unanswered_s(counted: Any, opened_at: float, now: float) -> float:
    """Seconds since the session was opened if its complete handshake is unanswered, else 0.0."""
    if counted.bytes_down or counted.bytes_up < _HELLO_BYTES:
        return 0.0
    return now - opened_at


def silent_s(unanswered_s: float, heard_s: float) -> float:
    """Seconds since a server became silent; 0.0 if it is not known to be. The arguments are those of
    ``Silences``, or of several: the longest ``unanswered_s`` and the shortest ``heard_s``.
    """
    is_silent = unanswered_s >= SILENT_S and unanswered_s < heard_s
    return unanswered_s if is_silent else 0.0


@final
class Silences:
    """For each server: the opening of its oldest unanswered session, and when that was last checked."""

    __slots__ = ("_heard_at", "_unanswered")

    def __init__(self) -> None:
        self._heard_at: dict[str, float] = {}
        self._unanswered: dict[str, tuple[float, float]] = {}

    def look(self, server: str, counted: Any, figures: Any, opened_at: float, now: float) -> None:
        """Check an active session. Must be called before the session's next history sample."""
        if unanswered_s(counted, opened_at, now):
            since, _ = self._unanswered.get(server, (opened_at, now))
            self._unanswered[server] = min(since, opened_at), now
            return
        history = figures.history
        if history is None:
            # Answered at some time after its opening.
            heard_at = opened_at if counted.bytes_down else 0.0
        else:
            heard_at = now if counted.bytes_down > history.down else 0.0
        if heard_at > self._heard_at.get(server, 0.0):
            self._heard_at[server] = heard_at
            if self._unanswered.get(server, (now, now))[0] < heard_at:
                del self._unanswered[server]

    def unanswered_s(self, server: str, now: float) -> float:
        """Seconds since the opening of the oldest unanswered session; 0.0 if there is none."""
        since, seen_at = self._unanswered.get(server, (now, now))
        return now - since if now - seen_at <= _STALE_S else 0.0

    def heard_s(self, server: str, now: float) -> float:
        """Seconds since ``server`` is known to have sent data; ``inf`` if it has not."""
        heard_at = self._heard_at.get(server)
        return inf if heard_at is None else now - heard_at

    def forget(self, server: str) -> None:
        """The server is no longer used."""
        self._heard_at.pop(server, None)
        self._unanswered.pop(server, None)
