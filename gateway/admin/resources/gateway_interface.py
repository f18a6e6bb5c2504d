"""What the operator sees and does, wherever the sessions live: in this process, or in several others.

Nothing in this room knows sessions, pools or tables; it asks a ``Gateway``. Every answer is plain values,
can be added up over workers, and has a bound. Whoever makes them lets the event loop run in between: no
step takes longer than a few milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from attrs import field, frozen
from prometheus_client.core import Metric

from gateway.admin.resources.queries import SessionQuery
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.sessions import SessionFilter
from gateway.telemetry.summary import Summary


@frozen
class Selection:
    """The sessions that a query is answered with, in its order; ``matching`` counts all that fit it.

    ``causes`` counts those by where their delay comes from (diagnosis.py).
    """

    sessions: list[Summary] = field(factory=list)
    matching: int = 0
    causes: Counter[str] = field(factory=Counter)


def merged(selections: Iterable[Selection], query: SessionQuery) -> Selection:
    """One selection of those that several workers made for the same query."""
    sessions: list[Summary] = []
    causes: Counter[str] = Counter()
    matching = 0
    for selection in selections:
        sessions = query.best([*sessions, *selection.sessions])
        matching += selection.matching
        causes.update(selection.causes)
    return Selection(sessions, matching, causes)


class Gateway(Protocol):
    """The gateway as a whole."""

    async def families(self) -> list[Metric]:
        """The aggregate metrics."""

    def session_metrics(self, accept: str, wanted: SessionFilter) -> AsyncIterator[bytes]:
        """The metrics of single sessions, as text in pieces that are small, or empty."""

    async def sessions(self, query: SessionQuery) -> Selection: ...

    async def session(self, alias: str) -> Summary | None:
        """One session, living or just ended; None when it is unknown."""

    async def history(self, alias: str) -> dict[str, Any] | None:
        """The last ten minutes of a living session as plain values; None when it is unknown."""

    async def ended(self, most: int) -> list[Summary]:
        """The sessions that ended last, the newest first."""

    async def end_session(self, alias: str) -> bool:
        """End a living session; False when there is none of that alias."""

    async def upstreams(self) -> list[UpstreamHealth]:
        """All servers; none while the gateway is starting."""

    async def busy_share(self) -> float:
        """The event loop's, of the busiest worker."""

    async def is_draining(self) -> bool: ...

    async def drain(self, on: bool) -> None:
        """Let no new sessions in, or let them in again. Those that live go on."""

    async def log_level(self) -> str | None:
        """The least level that is logged; None when that is not the gateway's to say."""

    async def set_log_level(self, level: str) -> None: ...
