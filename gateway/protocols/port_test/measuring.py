"""Measurement of throughput against the loopback: its messages and its limits, for both sides.

    client   command "measureThroughput", transaction, null, "up" or "down"
    server   _result, transaction, null, {"bytes": B, "bytes_per_s": R}, or _error if it has no room now

After that, the client may send B bytes that are ignored ("up"), or the server sends B bytes ("down"), at no
more than R bytes a second. A measurement ends when the client stops, or after ``MEASURED_S``.
"""

from __future__ import annotations

from typing import Final

MEASURE: Final = "measureThroughput"
UP: Final = "up"
DOWN: Final = "down"
# Two seconds of the client's, and the time for its first byte.
MEASURED_S: Final = 3.0
# 20 Mbit/s, twice what streams usually have. With more, testers would use the bandwidth of viewers.
BYTES_PER_S: Final = 2_500_000
MEASURED_BYTES: Final = int(MEASURED_S * BYTES_PER_S)
# The payload of one message. Its chunk size is the same, so that a megabyte has few chunks.
BLOCK_BYTES: Final = 16 * 1024
