"""Letting others run: work that is long in all is done a few milliseconds at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from twisted.internet.task import deferLater

# Of 5 that may pass: one step more is made after this has passed, and none should take longer than it.
_SLICE_S: Final = 0.002


@final
class Turns:
    """One piece of long work. ``clock`` gives seconds that never go back."""

    def __init__(self, reactor: Any, clock: Callable[[], float]) -> None:
        self._reactor = reactor
        self._clock = clock
        self._began = clock()

    async def give_way(self) -> None:
        """Let others run, if this work has had its time. Owed after every step."""
        if self._clock() - self._began >= _SLICE_S:
            await self.rest()

    async def rest(self) -> None:
        """Let others run. Owed before a step that takes about as long as a slice."""
        await self.sleep(0)

    async def sleep(self, seconds: float) -> None:
        """Go on after ``seconds``."""
        await deferLater(self._reactor, seconds)
        self._began = self._clock()
