"""The supervisor: opens the listening sockets, keeps workers running that accept on them, and serves the
admin server. No byte of a client passes through it.

A reload replaces all workers by ones with the new configuration (``generations``), or renews certificates
if nothing else has changed. The program of this process can be replaced too, by a new version of itself
(``succession``): the successor continues with the same workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, final

from twisted.internet.defer import DeferredList, DeferredLock
from twisted.logger import Logger

from gateway.configuration.sections import Config
from gateway.errors import GatewayError
from gateway.logs import repeated
from gateway.periodic_calls import periodic_call
from gateway.supervisor import configured_files
from gateway.supervisor.admin_server import AdminServer, Prepared
from gateway.supervisor.certificate_renewal import RENEWAL_S, CertificateRenewal
from gateway.supervisor.datagram_sockets import DatagramSockets
from gateway.supervisor.file_uses import FileUses
from gateway.supervisor.generation import Generation, handed_over_count, worker_count
from gateway.supervisor.generations import Generations
from gateway.supervisor.health_checks import LOOK_S, HealthChecks
from gateway.supervisor.listening_sockets import ListeningSockets
from gateway.supervisor.succession import State
from gateway.supervisor.view import GatewayView
from gateway.supervisor.worker_folder import WorkerFolder
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.versions import version_of
from gateway.workers.plain_values import family_of, plain_family
from gateway.workers.setup import ConfigurationText
from gateway.workers.shared_counts import make_memory

_log = Logger()

# A worker that has not reported for this time is late; the watchdog message to systemd is then omitted.
_LATE_S: Final = 10.0
_LOOK_AFTER_S: Final = 1.0
_PACKAGE: Final = "rtmpt-gateway"


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
        self._state = state
        self._memory = make_memory() if state is None else state.memory
        # It has survived an exec; workers get copies of it.
        os.set_inheritable(self._memory, False)
        self._sockets = ListeningSockets(reactor, environment)
        self._datagram_sockets = DatagramSockets()
        self._health = HealthChecks(reactor, self._tell_health)
        self.generations = Generations(
            *(reactor, self._memory, threshold, is_journal, write_line, self._health.suspect)
        )
        self._view = GatewayView(self.generations, self, threshold, self._health)
        self._admin = AdminServer(self._view, reactor, environment)
        if state is None:
            self._first = _new_generation(configuration, text)
        else:
            self._first = _continued_generation(state)
        self._first_admin = Prepared(None)
        # Held while a generation starts: a reload waits for the start, or for another reload.
        self._changing = DeferredLock()
        self._renewal = CertificateRenewal(partial(self.generations.tell_all, "renew_certificates"))
        self._file_uses = FileUses()
        # The calls that are made periodically.
        self._looking_after = periodic_call(self._look_after, reactor)
        self._timers = {
            self._looking_after: _LOOK_AFTER_S,
            periodic_call(self._renewal.look, reactor): RENEWAL_S,
            periodic_call(self._health.look, reactor): LOOK_S,
        }
        self.reloads = {"succeeded": 0, "failed": 0}
        # Called when a reload has started workers of another version than this program's.
        self.upgraded: Callable[[], object] = _ignore

    @property
    def is_alive(self) -> bool:
        """Whether the event loops of all workers run."""
        now = self._reactor.seconds()
        return all(now - worker.alive_at < _LATE_S for worker in self.generations.running)

    @property
    def status(self) -> str:
        """One line for the operator."""
        running = self.generations.running
        retiring = sum(worker.is_retiring for worker in running)
        ending = f", and {retiring} that are ending" if retiring else ""
        workers = _workers(len(running) - retiring)
        return f"{self.generations.sessions} sessions in {workers}{ending}"

    # Life cycle, called by the service

    def bind(self) -> None:
        """Open the listening sockets, and that of the admin server. Raises ConfigurationError."""
        configuration = self._first.configuration
        if self._state is not None:
            self._sockets.adopt(self._state.sockets)
            self._datagram_sockets.adopt(self._state.datagram_sockets)
        _warn(configuration)
        self._open_sockets(self._first)
        if self._state is None:
            self._first_admin = self._admin.prepare(configuration)
        else:
            self._admin.adopt(configuration, self._state.admin)

    async def start(self) -> None:
        """Start the workers. Returns when all accept clients. Raises GatewayError if one cannot."""
        others: list[Callable[[Config], object]] = []
        if self._state is None:
            self.generations.folder = WorkerFolder.make(self._environment)
            await self._changing.acquire()
            try:
                await self.generations.start(self._first)
            except GatewayError:
                # Workers that were not ready have been ended by ``stop``.
                if not self.generations.is_stopping:
                    raise
                return
            finally:
                self._changing.release()
            self._admin.use(self._first_admin)
        else:
            self._adopt(self._state)
            others.append(self._serve_admin)
        _log.info("ready: {workers}", workers=_workers(len(self.generations.running)))
        current = self.generations.current
        first = self._first.configuration if current is None else current.configuration
        self._watch(first, *others)
        for timer, seconds in self._timers.items():
            timer.start(seconds, now=False)

    async def stop(self) -> None:
        """Have all workers end their sessions, and wait for their end."""
        generations = self.generations
        generations.is_stopping = True
        for timer in self._timers:
            # Workers can stop to respond while they wait for their sessions to end.
            if timer.running and timer is not self._looking_after:
                timer.stop()
        workers = generations.workers
        for worker in workers:
            worker.stop()
        await DeferredList([worker.gone for worker in workers])
        if self._looking_after.running:
            self._looking_after.stop()
        self._datagram_sockets.close()
        await self._sockets.close()
        await self._admin.close()
        if generations.folder is not None:
            generations.folder.remove()

    def hurry(self) -> None:
        """Do not wait for sessions to end by themselves."""
        for worker in self.generations.workers:
            worker.stop()

    async def reload(self, replaces_workers: bool = False) -> list[str]:
        """Read the configuration again, and use it. Returns the names of what was reloaded.

        Workers are replaced if it has changed, if another version of the gateway is installed, or if that
        is asked for. Raises GatewayError, after which nothing has changed. Logs both.
        """
        await self._changing.acquire()
        try:
            return await self._reload(replaces_workers)
        finally:
            self._changing.release()

    async def _reload(self, replaces_workers: bool) -> list[str]:
        if self.generations.is_stopping:
            raise GatewayError("the gateway stops")
        # For logrotate; also if the configuration cannot be used, and in workers that retire.
        self.generations.tell_all("reopen_logs")
        try:
            configuration, text = self._read()
            new = _new_generation(configuration, text)
            current = self.generations.current
            if replaces_workers or current is None or not _are_alike(current, new):
                done = await self._replace_workers(new, current or self._first)
            else:
                done = await self._renew_files(current)
        except Exception as error:
            self.reloads["failed"] += 1
            faults = "; ".join(str(error).splitlines())
            _log.error("the old configuration stays in use: {faults}", faults=faults)
            raise
        self.reloads["succeeded"] += 1
        _log.info("reloaded {names}", names=" and ".join(done))
        return done

    async def _replace_workers(self, new: Generation, old: Generation) -> list[str]:
        configuration = new.configuration
        admin = self._admin.prepare(configuration)
        _warn(configuration)
        try:
            self._open_sockets(new)
            await self.generations.start(new)
        except Exception:
            self._admin.discard(admin)
            raise
        finally:
            self._close_sockets()
        self._admin.use(admin)
        self._watch(configuration)
        level = configuration.log.level
        if level != old.configuration.log.level and self._threshold is not None:
            self._threshold.level = level
        if new.version != self._first.version:
            self.upgraded()
        return ["configuration"]

    def _open_sockets(self, generation: Generation) -> None:
        """Raises ConfigurationError."""
        configuration, workers = generation.configuration, generation.worker_count
        generation.sockets = self._sockets.open(configuration)
        generation.datagram_sockets = self._datagram_sockets.open(configuration, workers)

    def _close_sockets(self) -> None:
        """Close the sockets that the current generation does not use."""
        current = self.generations.current
        if current is not None:
            self._sockets.close_others([current.configuration])
            self._datagram_sockets.close_others(current.configuration, current.worker_count)

    async def _renew_files(self, current: Generation) -> list[str]:
        """The configuration is the same: read the files again that it names."""
        configuration = current.configuration
        admin = self._admin.prepare(configuration)
        for worker in tuple(current.workers):
            if worker.has_ended:
                continue
            if worker.is_ready:
                await worker.channel.call("reload_certificates")
            else:
                # It may have read them already.
                self.generations.call_once_ready(worker, "reload_certificates")
        self._admin.use(admin)
        self._watch(configuration)
        log = [] if configuration.log.access is None else ["access log"]
        return [*log, "certificates"]

    def _watch(self, configuration: Config, *others: Callable[[Config], object]) -> None:
        """Look after the certificates and media servers of this configuration from now on, and make the
        other uses of its files.
        """
        uses = (*others, self._renewal.watch, self._health.watch)
        self._file_uses.begin(partial(use, configuration) for use in uses)

    def _serve_admin(self, configuration: Config) -> None:
        self._admin.use(self._admin.prepare(configuration))

    def _tell_health(self, states: dict[str, bool]) -> None:
        """Every second; to workers that have started."""
        for worker in self.generations.running:
            worker.channel.tell("health", states)

    def _look_after(self) -> None:
        repeated.flush()
        self._file_uses.look()
        self.generations.kill_dead()

    # Succession

    @property
    def is_stopping(self) -> bool:
        """Whether workers only wait for their sessions to end."""
        return self.generations.is_stopping

    @property
    def may_be_replaced_now(self) -> bool:
        """Whether nothing waits to be sent to a worker, none is starting, and no reload is running."""
        workers = self.generations.workers
        return not self._changing.locked and all(
            worker.is_ready and worker.is_idle for worker in workers
        )

    def hand_over(self, closing: ExitStack) -> State:
        """The state for this program's successor in the same process. ``closing`` closes its descriptors if
        the program is not replaced.
        """
        generations = self.generations
        if generations.folder is None:
            raise RuntimeError("the supervisor has not started")
        closing.callback(os.set_inheritable, self._memory, False)
        os.set_inheritable(self._memory, True)
        return State(
            memory=self._memory,
            folder=generations.folder.path,
            number=generations.number,
            draining=generations.draining,
            level="" if self._threshold is None else self._threshold.level,
            restarts=generations.restarts,
            drained_upstreams=sorted(generations.drained_upstreams),
            downed_upstreams=sorted(generations.downed_upstreams),
            reloads=self.reloads,
            totals=[plain_family(each) for each in generations.totals.families],
            admin=self._admin.hand_over(closing),
            sockets=self._sockets.hand_over(closing),
            generations=generations.hand_over(closing),
            datagram_sockets=self._datagram_sockets.hand_over(closing),
            unanswered=self._view.unanswered,
            checks=self._health.hand_over(),
        )

    def _adopt(self, state: State) -> None:
        """Continue with the workers of the program that ran in this process before."""
        generations = self.generations
        generations.folder, generations.number = WorkerFolder(state.folder), state.number
        generations.draining, generations.restarts = state.draining, state.restarts
        generations.drained_upstreams = set(state.drained_upstreams)
        generations.downed_upstreams = set(state.downed_upstreams)
        generations.totals.families = [family_of(each) for each in state.totals]
        generations.adopt(state.generations, self._sockets, self._datagram_sockets)
        self.reloads.update(state.reloads)
        self._view.unanswered = state.unanswered
        self._health.adopt(state.checks)
        if self._threshold is not None and state.level:
            self._threshold.level = state.level
        self._state = None
        _log.info("the supervisor continues as version {version}", version=self._first.version)


def _ignore() -> None:
    """The ``upgraded`` of a supervisor whose program is never replaced."""


def _new_generation(configuration: Config, text: ConfigurationText) -> Generation:
    """One of this program's version, without sockets and workers yet."""
    return Generation(configuration, text, [], version_of(_PACKAGE), worker_count(configuration))


def _continued_generation(state: State) -> Generation:
    """What is current in the state of the program before. The file may have changed since its start."""
    configuration = state.text.parse()
    workers = handed_over_count(state.current, configuration)
    return Generation(configuration, state.text, [], version_of(_PACKAGE), workers)


def _are_alike(one: Generation, other: Generation) -> bool:
    """Whether workers of both would be the same."""
    return one.text == other.text and one.version == other.version


def _warn(configuration: Config) -> None:
    for warning in configured_files.warnings(configuration):
        _log.warn("{warning}", warning=warning)


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
