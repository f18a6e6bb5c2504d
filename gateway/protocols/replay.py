"""The last answers of a session, for repeated commands.

A ring buffer: the answer to number n is stored at n modulo its length, so a slot can hold the answer to an
older number; callers must check that a number is recent enough. Limited by count and bytes, except that the
newest answer is always kept: it is the one most likely to be requested again.
"""

from __future__ import annotations

from typing import final


@final
class Replay:
    """``size_bytes``: total size of the stored answers."""

    __slots__ = ("_most_bytes", "_places", "size_bytes")

    def __init__(self, answers: int, most_bytes: float) -> None:
        self._places: list[bytes | None] = [None] * answers
        self._most_bytes = most_bytes
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def answer_to(self, number: int) -> bytes | None:
        """The stored answer to ``number``, one of the last ``len(self)`` numbers; None if there is none."""
        return self._places[number % len(self._places)]

    def store(self, number: int, answer: bytes) -> None:
        """Store the answer to ``number``, the newest command. Drops old answers above the limit."""
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
        """Clear the slot of ``number``, which can hold the answer to an older number."""
        place = number % len(self._places)
        self.size_bytes -= len(self._places[place] or b"")
        self._places[place] = None
