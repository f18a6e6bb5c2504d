"""Cooperative scheduling: long work is split into slices of a few milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from twisted.internet.task import deferLater

# Other events wait for this time, and for the last step of a slice. Shorter ones cost more iterations of
# the event loop.
SLICE_S: Final = 0.0005


@final
class TimeSlices:
    """The time slices of one task, each of ``slice_s``. ``clock`` is monotonic, in seconds."""

    def __init__(self, reactor: Any, clock: Callable[[], float], slice_s: float = SLICE_S) -> None:
        self._reactor = reactor
        self._clock = clock
        self._slice_s = slice_s
        self._began = clock()

    async def yield_to_reactor(self) -> None:
        """Yield if the current slice is used up. To be called after every step."""
        if self._clock() - self._began >= self._slice_s:
            await self.rest()

    async def rest(self) -> None:
        """Yield now. To be called before a step that takes about as long as a slice."""
        await self.sleep(0)

    async def sleep(self, seconds: float) -> None:
        """Continue after ``seconds``, in a new slice."""
        await deferLater(self._reactor, seconds)
        self._began = self._clock()
