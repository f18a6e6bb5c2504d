"""When to poll again: at once, or after the pause that the server's interval byte asks for.

- After data, and after an idle that was held, at once: the next idle will be held, or carry more data.
- After an empty answer that came at once, the server does not hold (Flash Media Server, Red5, Wowza). The
  interval byte then grows while nothing happens (PROTOCOL.md, Interval byte).

An answer was held if it took longer than the fastest one, which is about the round trip time.
"""

from __future__ import annotations

from typing import Final, final

# The unit of the interval byte of one program; the others' is longer, or they ignore the byte.
_UNIT_S: Final = 0.016
# The largest byte that servers send; others would delay data for seconds.
_MOST_UNITS: Final = 33
# More than a server and its path vary, and less than any server holds.
_HELD_S: Final = 0.02


@final
class Pacing:
    """The polls of one session."""

    __slots__ = ("_least_s",)

    def __init__(self) -> None:
        self._least_s = float("inf")

    def pause_s(self, took_s: float, interval: int, had_data: bool) -> float:
        """The time until the next idle, after an answer that took ``took_s``."""
        was_held = took_s - self._least_s >= _HELD_S
        self._least_s = min(self._least_s, took_s)
        if had_data or was_held:
            return 0.0
        return _UNIT_S * min(max(interval, 1), _MOST_UNITS)
