"""Estimates of latencies over the last minute: median, 95th percentile, last value and maximum.

A session's values are counted in buckets, sixteen to an octave from a millisecond on, and four below. An
estimate is the middle of its bucket: within 3 % of the true value from 1 ms on (at most 2.6 %), and within
10 % from an eighth of a millisecond on. Shorter values count as 0. The last value and the maximum are
exact. No estimate is below the least value or above the greatest, so the estimates of a constant latency
are exact.

There are two slices of half a minute. The owner calls ``turn`` every ``SLICE_S``, so an estimate covers the
last 30 to 60 seconds. No clock is read here.

The worker's totals have ``BUCKETS`` buckets, four to an octave. Every fourth bound is a bucket bound of the
Prometheus histograms. Each bucket of a session lies within one bucket of the totals.

A slice is an array of 8-bit counts, allocated at its first value: 334 bytes. Sessions with more than 255
equal values in half a minute get one of 16-bit counts (588 bytes).

A latency with a value for each command (``SlidingGaps``) stores values with an array's ``append``, and
counts many together, by the upper halves of their 32-bit floats: these are logarithmic in sufficiently
small steps (0.8 %). Counting single values by their logarithm would take three times as long.
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
# 18 octaves, up to 32.8 s, above the longest pause of a session; one bucket below, and one above.
_OCTAVES: Final = 18
BUCKETS: Final = _OCTAVES * _PER_OCTAVE + 2
_TOP: Final = BUCKETS - 1
_OFFSET: Final = 1 - _PER_OCTAVE * log2(LEAST_S)
# The representative value of each bucket: its geometric middle; 0 for the first.
MIDDLES: Final = (
    0.0,
    *(LEAST_S * 2 ** ((index - 0.5) / _PER_OCTAVE) for index in range(1, BUCKETS)),
)
# A session's buckets: those of the totals up to 1 ms, and four for each of the others. All indexes fit into
# a byte.
_FINE_FROM: Final = 13
_FINE_PER_OCTAVE: Final = 16
_FINE_TOP: Final = _FINE_FROM + 15 * _FINE_PER_OCTAVE
_MOST_S: Final = 32.768
_FINE_MIDDLES: Final = (
    *MIDDLES[:_FINE_FROM],
    *(0.001 * 2 ** ((index + 0.5) / _FINE_PER_OCTAVE) for index in range(_FINE_TOP - _FINE_FROM)),
    MIDDLES[-1],
)
# The bucket of the totals for each bucket of a session.
_COARSE: Final = (
    bytes(range(_FINE_FROM))
    + bytes(_FINE_FROM + index // 4 for index in range(_FINE_TOP - _FINE_FROM))
    + bytes([_TOP])
)
_EMPTY: Final = bytes(_FINE_TOP + 1)
_UPPER_HALF: Final = 1 if sys.byteorder == "little" else 0
# The number of values that are counted together: 512 bytes. Fewer would cost more time for each.
PENDING: Final = 128


def upper_bound(index: int) -> float:
    """The upper bound of bucket ``index``, which is outside it. The last bucket has none."""
    bound: float = LEAST_S * 2.0 ** (index / _PER_OCTAVE)
    return bound


def _bucket_of(seconds: float) -> int:
    """The index of the session bucket of a value."""
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
    """The middle of the values whose 32-bit floats have the upper half ``pattern``."""
    exponent, mantissa = pattern >> 7, pattern & 127
    middle: float = 2.0 ** (exponent - 127) * (1 + (mantissa + 0.5) / 128)
    return middle


# The bucket for each upper half of a 32-bit float: below 2**-13, and if negative, the first one.
_LEAST_PATTERN, _MOST_PATTERN, _NEGATIVE = 0x3900, 0x4280, 0x8000
_BUCKETS_OF_PATTERNS: Final = (
    bytes(_LEAST_PATTERN)
    + bytes(_bucket_of(_middle_of(each)) for each in range(_LEAST_PATTERN, _MOST_PATTERN))
    + bytes([_FINE_TOP]) * (_NEGATIVE - _MOST_PATTERN)
    + bytes(_NEGATIVE)
)


@frozen
class Estimate:
    """Statistics of a latency over the last minute, in seconds. ``count``: the number of values.

    No statistic is greater than ``max_s``.
    """

    last_s: float = 0.0
    p50_s: float = 0.0
    p95_s: float = 0.0
    max_s: float = 0.0
    count: int = 0


NOTHING: Final = Estimate()


class SlidingMinute:
    """A latency of a session. ``totals``: the worker's counts by bucket, which are updated too."""

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
        # The extremes of each slice; meaningless while the slice is None.
        self._least = self._most = self._older_least = self._older_most = 0.0
        self.last_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.last_s = seconds
        self._extend(seconds, seconds)
        self._count(_bucket_of(seconds), 1)

    def turn(self) -> None:
        """Discard the older slice, and begin a new one."""
        self._older, self._newer = self._newer, None
        self._older_least, self._older_most = self._least, self._most

    def estimate(self) -> Estimate:
        """The statistics of the last minute."""
        return self._estimate(0, self.last_s)

    def _estimate(self, nothings: int, last_s: float) -> Estimate:
        """``nothings``: the number of zero values that were not added."""
        slices = [each for each in (self._newer, self._older) if each is not None]
        if not slices:
            return Estimate(last_s, 0.0, 0.0, 0.0, nothings) if nothings else NOTHING
        least, most = self._extremes()
        # The buckets of the least and greatest values, or the next ones (SlidingGaps rounds).
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
        """The least and greatest value of both slices, within the range of the buckets."""
        if self._newer is None:
            least, most = self._older_least, self._older_most
        elif self._older is None:
            least, most = self._least, self._most
        else:
            least, most = min(self._least, self._older_least), max(self._most, self._older_most)
        return _in_range(least), _in_range(most)

    def _extend(self, least: float, most: float) -> None:
        """Update the extremes for values that are counted next."""
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
    """A latency with a value for each command, which is added by ``pending.append``.

    The caller must call ``settle`` after every ``PENDING`` commands. All methods that read call it too.
    """

    __slots__ = ("pending",)

    def __init__(self, totals: list[int]) -> None:
        super().__init__(totals)
        self.pending = array("f")

    def settle(self) -> None:
        """Count the pending values."""
        pending = self.pending
        if not pending:
            return
        self.last_s = pending[-1]
        values = pending.tolist()
        self._extend(min(values), max(values))
        patterns = array("H", pending.tobytes())[_UPPER_HALF::2]
        # In place, because the session holds this array's append.
        del pending[:]
        # All in one call. The 0 is added because itemgetter returns no tuple for a single index.
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
    """A latency that is usually zero: only other values are added.

    ``events``: the total number of values so far, including zeros, which the owner counts.
    """

    __slots__ = ("_late_event", "_prompt_newer", "_prompt_older", "late")

    def __init__(self, totals: list[int]) -> None:
        super().__init__(totals)
        self.late = 0
        self._late_event = 0
        # The number of zero values before the newer slice began, and before the older one.
        self._prompt_newer = self._prompt_older = 0

    def add_late(self, seconds: float, events: int) -> None:
        """Add the value of the last event, which is not zero."""
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
    """The sums of one or two slices by bucket."""
    return slices[0] if len(slices) == 1 else list(map(add, *slices))


def _with_room(counts: array[int]) -> array[int]:
    """The same counts in 16 bits, or if they are in 16 bits, halved."""
    if counts.typecode == "B":
        return array("H", counts)
    return array("H", [each >> 1 for each in counts])
