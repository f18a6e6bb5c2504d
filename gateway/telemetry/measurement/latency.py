"""How long something took, over about the last minute: median, 95th percentile and maximum.

A session's values are counted in buckets, sixteen to an octave from a millisecond on and four below. An
estimate is the middle of its bucket: within 3 % of the true value from 1 ms on (at most 2.6 %), and within
10 % from an eighth of a millisecond on. Shorter values count as 0. The last value and the maximum are
exact. No estimate is less than the least value or more than the greatest, so that a steady latency is exact
too.

Two slices of half a minute each: whoever owns an estimate calls ``turn`` every ``SLICE_S``, and the
estimate then covers the last 30 to 60 seconds. No clock is read for that here, and none per value.

The worker's totals have ``BUCKETS`` buckets, four to an octave; every fourth bound is one of the Prometheus
histograms. Each of a session's buckets lies within one of the totals', so that neither is approximate
against the other.

A slice is an array of 8-bit counts, made at its first value: 334 bytes, for as long as there are values.
Sessions with more than 255 equal values in half a minute get one of 16-bit counts (588 bytes).

A latency that has a value for each command (``SlidingGaps``) takes it by an array's own ``append`` and
counts many at once: by the upper half of their bits as 32-bit floats, which is their logarithm in steps
fine enough (0.8 %). One at a time, a value's logarithm and its two counts would cost thrice as much.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from math import log2
from operator import add, itemgetter
from typing import Final, final

from attrs import frozen

SLICE_S: Final = 30.0
LEAST_S: Final = 0.000_125
_PER_OCTAVE: Final = 4
# 18 octaves, up to 32.8 s, past the longest silence that a session survives; one bucket below, one above.
_OCTAVES: Final = 18
BUCKETS: Final = _OCTAVES * _PER_OCTAVE + 2
_TOP: Final = BUCKETS - 1
_OFFSET: Final = 1 - _PER_OCTAVE * log2(LEAST_S)
# The value that stands for each bucket: its geometric middle; 0 for the first.
MIDDLES: Final = (
    0.0,
    *(LEAST_S * 2 ** ((index - 0.5) / _PER_OCTAVE) for index in range(1, BUCKETS)),
)
# A session's own buckets: those of the totals up to 1 ms, and each of the others in four. All indexes fit a
# byte; more buckets, or eight to an octave below 1 ms, would not.
_FINE_FROM: Final = 13
_FINE_PER_OCTAVE: Final = 16
_FINE_TOP: Final = _FINE_FROM + 15 * _FINE_PER_OCTAVE
_MOST_S: Final = 32.768
_FINE_MIDDLES: Final = (
    *MIDDLES[:_FINE_FROM],
    *(0.001 * 2 ** ((index + 0.5) / _FINE_PER_OCTAVE) for index in range(_FINE_TOP - _FINE_FROM)),
    MIDDLES[-1],
)
# For each of a session's buckets, the one of the totals.
_COARSE: Final = (
    bytes(range(_FINE_FROM))
    + bytes(_FINE_FROM + index // 4 for index in range(_FINE_TOP - _FINE_FROM))
    + bytes([_TOP])
)
_EMPTY: Final = bytes(_FINE_TOP + 1)
_UPPER_HALF: Final = 1 if sys.byteorder == "little" else 0
# Values that may wait to be counted: 512 bytes of them. Fewer make each cost more.
PENDING: Final = 128


def upper_bound(index: int) -> float:
    """The least value that is past bucket ``index``; of the last one, none is."""
    bound: float = LEAST_S * 2.0 ** (index / _PER_OCTAVE)
    return bound


def _bucket_of(seconds: float) -> int:
    """The index of a session's bucket."""
    if seconds < LEAST_S:
        return 0
    if seconds < 0.001:
        return min(int(log2(seconds) * _PER_OCTAVE + _OFFSET), _FINE_FROM - 1)
    if seconds >= _MOST_S:
        return _FINE_TOP
    return int(log2(seconds * 1000) * _FINE_PER_OCTAVE) + _FINE_FROM


def _in_range(seconds: float) -> float:
    return 0.0 if seconds < LEAST_S else min(seconds, MIDDLES[-1])


def _middle_of(pattern: int) -> float:
    """The middle of the values whose 32-bit floats begin with ``pattern``."""
    exponent, mantissa = pattern >> 7, pattern & 127
    middle: float = 2.0 ** (exponent - 127) * (1 + (mantissa + 0.5) / 128)
    return middle


# For each upper half of a 32-bit float: from 2**-13 to 64 the bucket, below and if negative the first one.
_LEAST_PATTERN, _MOST_PATTERN, _NEGATIVE = 0x3900, 0x4280, 0x8000
_BUCKETS_OF_PATTERNS: Final = (
    bytes(_LEAST_PATTERN)
    + bytes(_bucket_of(_middle_of(each)) for each in range(_LEAST_PATTERN, _MOST_PATTERN))
    + bytes([_FINE_TOP]) * (_NEGATIVE - _MOST_PATTERN)
    + bytes(_NEGATIVE)
)


@frozen
class Estimate:
    """One latency over the last minute, in seconds; ``count`` is how many values it is made of.

    No statistic is greater than ``max_s``.
    """

    last_s: float = 0.0
    p50_s: float = 0.0
    p95_s: float = 0.0
    max_s: float = 0.0
    count: int = 0


NOTHING: Final = Estimate()


