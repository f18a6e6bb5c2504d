"""The time from a write until the server has answered the send that carries its last byte.

One write is timed at once, as TCP times segments: the next one when that is answered. So a sample costs no
record for each write, and a long delay counts once.
"""

from __future__ import annotations

from typing import final


@final
class AnswerTimes:
    """``take`` returns the samples since the last call, in seconds. Their number is bounded by the rate of
    round trips.
    """

    __slots__ = ("_mark", "_samples", "_since", "_written")

    def __init__(self) -> None:
        self._written = 0
        # The write that is timed: when it began, and its last byte's place in the stream; 0 for none.
        self._since = 0.0
        self._mark = 0
        self._samples: list[float] = []

    def wrote(self, size: int, now: float) -> None:
        """``size`` bytes were written."""
        self._written += size
        if not self._mark:
            self._since, self._mark = now, self._written

    @property
    def is_timing(self) -> bool:
        """Whether ``answered`` needs to be called."""
        return self._mark > 0

    def answered(self, unacknowledged: int, now: float) -> None:
        """Answers have arrived. ``unacknowledged``: the bytes of all writes that were not answered yet."""
        if self._mark and self._written - unacknowledged >= self._mark:
            self._mark = 0
            self._samples.append(now - self._since)

    def take(self) -> list[float]:
        samples, self._samples = self._samples, []
        return samples
