"""The queue of opens that wait for a place on a server, in order of arrival.

Counts are shared in memory, so the end of another worker's session is not notified. The queue therefore
looks for places regularly, as long as an open waits in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gateway.errors import UpstreamFull

LOOK_S: Final = 0.05


@frozen(eq=False)
class _Waiting:
    has_place: Callable[[], bool]
    until: float
    released: Deferred[None] = field(factory=Deferred)


@final
class WaitingQueue:
    """``most``: the number that may wait; others are refused. ``seconds``: how long each may wait.
    ``clock`` returns monotonic seconds.
    """

    def __init__(self, reactor: Any, clock: Callable[[], float], most: int, seconds: float) -> None:
        self._reactor = reactor
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._waiting: list[_Waiting] = []
        self._is_looking = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_claimed(self) -> bool:
        """Whether there is a place for a waiting open, so that a new open must not take it."""
        return any(waiting.has_place() for waiting in self._waiting)

    async def wait(self, has_place: Callable[[], bool], deadline: float) -> None:
        """Return once ``has_place``, unless an earlier open can take the place. The caller must take it
        before it waits for anything else.

        Raises UpstreamFull after the seconds of the queue, or at ``deadline``, by the clock.
        """
        if len(self._waiting) >= self._most:
            raise UpstreamFull("all servers are full, and no more may wait for a place")
        until = min(deadline, self._clock() + self._seconds)
        waiting = _Waiting(has_place, until)
        self._waiting.append(waiting)
        if not self._is_looking:
            self._look_later()
        await waiting.released

    def _look(self) -> None:
        now = self._clock()
        for waiting in tuple(self._waiting):
            try:
                has_place = waiting.has_place()
            except Exception:
                # It is that one's: the others must not wait for ever.
                self._waiting.remove(waiting)
                waiting.released.errback(Failure())
                continue
            if has_place:
                self._waiting.remove(waiting)
                waiting.released.callback(None)
            elif waiting.until <= now:
                self._waiting.remove(waiting)
                waiting.released.errback(UpstreamFull("all servers are full, and stay so"))
        if self._waiting:
            self._look_later()
        else:
            self._is_looking = False

    def _look_later(self) -> None:
        self._is_looking = True
        self._reactor.callLater(LOOK_S, self._look)
