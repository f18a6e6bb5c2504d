"""The interface between the admin server and the gateway, whether its sessions are in this process or
others.

The admin server does not know sessions, pools or tables; it calls a ``Gateway``. All results are plain
values of limited size that can be merged over workers. Implementations yield to the reactor, so that no
step takes more than a few milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from attrs import field, frozen
from prometheus_client.core import Metric

from gateway.admin.resources.queries import SessionQuery
from gateway.protocols.rtmp.mirror_states import MirrorState
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.sessions import SessionFilter
from gateway.telemetry.summary import Summary


@frozen
class Selection:
    """The result of a query. ``sessions``: in its order, up to its limit.

    ``matching``: the number of all matching sessions. ``causes``: their number by cause of delay
    (diagnosis.py).
    """

    sessions: list[Summary] = field(factory=list)
    matching: int = 0
    causes: Counter[str] = field(factory=Counter)


def merged(selections: Iterable[Selection], query: SessionQuery) -> Selection:
    """Merge the results of several workers for the same query."""
    sessions: list[Summary] = []
    causes: Counter[str] = Counter()
    matching = 0
    for selection in selections:
        sessions = query.best([*sessions, *selection.sessions])
        matching += selection.matching
        causes.update(selection.causes)
    return Selection(sessions, matching, causes)


class Gateway(Protocol):
    """The gateway with all its workers."""

    async def families(self) -> list[Metric]:
        """The aggregate metrics."""

    def session_metrics(self, accept: str, wanted: SessionFilter) -> AsyncIterator[bytes]:
        """The metrics of single sessions, as text in small or empty pieces."""

    async def sessions(self, query: SessionQuery) -> Selection: ...

    async def session(self, alias: str) -> Summary | None:
        """An active or recently ended session; None if it is unknown."""

    async def history(self, alias: str) -> dict[str, Any] | None:
        """The last ten minutes of an active session as plain values; None if it is unknown."""

    async def ended(self, most: int) -> list[Summary]:
        """The most recently ended sessions, newest first."""

    async def end_session(self, alias: str) -> bool:
        """End a session. Returns False if no active session has the alias."""

    async def upstreams(self) -> list[UpstreamHealth]:
        """All upstream servers; none during startup."""

    async def mirrors(self) -> list[MirrorState]:
        """All mirrors, with their streams."""

    async def drain_upstream(self, server: str, on: bool) -> bool:
        """Drain a server, or end its drain. A drained server gets no new sessions; its sessions continue.
        Returns False if there is no such server.
        """

    async def down_upstream(self, server: str) -> bool:
        """As ``drain_upstream``; the server is also shown as down."""

    async def up_upstream(self, server: str) -> bool:
        """Undo ``drain_upstream`` and ``down_upstream``. Returns False if there is no such server."""

    async def busy_share(self) -> float:
        """The event loop's busy share, of the busiest worker."""

    async def is_draining(self) -> bool: ...

    async def drain(self, on: bool) -> None:
        """Refuse new sessions, or accept them again. Active sessions continue."""

    async def reload(self) -> list[str]:
        """Reload what can be reloaded, and return its names. Raises GatewayError if it is invalid."""

    async def log_level(self) -> str | None:
        """The lowest level logged; None if twistd's options configure the log."""

    async def set_log_level(self, level: str) -> None: ...
