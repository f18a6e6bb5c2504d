"""The history of a session: a ring of samples of the last ten minutes, one every ``SAMPLE_S``.

The timer for the session's minute takes the samples. A session has no history until it is ``SAMPLE_S`` old,
so short sessions and bursts of opens cost nothing. The ring grows up to 600 bytes: five half-precision
floats (11 bits, so within 0.05 %) for each sample.

Each sample also compares the byte counters, to determine since when a direction has been quiet, within one
interval and without a clock call for each command. Pings and acknowledgements are not media: a direction is
quiet below ``MOVING_BYTES`` an interval.
"""

from __future__ import annotations

import struct
from typing import Final, final

SAMPLES: Final = 60
SAMPLE_S: Final = 10.0
# 400 bit/s: below any audio codec, and above a server's pings and acknowledgements.
MOVING_BYTES: Final = 512
# One interval without media, allowing for timers that are early.
LEAST_PAUSE_S: Final = 8.0
_SAMPLE: Final = struct.Struct("<5e")
_RING_BYTES: Final = SAMPLES * _SAMPLE.size
# The largest half-precision float; rates are in kB/s, so 65 MB/s.
_MOST: Final = 65_504.0

# The values of a sample, in seconds and bytes a second.
SAMPLED: Final = (
    *("downstream_wait_p95_s", "poll_gap_p95_s"),
    *("bytes_down_per_s", "bytes_up_per_s", "round_trip_s"),
)
Sample = tuple[float, float, float, float, float]


@final
class History:
    """``up`` and ``down`` are the byte counters at ``now``, as at each sample.

    The attribute ``down`` is the one of the last sample.
    """

    __slots__ = (
        "_at",
        "_next",
        "_ring",
        "_up",
        "down",
        "down_at",
        "pause_s",
        "resumed_at",
        "up_at",
    )

    def __init__(self, up: int, down: int, began_at: float, now: float) -> None:
        self._ring = bytearray()
        self._next = 0
        self._up, self.down, self._at = up, down, now
        self.up_at = now if up >= MOVING_BYTES else began_at
        self.down_at = now if down >= MOVING_BYTES else began_at
        # When upstream data resumed last, and the duration of the pause before.
        self.resumed_at = self.pause_s = 0.0

    def sample(
        self, wait_s: float, gap_s: float, trip_s: float, up: int, down: int, now: float
    ) -> None:
        """Take a sample. Must be called every ``SAMPLE_S``."""
        span = max(now - self._at, 0.001)
        up_rate, down_rate = (up - self._up) / span, (down - self.down) / span
        if up - self._up >= MOVING_BYTES:
            self.up_at = now
        if down - self.down >= MOVING_BYTES:
            pause_s = self._at - self.down_at
            if pause_s >= LEAST_PAUSE_S:
                self.resumed_at, self.pause_s = now, pause_s
            self.down_at = now
        self._up, self.down, self._at = up, down, now
        values = wait_s, gap_s, down_rate / 1000, up_rate / 1000, trip_s
        packed = _SAMPLE.pack(*(min(value, _MOST) for value in values))
        if len(self._ring) < _RING_BYTES:
            self._ring += packed
            return
        self._ring[self._next : self._next + _SAMPLE.size] = packed
        self._next = (self._next + _SAMPLE.size) % _RING_BYTES

    def quiet_up_s(self, up: int, now: float) -> float:
        """How long the client has sent no media; too low by at most ``SAMPLE_S``."""
        return now - self.up_at if up - self._up < MOVING_BYTES else 0.0

    def quiet_down_s(self, down: int, now: float) -> float:
        """How long the upstream has sent no media; too low by at most ``SAMPLE_S``."""
        return now - self.down_at if down - self.down < MOVING_BYTES else 0.0

    def samples(self) -> list[Sample]:
        """The samples, oldest first."""
        ring = bytes(self._ring[self._next :] + self._ring[: self._next])
        return [
            (wait_s, gap_s, down * 1000, up * 1000, trip_s)
            for wait_s, gap_s, down, up, trip_s in _SAMPLE.iter_unpack(ring)
        ]

    def since_sample_s(self, now: float) -> float:
        """The age of the newest sample."""
        return now - self._at
