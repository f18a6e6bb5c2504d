"""The last answers of a session, for commands that are repeated.

A ring: the answer to number n has the place n modulo the size, so a place may hold the answer to an older
number, which the caller rules out by counting. Bounded by count and by bytes; the newest answer is kept
whatever its size, since its loss is the likeliest.
"""

from __future__ import annotations

from typing import final

from gateway.protocols.limits import Limits

# The largest answer that a session closed by its client still repeats.
_LINGERING_BYTES = 1024


@final
class Replay:
    """``size_bytes`` is what all kept answers take."""

    __slots__ = ("_most_bytes", "_places", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        self._places: list[bytes | None] = [None] * limits.replay_answers
        self._most_bytes = limits.replay_bytes
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def answer_to(self, number: int) -> bytes | None:
        """What was stored for ``number``, one of the last ``len`` numbers; None if it is not kept."""
        return self._places[number % len(self._places)]

    def store(self, number: int, answer: bytes) -> None:
        """Keep the answer to ``number``, the newest one; older ones go as far as the bound asks."""
        places = self._places
        place = number % len(places)
        self.size_bytes += len(answer) - len(places[place] or b"")
        places[place] = answer
        oldest = place
        while self.size_bytes > self._most_bytes:
            oldest = (oldest + 1) % len(places)
            if oldest == place:
                return
            self.forget(oldest)

    def forget(self, number: int) -> None:
        """Empty the place of ``number``, which may hold the answer to an older one."""
        place = number % len(self._places)
        self.size_bytes -= len(self._places[place] or b"")
        self._places[place] = None

    def keep_newest(self, number: int) -> None:
        """The session has ended with the command ``number``: of large answers only the last two are kept.

        The last command may have been refused, and the one before it may be asked for again.
        """
        kept = number % len(self._places), (number - 1) % len(self._places)
        for place, answer in enumerate(self._places):
            if place not in kept and answer is not None and len(answer) > _LINGERING_BYTES:
                self.forget(place)

    def forget_large(self) -> None:
        """The client has read what it wanted; sessions that come and go must not pile up."""
        for place, answer in enumerate(self._places):
            if answer is not None and len(answer) > _LINGERING_BYTES:
                self.forget(place)
