"""The admin server's interface to all workers: asks each, and merges their answers.

A worker that does not answer within a second is left out and counted; it never fails the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar, final

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from gateway.admin.resources.gateway_interface import Selection, merged
from gateway.admin.resources.queries import SessionQuery
from gateway.logs import repeated
from gateway.protocols.rtmp.mirror_states import MirrorState, merged_mirrors
from gateway.supervisor.generations import Generations
from gateway.supervisor.health_checks import HealthChecks
from gateway.supervisor.shared_rounds import SharedRounds
from gateway.supervisor.worker_process import WorkerProcess
from gateway.telemetry.exposition.merging import PREFIX
from gateway.telemetry.exposition.merging import merged as merged_families
from gateway.telemetry.exposition.session_collector import FAMILY_COUNT, assembled
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.exposition.upstream_families import upstream_families
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.sessions import SessionFilter
from gateway.telemetry.summary import Summary
from gateway.tunnels.ids import PREFIX_BYTES
from gateway.workers.channel import CallFailed
from gateway.workers.plain_values import (
    family_of,
    health_of,
    mirrors_of,
    plain,
    selection_of,
    summary_of,
)

_log = Logger()
_Result = TypeVar("_Result")
_LIST_S: Final = 5.0


class Reloads(Protocol):
    """Reloads of the configuration. ``reloads``: their number by outcome."""

    reloads: dict[str, int]

    async def reload(self) -> list[str]:
        """Raises GatewayError."""


@final
class GatewayView:
    """Implements admin/resources/gateway_interface.py. ``threshold``: the log's, if it is the gateway's."""

    def __init__(
        self,
        workers: Generations,
        reloads: Reloads,
        threshold: LevelFilter | None,
        checks: HealthChecks,
    ) -> None:
        self._checks = checks
        self._workers = workers
        self._reloads = reloads
        self._threshold = threshold
        self._collections = SharedRounds(self._collect_all)
        # Requests that a worker did not answer in time.
        self.unanswered = 0

    async def families(self) -> list[Metric]:
        await self._collections.join()
        known = [worker.families for worker in self._workers.running]
        found = merged_families([self._workers.totals.families, *known])
        servers = await self.upstreams()
        self._workers.totals.note_passing(each.name for each in servers if each.service)
        return [*with_health(found, servers), *upstream_families(servers), *self._own_families()]

    async def _collect_all(self) -> None:
        await self._of_each(self._collect)
        known = [worker.families for worker in self._workers.running]
        if known and all(known):
            self._workers.totals.forget_servers(known)

    async def _collect(self, worker: WorkerProcess) -> None:
        found = [family_of(each) async for each in worker.channel.stream("families")]
        # A worker that has ended meanwhile has sent its totals.
        if not (worker.has_ended or worker.has_totals):
            worker.note_families(found)

    def _own_families(self) -> list[Metric]:
        states = GaugeMetricFamily(
            PREFIX + "workers", "Worker processes by state.", labels=["state"]
        )
        running = self._workers.running
        retiring = sum(worker.is_retiring for worker in running)
        states.add_metric(["active"], len(running) - retiring)
        states.add_metric(["retiring"], retiring)
        reloads = CounterMetricFamily(
            PREFIX + "reloads", "Reloads of the configuration by outcome.", labels=["outcome"]
        )
        for outcome, number in self._reloads.reloads.items():
            reloads.add_metric([outcome], number)
        return [
            states,
            reloads,
            CounterMetricFamily(
                PREFIX + "worker_restarts",
                "Workers started in place of others that had failed.",
                self._workers.restarts,
            ),
            CounterMetricFamily(
                PREFIX + "workers_unanswered",
                "Requests that a worker did not answer in time, so that it was left out.",
                self.unanswered,
            ),
        ]

    async def session_metrics(self, accept: str, wanted: SessionFilter) -> AsyncIterator[bytes]:
        texts: list[list[bytes]] = [[] for _ in range(FAMILY_COUNT)]

        async def collect(worker: WorkerProcess) -> None:
            stream = worker.channel.stream("session_samples", accept, plain(wanted))
            async for index, text in stream:
                if index < FAMILY_COUNT:
                    texts[index].append(text.encode())

        await self._of_each(collect)
        for piece in assembled(texts, accept):
            yield piece

    async def sessions(self, query: SessionQuery) -> Selection:
        found = await self._of_each(
            lambda worker: worker.channel.call("sessions", plain(query), seconds=_LIST_S)
        )
        return merged(map(selection_of, found), query)

    async def session(self, alias: str) -> Summary | None:
        found = await self._of_owner(alias, "session")
        return None if found is None else summary_of(found)

    async def history(self, alias: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._of_owner(alias, "history")
        return found

    async def ended(self, most: int) -> list[Summary]:
        found = await self._of_each(lambda worker: worker.channel.call("ended", most))
        summaries = [summary_of(each) for one in found for each in one]
        summaries.sort(key=lambda each: each.opened_at + each.duration_s, reverse=True)
        return summaries[:most]

    async def end_session(self, alias: str) -> bool:
        return bool(await self._of_owner(alias, "end_session"))

    async def upstreams(self) -> list[UpstreamHealth]:
        found = await self._of_each(lambda worker: worker.channel.call("upstreams"))
        return [
            attrs.evolve(server, checks=self._checks.durations_of(server.name))
            for server in merged_health(map(health_of, found))
        ]

    async def mirrors(self) -> list[MirrorState]:
        found = await self._of_each(lambda worker: worker.channel.call("mirrors"))
        return merged_mirrors(map(mirrors_of, found))

    async def drain_upstream(self, server: str, on: bool) -> bool:
        words = "gets no new sessions" if on else "gets new sessions again"
        return await self._close_upstream(server, words, drained=on)

    async def down_upstream(self, server: str) -> bool:
        return await self._close_upstream(server, "is down", down=True)

    async def up_upstream(self, server: str) -> bool:
        return await self._close_upstream(server, "is up again", drained=False, down=False)

    async def _close_upstream(
        self, server: str, words: str, drained: bool | None = None, down: bool | None = None
    ) -> bool:
        """Drain a server, set it down, or undo this; None leaves a state as it is."""
        if server not in {each.name for each in await self.upstreams()}:
            return False
        workers = self._workers
        before = workers.closed_upstreams
        for servers, on in (
            (workers.drained_upstreams, drained),
            (workers.downed_upstreams, down),
        ):
            if on is not None:
                (servers.add if on else servers.discard)(server)
        if workers.closed_upstreams != before:
            _log.info(
                "upstream {server} {words}, as the operator asked", server=server, words=words
            )
        await self._of_each(
            lambda worker: worker.channel.call("close_upstreams", *workers.closed_upstreams)
        )
        return True

    async def busy_share(self) -> float:
        return max(
            await self._of_each(lambda worker: worker.channel.call("busy_share")), default=0.0
        )

    async def is_draining(self) -> bool:
        return self._workers.draining or self._workers.is_stopping

    async def drain(self, on: bool) -> None:
        if on != self._workers.draining:
            words = "no new sessions are taken" if on else "new sessions are taken again"
            _log.info("{words}, as the operator asked", words=words)
        self._workers.draining = on
        await self._of_each(lambda worker: worker.channel.call("drain", on))

    async def reload(self) -> list[str]:
        return await self._reloads.reload()

    async def log_level(self) -> str | None:
        return self._threshold.level if self._threshold is not None else None

    async def set_log_level(self, level: str) -> None:
        if self._threshold is not None:
            self._threshold.level = level
            _log.info("logging from {least} on, as the operator asked", least=level)
        self._workers.tell_all("log_level", level)

    async def _of_owner(self, alias: str, call: str) -> Any:
        """The answer of the session's worker; None if there is no such worker."""
        for worker in self._workers.running:
            if worker.prefix == alias[:PREFIX_BYTES]:
                try:
                    return await worker.channel.call(call, alias)
                except CallFailed as error:
                    self._leave_out(worker, error)
        return None

    async def _of_each(self, ask: Callable[[WorkerProcess], Awaitable[_Result]]) -> list[_Result]:
        """The answers of all workers, asked at the same time."""

        async def one(worker: WorkerProcess) -> list[_Result]:
            try:
                return [await ask(worker)]
            except CallFailed as error:
                self._leave_out(worker, error)
                return []

        calls = [Deferred.fromCoroutine(one(worker)) for worker in self._workers.running]
        answers = []
        for succeeded, result in await DeferredList(calls, consumeErrors=True):
            if succeeded:
                answers += result
            else:
                failure: Any = result
                _log.failure("a worker's answer could not be used", failure)
        return answers

    def _leave_out(self, worker: WorkerProcess, error: CallFailed) -> None:
        self.unanswered += 1
        repeated.warn(
            _log,
            "worker_unanswered",
            "worker {prefix} is left out: {error}",
            prefix=worker.prefix,
            error=str(error),
        )


