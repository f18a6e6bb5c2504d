"""A piece of work that many ask for, such as the collection of all workers' metrics: one round at a time.

Two collections at once could keep the older figures of a worker, so that its counters would fall.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

from twisted.internet.defer import Deferred


@final
class SharedRounds:
    """``work`` does one round."""

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._work = work
        self._is_running = False
        # Those that the next round is for.
        self._waiting: list[Deferred[None]] = []

    async def join(self) -> None:
        """Return after a round that has begun since the call. All calls during a round share the next one.
        Raises what the round raises.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if not self._is_running:
            self._is_running = True
            Deferred.fromCoroutine(self._run())
        await waiting

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await self._work()
            except Exception as caught:
                error = caught
            for each in waiting:
                if error is None:
                    each.callback(None)
                else:
                    each.errback(error)
        self._is_running = False
