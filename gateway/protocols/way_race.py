"""A race of several ways to reach one server: which way begins when, and which one is used.

    first way        begins at once
    each next way    begins ``STAGGER_S`` after the one before it, the second after ``head_start_s``; or as
                     soon as any way that has begun fails
    first answer     of the server's RTMP handshake decides the race; the other ways are given up
    no answer        until ``timeout_s``, or a failure of every way: the race is lost

Every way that has begun gets the client's handshake, and only that: the client sends nothing more before it
has the server's answer, so that no other byte is sent twice.

What a way is, and how it is begun and given up, is the caller's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import inf
from typing import Final, Generic, TypeVar, final

# RFC 8305, 8: the recommended Connection Attempt Delay. With less, distant servers get handshakes on every
# way from each client.
STAGGER_S: Final = 0.25

WayT = TypeVar("WayT", bound=Hashable)
FailureT = TypeVar("FailureT")


@final
class WayRace(Generic[WayT, FailureT]):
    """Methods return the ways to begin now. ``running``: those that have begun and not failed.

    ``failures``: of those that failed, in their order. ``winner``: the one that is used. ``end``: by when a
    way must have answered.
    """

    __slots__ = ("_head_start_s", "_next_at", "_waiting", "end", "failures", "running", "winner")

    def __init__(
        self, ways: Sequence[WayT], now: float, timeout_s: float, head_start_s: float = STAGGER_S
    ) -> None:
        self._waiting = list(ways)
        self._head_start_s = head_start_s
        self._next_at = now
        self.end = now + timeout_s
        self.running: list[WayT] = []
        self.failures: dict[WayT, FailureT] = {}
        self.winner: WayT | None = None

    @property
    def deadline(self) -> float:
        """When ``expire`` must be called; infinite when the race is over."""
        if self.is_over:
            return inf
        return min(self._next_at, self.end) if self._waiting else self.end

    @property
    def is_lost(self) -> bool:
        """Whether no way is left that could answer."""
        return self.winner is None and not (self._waiting or self.running)

    @property
    def is_over(self) -> bool:
        return self.winner is not None or self.is_lost

    def expire(self, now: float) -> list[WayT]:
        """Time has passed. At the end of the timeout nothing begins any more, and ``is_late`` holds."""
        if self.is_over or self.is_late(now) or not self._waiting or now < self._next_at:
            return []
        return self._begin(now)

    def is_late(self, now: float) -> bool:
        """Whether the timeout has passed without an answer. The ways that run must then be failed."""
        return self.winner is None and now >= self.end

    def fail(self, way: WayT, failure: FailureT, now: float) -> list[WayT]:
        """A way has failed. Ignored unless it runs."""
        if self.winner is not None or way not in self.running:
            return []
        self.running.remove(way)
        self.failures[way] = failure
        if self.is_late(now):
            self._waiting.clear()
        return self._begin(now) if self._waiting else []

    def win(self, way: WayT) -> list[WayT]:
        """The server has answered on this way. Returns the other ways that run, to be given up."""
        self.winner = way
        losers = [each for each in self.running if each != way]
        self.running.clear()
        self._waiting.clear()
        return losers

    def _begin(self, now: float) -> list[WayT]:
        is_first = not (self.running or self.failures)
        way = self._waiting.pop(0)
        self.running.append(way)
        self._next_at = now + (self._head_start_s if is_first else STAGGER_S)
        return [way]