class SlidingMinute:
    """One latency of one session. ``totals`` are the worker's counts by bucket, which it adds to."""

    __slots__ = (
        "_least",
        "_most",
        "_newer",
        "_older",
        "_older_least",
        "_older_most",
        "_totals",
        "last_s",
    )

    def __init__(self, totals: list[int]) -> None:
        self._totals = totals
        self._newer: array[int] | None = None
        self._older: array[int] | None = None
        # Of each slice; nothing is meant while the slice is None.
        self._least = self._most = self._older_least = self._older_most = 0.0
        self.last_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.last_s = seconds
        self._extend(seconds, seconds)
        self._count(_bucket_of(seconds), 1)

    def turn(self) -> None:
        """Half a minute has passed: forget the older slice, and begin a new one."""
        self._older, self._newer = self._newer, None
        self._older_least, self._older_most = self._least, self._most

    def estimate(self) -> Estimate:
        """What is known of the last minute."""
        return self._estimate(0, self.last_s)

    def _estimate(self, nothings: int, last_s: float) -> Estimate:
        """``nothings``: how many values of nothing there were that nobody added."""
        slices = [each for each in (self._newer, self._older) if each is not None]
        if not slices:
            return Estimate(last_s, 0.0, 0.0, 0.0, nothings) if nothings else NOTHING
        least, most = self._extremes()
        # Where the least and the greatest value are counted, or next to it (SlidingGaps rounds).
        first, end = max(_bucket_of(least) - 1, 0), _bucket_of(most) + 2
        counts = _sum([each[first:end] for each in slices])
        until = list(accumulate(counts, initial=nothings))
        count = until[-1]
        if not count:
            return NOTHING
        if nothings:
            least = 0.0
        middles = 0.0, *_FINE_MIDDLES[first : first + len(counts)]
        return Estimate(
            min(max(last_s, least), most),
            min(max(middles[bisect_left(until, (count + 1) // 2)], least), most),
            min(max(middles[bisect_left(until, -(-count * 95 // 100))], least), most),
            most,
            count,
        )

    def _extremes(self) -> tuple[float, float]:
        """The least and the greatest value of both slices, in the range of the buckets."""
        if self._newer is None:
            least, most = self._older_least, self._older_most
        elif self._older is None:
            least, most = self._least, self._most
        else:
            least, most = min(self._least, self._older_least), max(self._most, self._older_most)
        return _in_range(least), _in_range(most)

    def _extend(self, least: float, most: float) -> None:
        """Note the least and the greatest of values that are about to be counted."""
        if self._newer is None:
            self._least, self._most = least, most
            return
        if least < self._least or most > self._most:
            self._least = min(self._least, least)
            self._most = max(self._most, most)

    def _count(self, index: int, count: int) -> None:
        self._totals[_COARSE[index]] += count
        newer = self._newer
        if newer is None:
            newer = self._newer = array("B", _EMPTY)
        try:
            newer[index] += count
        except OverflowError:
            newer = self._newer = _with_room(newer)
            newer[index] += count


@final
class SlidingGaps(SlidingMinute):
    """A latency with a value for each command: ``pending.append`` takes one.

    Whoever appends owes ``settle`` after every ``PENDING`` commands. Everything that reads settles.
    """

    __slots__ = ("pending",)

    def __init__(self, totals: list[int]) -> None:
        super().__init__(totals)
        self.pending = array("f")

    def settle(self) -> None:
        """Count what is pending."""
        pending = self.pending
        if not pending:
            return
        self.last_s = pending[-1]
        values = pending.tolist()
        self._extend(min(values), max(values))
        patterns = array("H", pending.tobytes())[_UPPER_HALF::2]
        # In place: the session holds this array's append.
        del pending[:]
        # All at once, in C. The 0 is there because of one alone no tuple would be made.
        counts = Counter(itemgetter(0, *patterns)(_BUCKETS_OF_PATTERNS)[1:])
        for index, count in counts.items():
            self._count(index, count)

    def turn(self) -> None:
        self.settle()
        super().turn()

    def estimate(self) -> Estimate:
        self.settle()
        return super().estimate()


@final
class SlidingDelay(SlidingMinute):
    """A latency that is nothing most of the time: only what is late is added.

    ``events`` counts all that could have been late, ever; who owns the delay counts them anyway.
    """

    __slots__ = ("_late_event", "_prompt_newer", "_prompt_older", "late")

    def __init__(self, totals: list[int]) -> None:
        super().__init__(totals)
        self.late = 0
        self._late_event = 0
        # The prompt events before the newer slice began, and before the older one.
        self._prompt_newer = self._prompt_older = 0

    def add_late(self, seconds: float, events: int) -> None:
        """The event that was counted last was late by so much."""
        self.late += 1
        self._late_event = events
        self.add(seconds)

    def turn_at(self, events: int) -> None:
        """As ``turn``, with the count of events so far."""
        self._prompt_older, self._prompt_newer = self._prompt_newer, events - self.late
        self.turn()

    def estimate_at(self, events: int) -> Estimate:
        """As ``estimate``, with the count of events so far."""
        prompt = max(0, events - self.late - self._prompt_older)
        return self._estimate(prompt, self.last_s if events == self._late_event else 0.0)


def _sum(slices: list[array[int]]) -> Sequence[int]:
    """The counts of one slice or two, bucket by bucket."""
    return slices[0] if len(slices) == 1 else list(map(add, *slices))


def _with_room(counts: array[int]) -> array[int]:
    """The same counts with room for more: in 16 bits, and once these are full, halved."""
    if counts.typecode == "B":
        return array("H", counts)
    return array("H", [each >> 1 for each in counts])
