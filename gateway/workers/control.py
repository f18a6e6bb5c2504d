"""The worker's end of the channel to the supervisor: answers its calls, and follows its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gateway.admin.time_slices import TimeSlices
from gateway.errors import GatewayError
from gateway.logs import repeated
from gateway.telemetry.replaced_publishers import Name
from gateway.workers.channel import CallFailed, Channel
from gateway.workers.plain_values import filter_of, plain, plain_family, query_of
from gateway.workers.worker import Worker

_log = Logger()


@final
class Control:
    """``ended`` is called once the worker has nothing left to do. ``take_dropped`` returns the number of
    log lines dropped since the last call.
    """

    def __init__(
        self,
        worker: Worker,
        prefix: str,
        reactor: Any,
        time_slices: Callable[[], TimeSlices],
        ended: Callable[[], object],
        take_dropped: Callable[[], int],
    ) -> None:
        self._worker = worker
        self._prefix = prefix
        self._view = worker.view
        self._time_slices = time_slices
        self._ended = ended
        self._take_dropped = take_dropped
        self._is_ending = False
        # Whether the supervisor, and a signal to this process, have asked for the stop of the gateway.
        self._is_told = self._is_signalled = False
        view = worker.view
        self.channel = Channel(
            reactor,
            events={
                "retire": self.retire,
                "stop": self.stop,
                "hurry": worker.hurry,
                "log_level": view.set_log_level,
                "health": worker.note_health,
                "renew_certificates": worker.renew_certificates,
                "reopen_logs": worker.figures.reopen_logs,
            },
            lost=self._supervisor_lost,
            calls={
                "busy_share": view.busy_share,
                "close_upstreams": view.close_upstreams,
                "drain": view.drain,
                "end_session": view.end_session,
                "ended": self._recently_ended,
                "history": view.history,
                "mirrors": self._mirrors,
                "reload_certificates": self._reload_certificates,
                "replace_publisher": self._replace_publisher,
                "session": self._session,
                "sessions": self._sessions,
                "upstreams": self._upstreams,
            },
            streams={"families": self._families, "session_samples": self._session_samples},
        )

        if worker.figures.publishers is not None:
            worker.figures.publishers.announce = self._announce_publisher

    def report(self) -> None:
        """Tell the supervisor that the event loop runs, how many sessions there are, and, since the last
        report, how many log lines were dropped and how often each media server has failed.
        """
        self.channel.tell("alive", self._worker.sessions_by_protocol(), self._take_dropped())
        suspicions = self._worker.figures.upstreams.take_suspicions()
        if suspicions:
            self.channel.tell("suspect", suspicions)

    # Events

    def retire(self, seconds: float) -> None:
        """The worker has been replaced: end it with its last session."""
        self._end(seconds)

    def stop(self) -> None:
        """The gateway stops."""
        self._is_told = True
        if not self._is_signalled:
            self._end(None)

    def terminate(self) -> None:
        """SIGTERM: as ``stop``. One that all processes of the gateway get is one request, not two."""
        if not self._is_told:
            self._is_signalled = True
            self._end(None)

    def _end(self, retire_s: float | None, awaits_successor: bool = False) -> None:
        if self._is_ending:
            self._worker.hurry()
            return
        self._is_ending = True
        Deferred.fromCoroutine(self._finish(retire_s, awaits_successor)).addErrback(
            lambda failure: _log.failure("the worker could not end in order", failure)
        ).addBoth(lambda _: self._ended())

    async def _finish(self, retire_s: float | None, awaits_successor: bool) -> None:
        if awaits_successor:
            await self._worker.await_successor()
        if retire_s is not None:
            await self._worker.retire(retire_s)
        await self._worker.stop()
        families = [plain_family(each) for each in await self._view.families()]
        self.channel.tell("totals", families)

    def _supervisor_lost(self) -> None:
        self._is_told = False
        if not self._is_ending:
            _log.error("the supervisor has ended; the sessions of this worker continue")
            self._end(self._worker.reload_drain_s, awaits_successor=True)

    # Publishers

    def _announce_publisher(self, alias: str, name: Name, since: float) -> None:
        """Have other workers end older publishers before anything more is sent upstream."""
        release = self._worker.figures.sessions.hold(alias)
        Deferred.fromCoroutine(self._replace_elsewhere(name, since)).addErrback(
            lambda failure: _log.failure("older publishers could not be ended", failure)
        ).addBoth(lambda _: release())

    async def _replace_elsewhere(self, name: Name, since: float) -> None:
        try:
            await self.channel.call("replace_publisher", self._prefix, name, since)
        except CallFailed as error:
            repeated.warn(
                _log,
                "replace_publisher",
                "older publishers in other workers were not ended: {error}",
                error=str(error),
            )

    async def _replace_publisher(self, name: list[str], since: float) -> None:
        publishers = self._worker.figures.publishers
        if publishers is not None:
            publishers.replace_older((name[0], name[1], name[2]), since)

    # Calls

    async def _reload_certificates(self) -> None:
        self._worker.reload_certificates()

    async def _recently_ended(self, most: int) -> Any:
        return plain(await self._view.ended(most))

    async def _session(self, alias: str) -> Any:
        return plain(await self._view.session(alias))

    async def _sessions(self, query: Any) -> Any:
        return plain(await self._view.sessions(query_of(query)))

    async def _upstreams(self) -> Any:
        return plain(await self._view.upstreams())

    async def _mirrors(self) -> Any:
        return plain(await self._view.mirrors())

    async def _families(self) -> AsyncIterator[Any]:
        time_slices = self._time_slices()
        for family in await self._view.families():
            yield plain_family(family)
            await time_slices.yield_to_reactor()

    async def _session_samples(self, accept: str, wanted: Any) -> AsyncIterator[Any]:
        time_slices = self._time_slices()
        async for index, text in self._view.session_samples(accept, filter_of(wanted)):
            yield index, text.decode()
            await time_slices.yield_to_reactor()


def failure_text(error: BaseException | None) -> str:
    """The lines that the supervisor reports for a worker that cannot start."""
    return str(error) if isinstance(error, GatewayError | OSError) else repr(error)
