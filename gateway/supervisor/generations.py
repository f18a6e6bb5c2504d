"""Generations of workers, and the workers that are started instead of failed ones.

A *generation* is the workers that run with one configuration. Once all workers of a new generation accept
clients, the old generation accepts no more, and its workers end with their last session. A worker that
fails is replaced, after a pause that doubles with each failure in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, final

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.configuration.sections import Config
from gateway.errors import GatewayError
from gateway.supervisor.datagram_sockets import DatagramSockets
from gateway.supervisor.generation import Generation, handed_over_count
from gateway.supervisor.listening_sockets import ListeningSockets
from gateway.supervisor.retired_totals import RetiredTotals
from gateway.supervisor.shared_numbers import free_slot, number_servers
from gateway.supervisor.succession import HandedOverGeneration
from gateway.supervisor.worker_folder import WorkerFolder
from gateway.supervisor.worker_process import FIRST_DESCRIPTOR, HandedOver, WorkerProcess
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.tunnels.ids import base36
from gateway.workers.place import NUMBERS
from gateway.workers.setup import Setup
from gateway.workers.shared_counts import SharedCounts

_log = Logger()

# A worker starts within two seconds; with host names to be resolved, within their timeouts.
_START_S: Final = 60.0
# The pauses before a failed worker is replaced.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
# A worker that has run for so long has not failed because of its start.
_LASTING_S: Final = 60.0
# A worker whose event loop has not run for so many seconds is killed, and replaced. They are counted as
# looks: a supervisor that was stopped itself has not read what workers have reported meanwhile.
_DEAD_LOOKS: Final = 30


@final
class Generations:
    """``threshold`` and ``is_journal`` describe this process's log. ``write_line`` writes finished lines of
    workers' logs. ``memory``: the descriptor of the shared counts. ``suspect`` is called with the number of
    each media server's failures, as workers report them.
    """

    def __init__(
        self,
        reactor: Any,
        memory: int,
        threshold: LevelFilter | None,
        is_journal: bool,
        write_line: Callable[[str], object],
        suspect: Callable[[dict[str, int]], object],
    ) -> None:
        self._suspect = suspect
        self._reactor = reactor
        self._memory = memory
        self._threshold = threshold
        self._is_journal = is_journal
        self._write_line = write_line
        self._counts = SharedCounts(memory, 0)
        self._generations: list[Generation] = []
        self._pause_s = 0.0
        # The directory of the workers' sockets; None before the start.
        self.folder: WorkerFolder | None = None
        # The number of the worker that was started last.
        self.number = 0
        self.draining = False
        # The names of servers that get no new sessions, as the operator asked.
        self.drained_upstreams: set[str] = set()
        self.downed_upstreams: set[str] = set()
        # Whether workers only wait for their sessions to end.
        self.is_stopping = False
        self.totals = RetiredTotals()
        self.restarts = 0

    def __iter__(self) -> Iterator[Generation]:
        return iter(tuple(self._generations))

    @property
    def current(self) -> Generation | None:
        """The generation that accepts clients; None before the start."""
        return next((each for each in self._generations if each.is_current), None)

    @property
    def workers(self) -> list[WorkerProcess]:
        """All workers, those that are starting included."""
        return [worker for generation in self._generations for worker in generation.workers]

    @property
    def running(self) -> list[WorkerProcess]:
        """All workers that have started, those that retire included."""
        return [worker for worker in self.workers if worker.is_ready and not worker.has_ended]

    @property
    def sessions(self) -> int:
        """The number of active sessions."""
        return self._counts.sessions.total

    async def start(self, new: Generation) -> None:
        """Start a generation. It replaces the current one once all of its workers accept clients.

        Raises GatewayError, after which its workers end.
        """
        self._generations.append(new)
        try:
            workers = [self._start_worker(new) for _ in range(new.worker_count)]
            await gatherResults([worker.ready for worker in workers], consumeErrors=True)
        except Exception as error:
            self._discard(new)
            raise _first_cause(error) from None
        for old in self._generations:
            if old is not new and old.is_current:
                self._retire(old, new.configuration.limits.reload_drain_s)

    def tell_all(self, event: str, *values: Any) -> None:
        """Send an event to all workers; to one that is starting, once it accepts clients, since it may have
        read already what has changed.
        """
        for worker in self.workers:
            tell = partial(worker.channel.tell, event, *values)
            if worker.is_ready:
                tell()
            else:
                worker.ready.addCallback(partial(_call, tell))

    async def tell_others(self, prefix: str, call: str, *values: Any) -> None:
        """Make a call to all workers but that with ``prefix``. Returns when all have answered or failed."""
        calls = [
            Deferred.fromCoroutine(worker.channel.call(call, *values))
            for worker in self.running
            if worker.prefix != prefix
        ]
        await DeferredList(calls, consumeErrors=True)

    def kill_dead(self) -> None:
        """Kill workers whose event loop does not run. They are replaced. Must be called every second."""
        for worker in self.running:
            worker.unheard_looks += 1
            if worker.unheard_looks > _DEAD_LOOKS:
                _log.error("worker {prefix} does not respond and is killed", prefix=worker.prefix)
                worker.unheard_looks = 0
                worker.kill()

    # Succession

    def hand_over(self, closing: ExitStack) -> list[HandedOverGeneration]:
        """Describe the generations for ``adopt``. ``closing`` closes the workers' descriptors."""
        return [
            HandedOverGeneration(
                each.text,
                each.is_current,
                [worker.hand_over(closing) for worker in each.workers if not worker.has_ended],
                each.version,
            )
            for each in self._generations
        ]

    def adopt(
        self,
        handed_over: Sequence[HandedOverGeneration],
        sockets: ListeningSockets,
        datagram_sockets: DatagramSockets,
    ) -> None:
        """Continue with the workers of the program that ran in this process before."""
        for each in handed_over:
            # The file may have changed. Workers that fail are replaced by ones with the same configuration.
            configuration = each.text.parse() if each.is_current else Config()
            workers = handed_over_count(each, configuration)
            generation = Generation(
                *(configuration, each.text, sockets.of(configuration), each.version, workers),
                is_current=each.is_current,
                datagram_sockets=datagram_sockets.of(configuration, workers),
            )
            self._generations.append(generation)
            for worker in each.workers:
                self._adopt_worker(generation, worker)
            self._replace_missing(generation)

    def _replace_missing(self, generation: Generation) -> None:
        """Start workers instead of those that had failed, and were not replaced yet."""
        if generation.is_current:
            for _ in range(generation.worker_count - len(generation.workers)):
                self._replace_later(generation)

    def _adopt_worker(self, generation: Generation, worker: HandedOver) -> None:
        adopted = WorkerProcess.adopted(
            *(self._reactor, worker, self._write_line, self._replace_publisher, self._suspect),
            self.totals,
        )
        self._add_worker(generation, adopted)

    # Workers

    def _start_worker(self, generation: Generation) -> WorkerProcess:
        """Raises GatewayError or OSError, after which there is no worker more than before."""
        memory, first_socket = FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1
        log = generation.configuration.log
        index = generation.free_index()
        sockets: list[Any] = [*generation.sockets, *generation.datagram_sockets_of(index)]
        worker = WorkerProcess(
            self._reactor,
            Setup(
                number=self._free_number(generation.configuration.node.id),
                slot=free_slot(self.workers),
                configuration=generation.text,
                folder=self._the_folder.path,
                sockets=tuple(range(first_socket, first_socket + len(sockets))),
                memory=memory,
                level=self._level(log.level),
                is_journal=self._is_journal,
                is_first=not generation.workers,
                workers=generation.worker_count,
                servers=number_servers(self.workers, generation.configuration),
                index=index,
            ),
            generation.configuration.node.id,
            self._write_line,
            self._replace_publisher,
            self._suspect,
            self.totals,
        )
        try:
            worker.start(self._memory, [each.fileno() for each in sockets])
        except OSError as error:
            raise GatewayError(f"no process can be started: {error.strerror}") from None
        self._add_worker(generation, worker)
        late = self._reactor.callLater(_START_S, worker.kill)
        worker.ready.addBoth(partial(_cancel, late))
        # At once, since it accepts clients from then on.
        worker.ready.addCallback(lambda _: self._have_drained(worker))
        return worker

    def _add_worker(self, generation: Generation, worker: WorkerProcess) -> None:
        generation.workers.append(worker)
        worker.gone.addCallback(lambda _: self._worker_gone(generation, worker))

    async def _replace_publisher(self, prefix: str, name: list[str], since: float) -> None:
        """A session of the worker ``prefix`` publishes: others end older publishers of the same stream."""
        await self.tell_others(prefix, "replace_publisher", name, since)

    def _level(self, configured: str) -> str:
        """The level for a new worker's log: as configured, unless the operator has changed it since."""
        current = self.current
        is_changed = current is None or configured != current.configuration.log.level
        return configured if is_changed or self._threshold is None else self._threshold.level

    def _discard(self, new: Generation) -> None:
        """End the workers of a generation that could not start as a whole.

        Those that are ready may have clients already, and end with their last session.
        """
        self._retire(new, new.configuration.limits.reload_drain_s)
        if not new.workers:
            self._generations.remove(new)

    def _retire(self, generation: Generation, seconds: float) -> None:
        generation.is_current = False
        for worker in generation.workers:
            worker.retire(seconds)

    def _worker_gone(self, generation: Generation, worker: WorkerProcess) -> None:
        generation.workers.remove(worker)
        self._counts.clear(worker.setup.slot)
        self._the_folder.remove_sockets(worker.prefix)
        self.totals.add(worker.families, worker.sessions)
        if not generation.workers and not generation.is_current:
            self._generations.remove(generation)
        if worker.is_ready and self._needs_worker(generation):
            lasted = self._reactor.seconds() - worker.started_at >= _LASTING_S
            self._pause_s = _FIRST_PAUSE_S if lasted else self._longer_pause()
            self._replace_later(generation)

    def _longer_pause(self) -> float:
        return min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, self._pause_s * 2))

    def _replace_later(self, generation: Generation) -> None:
        Deferred.fromCoroutine(self._replace(generation)).addErrback(
            lambda failure: _log.failure("a worker could not be replaced", failure)
        )

    async def _replace(self, generation: Generation) -> None:
        await deferLater(self._reactor, self._pause_s)
        if not self._needs_worker(generation):
            return
        self.restarts += 1
        try:
            worker = self._start_worker(generation)
            await worker.ready
        except (GatewayError, OSError) as error:
            if not self._needs_worker(generation):
                # It was not needed any more, and has been ended.
                return
            _log.error("a worker cannot start: {error}", error=str(error))
            self._pause_s = self._longer_pause()
            self._replace_later(generation)
        else:
            _log.info("worker {prefix} has been started instead", prefix=worker.prefix)

    def _needs_worker(self, generation: Generation) -> bool:
        """Whether a worker that has failed must be replaced."""
        return generation.is_current and not self.is_stopping

    def _have_drained(self, worker: WorkerProcess) -> None:
        """Tell a new worker what the operator has asked for.

        It receives every call: one that is answered late is no failure, and no reason not to make the next.
        """
        calls: list[tuple[Any, ...]] = [("drain", True)] if self.draining else []
        if self.drained_upstreams or self.downed_upstreams:
            calls.append(("close_upstreams", *self.closed_upstreams))
        for name, *values in calls:
            self._make_call(worker, name, *values)

    def call_once_ready(self, worker: WorkerProcess, name: str, *values: Any) -> None:
        """Make a call to a worker that is starting, once it accepts clients. A failure is logged."""
        worker.ready.addCallback(lambda _: self._make_call(worker, name, *values))

    @staticmethod
    def _make_call(worker: WorkerProcess, name: str, *values: Any) -> None:
        Deferred.fromCoroutine(worker.channel.call(name, *values)).addErrback(
            lambda failure: _log.warn(
                "worker {prefix}, which has just started: {error}",
                prefix=worker.prefix,
                error=failure.getErrorMessage(),
            )
        )

    @property
    def closed_upstreams(self) -> tuple[list[str], list[str]]:
        """The servers that are drained, and those that are down, for workers."""
        return sorted(self.drained_upstreams), sorted(self.downed_upstreams)

    @property
    def _the_folder(self) -> WorkerFolder:
        if self.folder is None:
            raise RuntimeError("the supervisor has not started")
        return self.folder

    def _free_number(self, node: str) -> int:
        """A number that no worker uses, those of a killed supervisor included."""
        used = {worker.prefix for worker in self.workers}
        while True:
            self.number = (self.number + 1) % NUMBERS
            prefix = node + base36(self.number, 2)
            if prefix not in used and not self._the_folder.is_used(prefix):
                return self.number


def _call(call: Callable[[], object], _: None) -> None:
    call()


def _cancel(late: Any, result: Any) -> Any:
    if late.active():
        late.cancel()
    return result


def _first_cause(error: Exception) -> Exception:
    """What is behind the error of ``gatherResults``."""
    failure: Failure | None = getattr(error, "subFailure", None)
    cause = error if failure is None else failure.value
    return cause if isinstance(cause, Exception) else error
