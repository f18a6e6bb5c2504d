"""Answers the supervisor's calls for this worker's part of what the admin server shows.

Long tasks are split into time slices, between which the reactor runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, final

from prometheus_client.core import Metric
from twisted.logger import Logger

from gateway.admin.resources.diagnosis import diagnose
from gateway.admin.resources.gateway_interface import Selection
from gateway.admin.resources.queries import SessionQuery, Shortlist
from gateway.admin.time_slices import TimeSlices
from gateway.protocols.rtmp.mirror_states import MirrorState
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.sessions import SessionFilter
from gateway.telemetry.summary import Summary
from gateway.tunnels.admission import Admission
from gateway.workers.figures import WorkerFigures

_log = Logger()


@final
class WorkerView:
    """``time_slices`` returns those of one piece of work; ``threshold`` has the log's level."""

    def __init__(
        self,
        figures: WorkerFigures,
        admission: Admission,
        threshold: LevelFilter,
        time_slices: Callable[[], TimeSlices],
    ) -> None:
        self._figures = figures
        self._admission = admission
        self._threshold = threshold
        self._time_slices = time_slices

    async def families(self) -> list[Metric]:
        time_slices = self._time_slices()
        found = []
        for family in self._figures.metrics.families():
            if family is not None:
                found.append(family)
            await time_slices.yield_to_reactor()
        return found

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

    async def mirrors(self) -> list[MirrorState]:
        return list(self._figures.mirrors())

    async def busy_share(self) -> float:
        return self._figures.loop.busy_share

    async def close_upstreams(self, drained: list[str], down: list[str]) -> None:
        """Keep new sessions from these servers only."""
        if self._figures.pool is not None:
            self._figures.pool.close_servers(set(drained), set(down))

    async def drain(self, on: bool) -> None:
        self._admission.draining = on

    def set_log_level(self, level: str) -> None:
        self._threshold.level = level