def merged_health(found: Iterable[list[UpstreamHealth]]) -> list[UpstreamHealth]:
    """The servers of all workers, which connect to the same ones: the last connect shows which are up."""
    servers: dict[str, UpstreamHealth] = {}
    for each in (one for health in found for one in health):
        known = servers.get(each.name)
        servers[each.name] = each if known is None else _merged_server(known, each)
    return list(servers.values())


def _merged_server(one: UpstreamHealth, other: UpstreamHealth) -> UpstreamHealth:
    latest = max(one, other, key=lambda health: health.tried_at)
    return attrs.evolve(
        latest,
        failures=one.failures + other.failures,
        failure_reasons={
            reason: count + other.failure_reasons.get(reason, 0)
            for reason, count in one.failure_reasons.items()
        },
        sessions=one.sessions + other.sessions,
        waiting=one.waiting + other.waiting,
        dials=[sum(pair) for pair in zip(one.dials, other.dials, strict=True)],
        unanswered_s=max(one.unanswered_s, other.unanswered_s),
        heard_s=min(one.heard_s, other.heard_s),
        failed_look_ups=one.failed_look_ups + other.failed_look_ups,
        stale=one.stale or other.stale,
    )


def with_health(families: list[Metric], servers: Sequence[UpstreamHealth]) -> list[Metric]:
    """``families``, in which servers are up and silent as ``servers`` have it."""
    known = {
        PREFIX + "upstream_up": {each.name: float(each.up) for each in servers},
        PREFIX + "upstream_silent_seconds": {each.name: each.silent_s for each in servers},
    }
    for family in families:
        if family.name in known:
            values = known[family.name]
            family.samples = [
                sample._replace(value=values.get(sample.labels["upstream"], sample.value))
                for sample in family.samples
            ]
    return families
