"""Server-sent events for the status page.

Each event is complete, so a client that connects late or misses some needs only the next one. Two streams:

- the list: totals, upstreams, and the sessions of a query;
- one session, with its diagnosis.

The number of streams is limited. Their interval grows with their cost, so that all streams together use a
few percent of the processor, whatever the number of sessions. A client that does not read is disconnected
by its connection's deadline, and no event is created for it until then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, final

from gateway.admin.http.problems import TooManyEventStreams
from gateway.admin.http.responses import as_json, json_list
from gateway.admin.resources.diagnosis import diagnose
from gateway.admin.resources.gateway_interface import Gateway
from gateway.admin.resources.queries import SessionQuery
from gateway.admin.resources.totals import totals
from gateway.admin.time_slices import TimeSlices
from gateway.protocols.rtmp.mirror_states import MirrorState
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.measurement.latency import MIDDLES
from gateway.telemetry.sessions import NEWEST_ENDED
from gateway.telemetry.summary import Summary

# The limit on open status pages.
WATCHERS: Final = 16
# The interval of events: readable, and sufficient for the plots.
_PERIOD_S: Final = 1.0
# The share of the processor time for all event streams.
_SHARE: Final = 0.05
# The client's delay before reconnecting, in milliseconds.
_RETRY: Final = b"retry: 3000\n\n"


@final
class EventStreams:
    """The open event streams. ``time_slices`` returns those of one piece of long work.

    ``clock`` never goes back; ``wall_clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        gateway: Gateway,
        time_slices: Callable[[], TimeSlices],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._time_slices = time_slices
        self._clock = clock
        self._wall_clock = wall_clock
        self.watchers = 0

    def list(self, query: SessionQuery) -> AsyncIterator[bytes]:
        """The stream of the list. Raises TooManyEventStreams."""
        return self._stream(lambda: self._list_event(query))

    def session(self, alias: str) -> AsyncIterator[bytes]:
        """The stream of one session, ``null`` if it is unknown. Raises TooManyEventStreams."""
        return self._stream(lambda: self._session_event(alias))

    def _stream(self, event: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        # Outside the generator, which does not run before its first use.
        if self.watchers >= WATCHERS:
            raise TooManyEventStreams(
                f"{WATCHERS} event streams are open already; close a page", Retry_After="10"
            )
        return self._events(event)

    async def _events(self, event: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        self.watchers += 1
        time_slices = self._time_slices()
        try:
            yield _RETRY
            while True:
                began = self._clock()
                yield b"data: "
                async for piece in event():
                    yield piece
                # An empty line ends the event; the JSON ends with a line end.
                yield b"\n"
                spent_s = self._clock() - began
                await time_slices.sleep(max(_PERIOD_S, spent_s * self.watchers / _SHARE))
        finally:
            self.watchers -= 1

    async def _list_event(self, query: SessionQuery) -> AsyncIterator[bytes]:
        gateway = self._gateway
        selection = await gateway.sessions(query)
        busy_share = await gateway.busy_share()
        before = {
            "now": round(self._wall_clock(), 3),
            "totals": totals(await gateway.families()),
            "draining": await gateway.is_draining(),
            "upstreams": [server_of(health) for health in await gateway.upstreams()],
            "mirrors": [mirror_of(mirror) for mirror in await gateway.mirrors()],
            "causes": selection.causes,
            "matching": selection.matching,
            "ended": [ended_row(each) for each in await gateway.ended(NEWEST_ENDED)],
        }
        rows = (row(summary, busy_share) for summary in selection.sessions)
        async for piece in json_list(before, "sessions", rows):
            yield piece

    async def _session_event(self, alias: str) -> AsyncIterator[bytes]:
        summary = await self._gateway.session(alias)
        found = None
        if summary is not None:
            found = detail(summary, await self._gateway.busy_share())
        yield as_json({"session": found}) + b"\n"


def detail(summary: Summary, busy_share: float) -> dict[str, Any]:
    """A session and its diagnosis, as plain values."""
    return {**summary.as_dict(), "diagnosis": diagnose(summary, busy_share).as_dict()}


def row(summary: Summary, busy_share: float) -> dict[str, Any]:
    """A session for the list, with the cause of its delay."""
    verdict = diagnose(summary, busy_share)
    return {**summary.as_dict(), "cause": verdict.cause.value, "delay_s": verdict.delay_s}


def ended_row(summary: Summary) -> dict[str, Any]:
    """An ended session for the list."""
    names = ("alias", "application", "stream", "action", "address", "protocol", "reason")
    ended_at = summary.opened_at + summary.duration_s
    return {
        **{name: getattr(summary, name) for name in names},
        "ended_at": round(ended_at, 3),
        "duration_s": round(summary.duration_s, 3),
        "bytes_up": summary.bytes_up,
        "bytes_down": summary.bytes_down,
    }


def server_of(health: UpstreamHealth) -> dict[str, Any]:
    """A media server, as plain values."""
    return {
        "name": health.name,
        "up": health.up,
        "due": health.due,
        "drained": health.drained,
        "state": health.state,
        "weight": health.weight,
        "sessions": health.sessions,
        "group": health.group,
        "waiting": health.waiting,
        "silent_s": round(health.silent_s, 3),
        "connections": sum(health.dials),
        "failures": health.failures,
        "failures_by_reason": dict(health.failure_reasons),
        "connect_p50_s": quantile(health.dials, 0.5),
        "connect_p95_s": quantile(health.dials, 0.95),
        "checks": {outcome: sum(counts) for outcome, counts in health.checks.items()},
        "addresses": list(health.addresses),
        "stale": health.stale,
        "failed_look_ups": health.failed_look_ups,
        "service": health.service,
        "named_only": health.named_only,
        "check_p95_s": quantile(health.checks["succeeded"], 0.95) if health.checks else 0.0,
    }


def mirror_of(mirror: MirrorState) -> dict[str, Any]:
    """A mirror with its streams, as plain values."""
    return {
        "name": mirror.name,
        "publishing": mirror.publishing,
        "waiting": mirror.waiting,
        "failures": mirror.failures,
        "left_out_messages": mirror.left_out,
        "queued_bytes": mirror.queued_bytes,
        "streams": [
            {
                "stream": each.stream,
                "state": each.state,
                "state_s": round(each.state_s, 3),
                "server": each.server,
                "queued_bytes": each.queued_bytes,
                "left_out_messages": each.left_out,
                "failures": each.failures,
                "last_error": each.last_error,
                "next_try_s": round(each.next_try_s, 3),
            }
            for each in mirror.streams
        ],
    }


def quantile(buckets: Sequence[int], share: float) -> float:
    """The value that this share of all values does not exceed; 0 if there are none."""
    due = share * sum(buckets)
    until = 0
    for count, middle in zip(buckets, MIDDLES, strict=True):
        until += count
        if until >= due and until:
            return middle
    return 0.0
