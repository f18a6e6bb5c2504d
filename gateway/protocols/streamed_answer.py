"""An answer that is being streamed, and the totals of a session's. ``streaming`` has their rules."""

from __future__ import annotations

from typing import Final, final

from gateway.protocols.interfaces import Reply

# The first declared length, before the session's rate is known, and the largest. The largest is less than
# the 250 kB that librtmp acknowledges, so that at most one send follows an answer.
FIRST_BYTES: Final = 16 * 1024
MOST_BYTES: Final = 192 * 1024
# The most that a length grows from one answer to the next: a burst says little about the later rate.
GROWTH: Final = 4
_PROOFS: Final = 2
_CHUNKED: Final = -1
_ANY_ROOM: Final = 1 << 62


@final
class StreamedAnswer:
    """An answer that is being streamed. ``left``: how much of the declared length is not written yet.

    ``from_bytes``: the session's position in the upstream's data (``StreamingDownstream.written_bytes``) at
    which it begins. ``kept``: what has been written, if it is stored for repetition; ``room``: how much
    more can be. ``is_limited``: its size is, by ``left`` or ``room``.
    """

    __slots__ = (
        *("began_at", "ends_at", "from_bytes", "full", "is_limited", "kept", "left"),
        *("reply", "room"),
    )

    def __init__(self, reply: Reply, now: float, duration_s: float, from_bytes: int) -> None:
        self.reply = reply
        self.from_bytes = from_bytes
        self.began_at = now
        self.ends_at = now + duration_s
        self.left = _CHUNKED
        self.full = self.is_limited = False
        self.kept: list[bytes] | None = None
        self.room = _ANY_ROOM


@final
class StreamedTotals:
    """Totals of a session's streamed answers."""

    __slots__ = ("answers", "last_bytes", "proofs", "rate", "seconds", "size_bytes")

    def __init__(self) -> None:
        self.answers = self.size_bytes = self.proofs = 0
        self.seconds = 0.0
        # The size of the last answer, and its rate in bytes a second.
        self.last_bytes = FIRST_BYTES // GROWTH
        self.rate = 0.0

    @property
    def is_direct(self) -> bool:
        """Whether it is proven that nothing between buffers the answers."""
        return self.proofs >= _PROOFS
