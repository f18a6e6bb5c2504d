"""One worker: a process's share of the gateway, with its sessions, listeners, backends and timers.

Life cycle: ``bind``, ``start`` once the reactor runs, ``stop`` at the end; ``hurry`` shortens the wait of
``stop``. ``retire`` ends a worker that others have replaced: it accepts no more connections, and continues
with those it has. ``await_successor`` comes before that if the supervisor was killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import count
from time import monotonic, time
from typing import Any, final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from gateway.addresses import SystemdAddress
from gateway.admin.time_slices import TimeSlices
from gateway.configuration.sections import Config
from gateway.dispatch import dispatch_directly
from gateway.listeners.connections import ConnectionSet
from gateway.listeners.forwarding import Website
from gateway.listeners.http_service import HTTPService
from gateway.listeners.protocol_detection import ListenerState
from gateway.logs import repeated
from gateway.periodic_calls import periodic_call
from gateway.protocols.reasons import EndReason
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.sessions import TURN_S
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import PORT_TEST, SessionIds
from gateway.upstreams.mirrors import Mirrors
from gateway.upstreams.names import LOOK_S
from gateway.workers import configured_files, open_file_limit
from gateway.workers.access import Access
from gateway.workers.backends import Backends
from gateway.workers.client_listeners import ClientListeners
from gateway.workers.figures import WorkerFigures
from gateway.workers.heap_trimming import HeapTrimmer, find_trim, resident_bytes
from gateway.workers.mirrors import mirror_settings
from gateway.workers.own_resources import cookie_line, heads_of, own_resources
from gateway.workers.peering.other_workers import FindSession, OtherWorkers
from gateway.workers.place import Place
from gateway.workers.port_test import WorkerPortTest, of_clients
from gateway.workers.session_tables import SessionTables
from gateway.workers.successor import Successor
from gateway.workers.udp import UdpRelays, files_needed
from gateway.workers.view import WorkerView

_log = Logger()

# The period of the one timer for holds, deadlines and expiries. It makes a hold longer by half of this on
# average, which clients do not notice.
_SWEEP_S = 0.05
# A sweep of 5,000 sessions takes about 1 ms. Those that have to do something take turns with other events.
_SWEEP_SLICE_S = 0.0005
# For what may be less exact: shares of the buffers, and relays that are stalled or unused.
_SLOW_SWEEP_S = 1.0
# How often a worker without supervisor looks for the next one, and for how long.
_SUCCESSOR_POLL_S = 0.25
_SUCCESSOR_S = 60.0
# The limit on incomplete request bodies, as a share of the limit on all sessions' buffers.
_BODIES_SHARE = 0.25


@final
class Worker:
    """``place``: what distinguishes it from the other workers. ``threshold`` has the log level."""

    def __init__(
        self, configuration: Config, reactor: Any, place: Place, threshold: LevelFilter
    ) -> None:
        self._configuration = configuration
        self._reactor = reactor
        self._place = place
        limits = configuration.limits
        self._buffers_bytes = _memory_bytes(limits.buffers_share)
        self._connections = ConnectionSet(limits, place.counts.connections)
        self._admission = Admission(
            limits, self._buffers_bytes, place.counts.sessions, place.workers
        )
        listener_states: dict[str, ListenerState] = {}
        self._others = OtherWorkers(configuration, reactor, place)
        self._access = Access(configuration, reactor, self._call_soon)
        self._mirrors = Mirrors(
            *(reactor, mirror_settings(configuration), self._connect_mirror),
            limits.stalled_write_s,
        )
        self._certificates = configured_files.certificates(configuration, time())
        self.figures = self._make_figures(listener_states)
        self._backends = Backends(
            *(configuration, reactor, self.figures.upstreams, place, self.figures.forget_server),
            self.figures.sessions.has_of,
        )
        tables = SessionTables(
            *(configuration, place, self._admission, self._backends, of_clients(self._others.find)),
            *(self._access, self._mirrors, self.figures.sessions, self._call_soon),
        )
        self._router, self._sessions, self._relays = tables.router, tables.tunnels, tables.relays
        self._port_test = self._make_port_test()
        self._udp = self._make_udp_relays(tables.ids.next_alias)
        self._http = self._make_http_service()
        self._listeners = ClientListeners(
            *(configuration, reactor, listener_states, self._connections),
            *(self._http, self._relays, self._certificates),
            *(self._others.offers, place.counts.has_share),
        )
        slices = partial(TimeSlices, reactor, monotonic)
        self.view = WorkerView(self.figures, self._admission, threshold, slices)
        self._heap = HeapTrimmer(resident_bytes, find_trim())
        # Twisted's ports of all listening sockets.
        self._ports: list[Any] = []
        self._timers: list[LoopingCall] = []
        self._is_hurried = False
        # Called back when nothing is left to do; None except while ``retire`` waits for that.
        self._retired: Deferred[None] | None = None
        # Called back when the last session has ended; None except while ``stop`` waits for that.
        self._drained: Deferred[None] | None = None

    def _make_figures(self, listener_states: dict[str, ListenerState]) -> WorkerFigures:
        """The telemetry. ``listener_states`` is filled later."""
        made = WorkerFigures(
            *(self._configuration, _SWEEP_S, self._buffers_bytes, self._connections),
            *(listener_states, self._others, self._access.callbacks, self._mirrors.states),
        )
        made.certificates = self._certificates
        return made

    def _make_udp_relays(self, next_alias: Callable[[], str]) -> UdpRelays:
        made = UdpRelays(
            *(self._configuration, self._reactor, self._place.workers, self._admission),
            *(self.figures.sessions, next_alias, self._access.permits_address),
        )
        self.figures.udp.update(made.listeners)
        return made

    def _make_port_test(self) -> WorkerPortTest | None:
        if not self._configuration.port_test.enabled:
            return None
        ids = SessionIds(self._configuration.node.id, self._place.number, os.urandom, PORT_TEST)
        made = WorkerPortTest(
            *(self._configuration, ids, self._others.find, monotonic, self._call_soon),
            self._place.workers,
        )
        self.figures.watch_port_test(made.counts)
        return made

    def _make_http_service(self) -> HTTPService:
        limits, web = self._configuration.limits, self._backends.web
        return HTTPService(
            limits,
            self._sessions,
            self._connections,
            monotonic,
            self._call_soon,
            None if web is None else Website(web, limits, monotonic),
            None if self._port_test is None else self._port_test.service,
            bodies_bytes=int(self._buffers_bytes * _BODIES_SHARE) // self._place.workers,
            serials=count(self._place.first_connection),
            heads_of=heads_of(self._configuration),
            own=own_resources(self._configuration),
            cookie_line=cookie_line(self._configuration),
        )

    def bind(self) -> None:
        """Adopt the supervisor's listening sockets."""
        open_file_limit.raise_limit(self._configuration.limits, files_needed(self._configuration))
        own = len(self._configuration.listeners)
        of_udp = len(self._place.sockets) - len(self._configuration.udp)
        self._ports += self._listeners.adopt(self._place.sockets[:own])
        if self._port_test is not None:
            self._port_test.create_page(self._listeners.places)
        self._udp.adopt(self._place.sockets[of_udp:])
        self._ports += map(self._others.adopt, self._place.sockets[own:of_udp])
        for port in self._ports:
            port.leaves_to_others = self._place.counts.has_share

    async def start(self) -> None:
        """Resolve the servers' names, then accept connections.

        Raises ConfigurationError if a name is unknown, or if a log cannot be opened.
        """
        self.figures.open_logs()
        self.figures.pool = await self._backends.start(self._listeners.addresses)
        await self._udp.look_up(self._backends.names)
        find: FindSession = self._sessions.find_own
        if self._port_test is not None:
            find = self._port_test.finder(find)
        self._others.listen(find, self._listeners)
        dispatch_directly(self._reactor)
        self._every(_SWEEP_S, self._sweep)
        self._every(_SWEEP_S, self._sweep_sessions)
        self._every(_SLOW_SWEEP_S, self._sweep_slowly)
        self._every(TURN_S, self.figures.sessions.turn)
        self._every(LOOK_S, self._look_up_again)
        for port in self._ports:
            port.startReading()
        self._udp.start()
        self._place.counts.set_accepting(True)

    def _look_up_again(self) -> None:
        """Begin the look-ups that are due. None waits for a slow one of an earlier call."""
        for looking_up in (
            self._backends.look_up_again(),
            self._udp.look_up_again(self._backends.names),
        ):
            Deferred.fromCoroutine(looking_up).addErrback(
                lambda failure: _log.failure("names could not be resolved again", failure)
            )

    async def _connect_mirror(self, protocol: Any, name: str) -> str:
        return await self._backends.connect_mirror(protocol, name)

    async def await_successor(self) -> None:
        """Accept connections on systemd's sockets until the next supervisor's workers do, or for a minute.

        The other sockets are closed, because the next supervisor must open them.
        """
        successor = Successor(self._place.folder)
        self._udp.stop_listening()
        await self._close_ports(self._opened_by_supervisor())
        end = self._reactor.seconds() + _SUCCESSOR_S
        while self._ports and not self._is_hurried and self._reactor.seconds() < end:
            await deferLater(self._reactor, _SUCCESSOR_POLL_S)
            if successor.has_started():
                return

    def _opened_by_supervisor(self) -> list[Any]:
        """The ports whose sockets systemd has not passed."""
        configuration = self._configuration
        addresses = [each.address for each in configuration.listeners]
        if configuration.node.address is not None:
            addresses.append(configuration.node.address)
        return [
            port
            for port, address in zip(self._ports, addresses, strict=False)
            if not isinstance(address, SystemdAddress)
        ]

    async def retire(self, seconds: float) -> None:
        """Accept no more connections. Returns when no connection and no session is left, or after
        ``seconds``; ``stop`` ends what is left then.
        """
        self._place.counts.set_accepting(False)
        self._others.retire()
        self._udp.stop_listening()
        await self._close_ports(self._ports)
        if self._is_hurried:
            return
        retired: Deferred[None] = Deferred()
        self._retired = retired
        deadline = self._reactor.callLater(seconds, self._end_retirement)
        await retired
        if deadline.active():
            deadline.cancel()

    def _end_retirement(self) -> None:
        retired, self._retired = self._retired, None
        if retired is not None:
            retired.callback(None)

    async def _close_ports(self, ports: list[Any]) -> None:
        self._ports = [port for port in self._ports if port not in ports]
        await DeferredList([port.stopListening() for port in ports if port.connected])

    async def stop(self) -> None:
        """Refuse new sessions, let existing ones end by themselves for ``drain_s``, and end the others.

        Connections are accepted meanwhile, since existing sessions may open new ones for their commands.
        """
        self._admission.close()
        if not self._is_drained():
            await self._drain()
        for timer in self._timers:
            timer.stop()
        self._ports += self._backends.ports
        if self._others.port is not None:
            self._ports.append(self._others.port)
        self._udp.stop_listening()
        await self._close_ports(self._ports)
        self._sessions.end_all(EndReason.DRAINED)
        self._relays.end_all(EndReason.DRAINED)
        if self._port_test is not None:
            self._port_test.stop()
        self._udp.end_all(EndReason.DRAINED)
        await self._access.finish()
        self.figures.close()
        self._backends.close()
        self._others.close()

    def hurry(self) -> None:
        """Stop waiting for sessions to end by themselves, or for another supervisor."""
        self._is_hurried = True
        self._end_retirement()
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def _is_drained(self) -> bool:
        """Whether no session is active, and no ended one has unsent data for its upstream."""
        return not self._admission.living and not self._sessions.owes

    def _is_unused(self) -> bool:
        """Whether nothing is left: no session, no tunnel of the port test, and no connection."""
        is_testing = self._port_test is not None and self._port_test.tunnels
        return self._is_drained() and not is_testing and not len(self._connections)

    async def _drain(self) -> None:
        seconds = self._configuration.limits.drain_s
        _log.info(
            "stopping: {sessions} sessions may end by themselves for {seconds:g} s; "
            "a second signal ends them at once",
            sessions=self._admission.living,
            seconds=seconds,
        )
        drained: Deferred[None] = Deferred()
        self._drained = drained
        deadline = self._reactor.callLater(seconds, self.hurry)
        await drained
        if deadline.active():
            deadline.cancel()

    def sessions_by_protocol(self) -> dict[str, int]:
        """The number of active sessions."""
        return {
            protocol: number for protocol, number in self.figures.sessions.active.items() if number
        }

    @property
    def reload_drain_s(self) -> float:
        """How long sessions may continue in a worker that has been replaced."""
        return self._configuration.limits.reload_drain_s

    def reload_certificates(self) -> None:
        """Read certificates, secrets and policy files again. The supervisor has checked them before. Raises
        ConfigurationError for the first that cannot be used; it and those behind it stay as they were.
        """
        own, mirrors = own_resources(self._configuration), mirror_settings(self._configuration)
        self._http.own = own
        self._mirrors.reload(mirrors)
        self._access.reload()
        if self._certificates is not None:
            self._certificates.reload(time())
        self._others.reload()
        self._backends.reload_certificates()

    def note_health(self, states: dict[str, bool]) -> None:
        """The results of the health checks: whether each server is up, by its name."""
        if self.figures.pool is not None:
            self.figures.pool.note_checks(states)

    def renew_certificates(self) -> None:
        """Read renewed certificates. The supervisor reports those that cannot be used."""
        if self._certificates is not None:
            self._certificates.renew(time())

    def _sweep_slowly(self) -> None:
        self._sessions.share_buffers()
        self._relays.sweep(monotonic())
        self._udp.sweep(monotonic())
        self._mirrors.sweep(self._reactor.seconds())
        repeated.flush()
        self._heap.sweep(monotonic())

    def _sweep(self) -> None:
        now = monotonic()
        self.figures.loop.sample(now)
        self._connections.sweep(now)
        self._router.sweep(now)
        if self._port_test is not None:
            self._port_test.sweep(now)
        if self._drained is not None and self._is_drained():
            self.hurry()
        if self._retired is not None and self._is_unused():
            self._end_retirement()

    def _sweep_sessions(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._sweep_in_slices())

    async def _sweep_in_slices(self) -> None:
        # If thousands of sessions were opened together, hundreds of their deadlines expire at the same
        # time.
        slices = TimeSlices(self._reactor, monotonic, _SWEEP_SLICE_S)
        for _ in self._sessions.sweep_in_steps(monotonic()):
            await slices.yield_to_reactor()

    def _call_soon(self, call: Callable[[], None]) -> None:
        self._reactor.callLater(0, call)

    def _every(self, seconds: float, call: Callable[[], object]) -> None:
        timer = periodic_call(call, self._reactor)
        timer.start(seconds, now=False)
        self._timers.append(timer)


def _memory_bytes(share: float) -> int:
    """That share of the machine's memory, in bytes."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * share)
