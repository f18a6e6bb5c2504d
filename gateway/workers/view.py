"""The admin server's interface to one worker in this process.

Long tasks are split into time slices, between which the reactor runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, final

from prometheus_client.core import Metric
from twisted.logger import Logger

from gateway.admin.resources.diagnosis import diagnose
from gateway.admin.resources.gateway_interface import Selection
from gateway.admin.resources.queries import SessionQuery, Shortlist
from gateway.admin.time_slices import TimeSlices
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.sessions import SessionFilter
from gateway.telemetry.summary import Summary
from gateway.tunnels.admission import Admission
from gateway.workers.figures import WorkerFigures

_log = Logger()


@final
class WorkerView:
    """``time_slices`` returns those of one piece of work; ``threshold`` is the log's, if it is ours."""

    def __init__(
        self,
        figures: WorkerFigures,
        admission: Admission,
        threshold: LevelFilter | None,
        time_slices: Callable[[], TimeSlices],
        reload: Callable[[], Awaitable[list[str]]],
    ) -> None:
        self._figures = figures
        self._admission = admission
        self._threshold = threshold
        self._time_slices = time_slices
        self._reload = reload

    async def families(self) -> list[Metric]:
        time_slices = self._time_slices()
        found = []
        for family in self._figures.metrics.families():
            if family is not None:
                found.append(family)
            await time_slices.yield_to_reactor()
        return found

    async def session_metrics(self, accept: str, wanted: SessionFilter) -> AsyncIterator[bytes]:
        for piece in self._figures.session_metrics.exposition(accept, wanted):
            yield piece

    async def session_samples(
        self, accept: str, wanted: SessionFilter
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Texts of samples with the indices of their families (exposition/session_collector.py)."""
        for index, text in self._figures.session_metrics.samples(accept, wanted):
            yield index, text

    async def sessions(self, query: SessionQuery) -> Selection:
        time_slices = self._time_slices()
        busy_share = await self.busy_share()
        best = Shortlist(query)
        causes: Counter[str] = Counter()
        matching = 0
        for summary in self._figures.sessions.summaries(query.wanted):
            if query.takes(summary):
                matching += 1
                causes[diagnose(summary, busy_share).cause.value] += 1
                best.put(summary)
                if best.is_long:
                    best.cut()
            await time_slices.yield_to_reactor()
        return Selection(best.take(), matching, causes)

    async def session(self, alias: str) -> Summary | None:
        return self._figures.sessions.summary(alias)

    async def history(self, alias: str) -> dict[str, Any] | None:
        return self._figures.sessions.history_of(alias)

    async def ended(self, most: int) -> list[Summary]:
        return self._figures.sessions.last_ended(most)

    async def end_session(self, alias: str) -> bool:
        ended = self._figures.sessions.dismiss(alias)
        if ended:
            _log.info("session {alias} was ended by the operator", alias=alias)
        return ended

    async def upstreams(self) -> list[UpstreamHealth]:
        return self._figures.upstream_health()

    async def busy_share(self) -> float:
        return self._figures.loop.busy_share

    async def is_draining(self) -> bool:
        return self._admission.draining or self._admission.closed

    async def drain(self, on: bool) -> None:
        if on != self._admission.draining:
            self._admission.draining = on
            words = "no new sessions are taken" if on else "new sessions are taken again"
            _log.info("{words}, as the operator asked", words=words)

    async def reload(self) -> list[str]:
        return await self._reload()

    async def log_level(self) -> str | None:
        return self._threshold.level if self._threshold is not None else None

    async def set_log_level(self, level: str) -> None:
        if self._threshold is not None:
            self._threshold.level = level
            _log.info("logging from {least} on, as the operator asked", least=level)
