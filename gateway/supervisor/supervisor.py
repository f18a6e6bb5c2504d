"""The supervisor: opens the listening sockets, and keeps the workers that accept on them running.

A *generation* is the workers that run with one configuration. A reload starts a new generation; once all of
its workers accept clients, the old generation accepts no more, and its workers end with their last session.
A worker that fails is replaced, after a pause that doubles with each failure in a row.

The program of this process can be replaced too, by a new version of itself (``succession``): the successor
continues with the same workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, final

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.configuration.sections import Config
from gateway.errors import GatewayError
from gateway.logs import repeated
from gateway.supervisor.listening_sockets import ListeningSockets
from gateway.supervisor.retired_totals import RetiredTotals
from gateway.supervisor.succession import HandedOverGeneration, State
from gateway.supervisor.view import GatewayView
from gateway.supervisor.worker_folder import WorkerFolder
from gateway.supervisor.worker_process import FIRST_DESCRIPTOR, WorkerProcess, inheritable_copy
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.versions import version_of
from gateway.tunnels.ids import base36
from gateway.workers import admin, configured_files
from gateway.workers.place import NUMBERS
from gateway.workers.plain_values import family_of, plain_family
from gateway.workers.setup import ConfigurationText, Setup
from gateway.workers.shared_counts import SLOTS, SharedCounts, make_memory

_log = Logger()

# A worker starts within two seconds; with host names to be resolved, within their time-outs.
_START_S: Final = 60.0
# The pauses before a failed worker is replaced.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
# A worker that has run for so long has not failed because of its start.
_LASTING_S: Final = 60.0
# A worker whose event loop has not run for so long is killed, and replaced.
_DEAD_S: Final = 30.0
# A worker that has not reported for so long is late; systemd is not told then that the gateway is alive.
_LATE_S: Final = 10.0
_LOOK_S: Final = 1.0


@define
class Generation:
    """``workers``: those that run, by slot. ``sockets``: one for each listener of the configuration."""

    configuration: Config
    text: ConfigurationText
    sockets: list[Any]
    workers: list[WorkerProcess] = field(factory=list)
    is_current: bool = True


@final
class Supervisor:
    """``read`` reads the configuration again; it raises ConfigurationError. ``write_line`` writes finished
    lines of workers' logs. ``threshold`` and ``is_journal`` describe this process's log. ``state``: of the
    program that it replaces in this process.
    """

    def __init__(
        self,
        configuration: Config,
        text: ConfigurationText,
        reactor: Any,
        environment: Mapping[str, str],
        threshold: LevelFilter | None,
        read: Callable[[], tuple[Config, ConfigurationText]],
        write_line: Callable[[str], object],
        is_journal: bool = False,
        state: State | None = None,
    ) -> None:
        self._reactor = reactor
        self._environment = environment
        self._threshold = threshold
        self._read = read
        self._write_line = write_line
        self._is_journal = is_journal
        self._state = state
        self._memory = make_memory() if state is None else state.memory
        # It has survived an exec; workers get copies of it.
        os.set_inheritable(self._memory, False)
        self._counts = SharedCounts(self._memory, 0)
        # Of the workers' sockets; None before the start.
        self._folder: WorkerFolder | None = None
        self._sockets = ListeningSockets(reactor, environment)
        self._admin_port: Any = None
        self._generations: list[Generation] = []
        self._next = Generation(configuration, text, [])
        self._configuration = configuration
        self._number = 0
        self._pause_s = 0.0
        self._is_stopping = False
        # Held while a generation starts: a reload waits for the start, or for another reload.
        self._changing = DeferredLock()
        self._look = LoopingCall(self._look_after)
        self.draining = False
        self.totals = RetiredTotals()
        self.restarts = 0
        self.reloads = {"succeeded": 0, "failed": 0}

    @property
    def running(self) -> list[WorkerProcess]:
        """All workers that have started, those that retire included."""
        return [
            worker
            for generation in self._generations
            for worker in generation.workers
            if worker.is_ready and not worker.has_ended
        ]

    @property
    def is_alive(self) -> bool:
        """Whether the event loops of all workers run."""
        now = self._reactor.seconds()
        return all(now - worker.alive_at < _LATE_S for worker in self.running)

    @property
    def status(self) -> str:
        """One line for the operator."""
        retiring = sum(worker.is_retiring for worker in self.running)
        ending = f", and {retiring} that are ending" if retiring else ""
        active = len(self.running) - retiring
        return f"{self._counts.sessions.total} sessions in {active} workers{ending}"

    # Life cycle, called by the service

    def bind(self) -> None:
        """Open the listening sockets, and the admin server. Raises ConfigurationError."""
        configuration = self._next.configuration
        if self._state is not None:
            self._sockets.adopt(self._state.sockets)
        for warning in configured_files.warnings(configuration):
            _log.warn("{warning}", warning=warning)
        self._next.sockets = self._sockets.open(configuration)
        if configuration.admin is not None:
            view = GatewayView(self, self._threshold)
            self._admin_port = admin.bind(
                *(configuration.admin, configuration.source, view),
                *(self._reactor, self._environment),
                None if self._state is None or self._state.admin < 0 else self._state.admin,
            )

    async def start(self) -> None:
        """Start the workers. Returns when all accept clients. Raises GatewayError if one cannot."""
        if self._state is None:
            self._folder = WorkerFolder.make(self._environment)
            await self._changing.acquire()
            try:
                await self._start_generation(self._next)
            except GatewayError:
                # Workers that were not ready have been ended by ``stop``.
                if not self._is_stopping:
                    raise
                return
            finally:
                self._changing.release()
        else:
            self._adopt(self._state)
        if self._admin_port is not None:
            self._admin_port.startReading()
        self._look.clock = self._reactor
        self._look.start(_LOOK_S, now=False)

    async def stop(self) -> None:
        """Have all workers end their sessions, and wait for their end."""
        self._is_stopping = True
        if self._look.running:
            self._look.stop()
        workers = self._all_workers()
        for worker in workers:
            worker.stop()
        await DeferredList([worker.gone for worker in workers])
        await self._sockets.close()
        if self._admin_port is not None:
            await self._admin_port.stopListening()
        if self._folder is not None:
            self._folder.remove()

    @property
    def may_be_replaced_now(self) -> bool:
        """Whether nothing waits to be sent to a worker, and none is starting."""
        return all(worker.is_ready and worker.is_idle for worker in self._all_workers())

    def hurry(self) -> None:
        """Do not wait for sessions to end by themselves."""
        for worker in self._all_workers():
            worker.stop()

    async def reload(self) -> list[str]:
        """Read the configuration again, and replace all workers. Returns the names of what was reloaded.

        Raises GatewayError, after which nothing has changed. Logs both.
        """
        await self._changing.acquire()
        try:
            return await self._reload()
        finally:
            self._changing.release()

    async def _reload(self) -> list[str]:
        if self._is_stopping:
            raise GatewayError("the gateway stops")
        # For logrotate; also if the configuration cannot be used, and in workers that retire.
        for worker in self.running:
            worker.channel.tell("reopen_logs")
        try:
            await self._replace_all()
        except Exception as error:
            self.reloads["failed"] += 1
            faults = "; ".join(str(error).splitlines())
            _log.error("the old configuration stays in use: {faults}", faults=faults)
            raise
        self.reloads["succeeded"] += 1
        _log.info("reloaded configuration")
        return ["configuration"]

    async def _replace_all(self) -> None:
        configuration, text = self._read()
        old = self._configuration
        new = Generation(configuration, text, self._sockets.open(configuration))
        try:
            await self._start_generation(new)
        finally:
            self._sockets.close_others(
                each.configuration for each in self._generations if each.is_current
            )
        self._configuration = configuration
        if configuration.admin != old.admin:
            _log.warn("[admin] has changed, which needs a restart")
        if configuration.log.level != old.log.level and self._threshold is not None:
            self._threshold.level = configuration.log.level

    # Succession

    def hand_over(self) -> State:
        """The state for this program's successor in the same process."""
        os.set_inheritable(self._memory, True)
        return State(
            memory=self._memory,
            folder=self._the_folder.path,
            number=self._number,
            draining=self.draining,
            level="" if self._threshold is None else self._threshold.level,
            restarts=self.restarts,
            reloads=self.reloads,
            totals=[plain_family(each) for each in self.totals.families],
            admin=-1 if self._admin_port is None else inheritable_copy(self._admin_port.fileno()),
            sockets=self._sockets.hand_over(),
            generations=[
                HandedOverGeneration(
                    each.text,
                    each.is_current,
                    [worker.hand_over() for worker in each.workers if not worker.has_ended],
                )
                for each in self._generations
            ],
        )

    def _adopt(self, state: State) -> None:
        """Continue with the workers of the program that ran in this process before."""
        self._folder, self._number = WorkerFolder(state.folder), state.number
        self.draining, self.restarts, self.reloads = state.draining, state.restarts, state.reloads
        self.totals.families = [family_of(each) for each in state.totals]
        if self._threshold is not None and state.level:
            self._threshold.level = state.level
        for handed_over in state.generations:
            self._generations.append(self._adopt_generation(handed_over))
        self._state = None
        _log.info(
            "the supervisor continues as version {version}", version=version_of("rtmpt-gateway")
        )

    def _adopt_generation(self, handed_over: HandedOverGeneration) -> Generation:
        # The file may have changed since; workers that fail are replaced by ones with the same text.
        is_current, text = handed_over.is_current, handed_over.text
        configuration = text.parse() if is_current else self._next.configuration
        generation = Generation(
            configuration, text, self._sockets.of(configuration), is_current=is_current
        )
        for each in handed_over.workers:
            worker = WorkerProcess.adopted(self._reactor, each, self._write_line)
            self._add_worker(generation, worker)
        return generation

    # Workers

    async def _start_generation(self, new: Generation) -> None:
        """Raises GatewayError, after which its workers end."""
        self._generations.append(new)
        try:
            workers = [self._start_worker(new) for _ in range(worker_count(new.configuration))]
            await gatherResults([worker.ready for worker in workers], consumeErrors=True)
            if self.draining:
                for worker in workers:
                    await worker.channel.call("drain", True)
        except Exception as error:
            self._discard(new)
            raise _first_cause(error) from None
        for old in self._generations:
            if old is not new and old.is_current:
                self._retire(old, new.configuration.limits.reload_drain_s)

    def _discard(self, new: Generation) -> None:
        """End the workers of a generation that could not start as a whole.

        Those that are ready may have clients already, and end with their last session.
        """
        self._retire(new, new.configuration.limits.reload_drain_s)
        if not new.workers:
            self._generations.remove(new)

    def _start_worker(self, generation: Generation) -> WorkerProcess:
        memory, first_socket = FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1
        log = generation.configuration.log
        worker = WorkerProcess(
            self._reactor,
            Setup(
                number=self._free_number(generation.configuration.node.id),
                slot=self._free_slot(),
                configuration=generation.text,
                folder=self._the_folder.path,
                sockets=tuple(range(first_socket, first_socket + len(generation.sockets))),
                memory=memory,
                level=self._level(log.level),
                is_journal=self._is_journal,
                is_first=not generation.workers,
            ),
            generation.configuration.node.id,
            self._write_line,
        )
        self._add_worker(generation, worker)
        worker.start(self._memory, [port.fileno() for port in generation.sockets])
        late = self._reactor.callLater(_START_S, worker.kill)
        worker.ready.addBoth(partial(_cancel, late))
        return worker

    def _add_worker(self, generation: Generation, worker: WorkerProcess) -> None:
        generation.workers.append(worker)
        worker.gone.addCallback(lambda _: self._worker_gone(generation, worker))

    def _level(self, configured: str) -> str:
        """The level for a new worker's log: as configured, unless the operator has changed it since."""
        is_changed = configured != self._configuration.log.level
        return configured if is_changed or self._threshold is None else self._threshold.level

    def _retire(self, generation: Generation, seconds: float) -> None:
        generation.is_current = False
        for worker in generation.workers:
            worker.retire(seconds)

    def _worker_gone(self, generation: Generation, worker: WorkerProcess) -> None:
        generation.workers.remove(worker)
        self._counts.clear(worker.setup.slot)
        self._the_folder.remove_socket(worker.prefix)
        self.totals.add(worker.families, worker.sessions)
        if not generation.workers and not generation.is_current:
            self._generations.remove(generation)
        if generation.is_current and worker.is_ready and not self._is_stopping:
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
        if not generation.is_current or self._is_stopping:
            return
        self.restarts += 1
        worker = self._start_worker(generation)
        try:
            await worker.ready
        except GatewayError as error:
            _log.error("a worker cannot start: {error}", error=str(error))
            self._pause_s = self._longer_pause()
            self._replace_later(generation)
        else:
            _log.info("worker {prefix} has been started instead", prefix=worker.prefix)
            if self.draining:
                await worker.channel.call("drain", True)

    def _look_after(self) -> None:
        """Kill workers whose event loop does not run."""
        repeated.flush()
        now = self._reactor.seconds()
        for worker in self.running:
            if now - worker.alive_at > _DEAD_S:
                _log.error("worker {prefix} does not respond and is killed", prefix=worker.prefix)
                worker.alive_at = now
                worker.kill()

    @property
    def _the_folder(self) -> WorkerFolder:
        if self._folder is None:
            raise RuntimeError("the supervisor has not started")
        return self._folder

    def _all_workers(self) -> list[WorkerProcess]:
        return [worker for generation in self._generations for worker in generation.workers]

    def _free_number(self, node: str) -> int:
        """A number that no worker uses, those of a killed supervisor included."""
        used = {worker.prefix for worker in self._all_workers()}
        while True:
            self._number = (self._number + 1) % NUMBERS
            prefix = node + base36(self._number, 2)
            if prefix not in used and not self._the_folder.is_used(prefix):
                return self._number

    def _free_slot(self) -> int:
        used = {worker.setup.slot for worker in self._all_workers()}
        free = set(range(SLOTS)) - used
        if not free:
            raise GatewayError(
                f"{SLOTS} workers run already; wait until those of earlier reloads have ended"
            )
        return min(free)


def worker_count(configuration: Config) -> int:
    """The number of workers to run. The embedded origin exists once, so there is one worker then."""
    if not configuration.upstreams:
        return 1
    return configuration.workers or len(os.sched_getaffinity(0))


def _cancel(late: Any, result: Any) -> Any:
    if late.active():
        late.cancel()
    return result


def _first_cause(error: Exception) -> Exception:
    """What is behind the error of ``gatherResults``."""
    failure: Failure | None = getattr(error, "subFailure", None)
    cause = error if failure is None else failure.value
    return cause if isinstance(cause, Exception) else error
