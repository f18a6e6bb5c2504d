"""Media servers that take connections and answer nothing, told from their sessions alone.

A server process that stands still (SIGSTOP, a deadlock, a full disk) looks up from outside: its kernel
takes connections and acknowledges bytes. But every RTMP server answers a client's handshake at once. So a
server is *silent* since the opening of a session whose handshake it has not answered, if it has said
nothing to any other session since. A session is looked at each ``SAMPLE_S``: this is known up to that much
later.

A server whose streams have paused is not silent: that nothing comes on a session that was answered proves
nothing.
"""

from __future__ import annotations

from typing import Any, Final, final

from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.telemetry.history import SAMPLE_S

# A server's version, time and random bytes follow the client's: C0 and C1 are its whole question.
_HELLO_BYTES: Final = 1 + (HANDSHAKE_BYTES - 1) // 2
# A busy server may take so long, a network between no longer.
SILENT_S: Final = 3.0
# Each session is looked at once in ``SAMPLE_S``; its timers may be late.
_STALE_S: Final = 1.5 * SAMPLE_S


def unanswered_s(counted: Any, opened_at: float, now: float) -> float:
    """For how long a session's handshake has had no answer; 0.0 if it has one, or is not whole."""
    if counted.bytes_down or counted.bytes_up < _HELLO_BYTES:
        return 0.0
    return now - opened_at


@final
class Silences:
    """By server: since when it has left a session unanswered, and when that was seen last."""

    __slots__ = ("_heard_at", "_unanswered")

    def __init__(self) -> None:
        self._heard_at: dict[str, float] = {}
        self._unanswered: dict[str, tuple[float, float]] = {}

    def look(self, server: str, counted: Any, figures: Any, opened_at: float, now: float) -> None:
        """Look at a living session, before its next sample is taken."""
        if unanswered_s(counted, opened_at, now):
            since, _ = self._unanswered.get(server, (opened_at, now))
            self._unanswered[server] = min(since, opened_at), now
            return
        history = figures.history
        if history is None:
            # It was answered, some time since it was opened.
            heard_at = opened_at if counted.bytes_down else 0.0
        else:
            heard_at = now if counted.bytes_down > history.down else 0.0
        if heard_at > self._heard_at.get(server, 0.0):
            self._heard_at[server] = heard_at
            if self._unanswered.get(server, (now, now))[0] < heard_at:
                del self._unanswered[server]

    def silent_s(self, server: str, now: float) -> float:
        """For how long ``server`` has been silent; 0.0 if it is not, as far as is known."""
        since, seen_at = self._unanswered.get(server, (now, now))
        is_known = now - seen_at <= _STALE_S and since > self._heard_at.get(server, 0.0)
        return now - since if is_known and now - since >= SILENT_S else 0.0
