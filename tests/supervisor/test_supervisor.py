"""The supervisor's decisions about its workers, without processes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import GatewayError
from gateway.supervisor import generations, supervisor
from gateway.supervisor.generation import Generation, worker_count
from gateway.supervisor.succession import State
from gateway.supervisor.supervisor import Supervisor
from gateway.workers.channel import CallFailed
from gateway.workers.setup import ConfigurationText

TEXT = ConfigurationText(listen=("127.0.0.1:0",), upstream=("media",))
CHANGED = ConfigurationText(listen=("127.0.0.1:0",), upstream=("other",))
WITH_UDP = ConfigurationText(
    name="gateway.toml",
    text="""
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        servers = ["media"]
        [[udp]]
        address = "127.0.0.1:0"
        server = "media"
    """,
)


class FakeWorker:
    """A worker whose process the test plays."""

    made: list[FakeWorker]
    # Raised by ``start``.
    failure: OSError | None = None

    def __init__(self, reactor: Any, setup: Any, node: str, *calls: Any) -> None:
        self.setup = setup
        self.prefix = f"{node}{setup.number:02}"
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.is_ready = self.is_retiring = self.has_ended = False
        self.retired_s: float | None = None
        self.started_at = self.alive_at = reactor.seconds()
        self.unheard_looks = 0
        self.is_killed = False
        self.families: list[Any] = []
        self.sessions: dict[str, int] = {}
        self.channel = self
        self.told: list[str] = []
        self.called: list[tuple[Any, ...]] = []
        # None answers at once.
        self.answer: Deferred[None] | None = None
        self.sockets: list[int] = []
        self.made.append(self)

    @classmethod
    def adopted(cls, reactor: Any, worker: Any, *calls: Any) -> FakeWorker:
        self = cls(reactor, worker.setup, "")
        self.begins()
        return self

    def hand_over(self, closing: ExitStack) -> Any:
        """It as far as a successor of the supervisor uses it."""
        return SimpleNamespace(setup=self.setup)

    def start(self, memory: int, sockets: list[int]) -> None:
        """The test says when it is ready."""
        self.sockets = sockets
        if self.failure is not None:
            self.made.remove(self)
            raise self.failure

    def tell(self, event: str, *values: Any) -> None:
        self.told.append(event)

    async def call(self, name: str, *values: Any) -> None:
        self.called.append((name, *values))
        if self.answer is not None:
            await self.answer

    @property
    def is_idle(self) -> bool:
        return True

    def retire(self, seconds: float) -> None:
        self.retired_s = seconds

    def stop(self) -> None:
        """The test says when it has ended."""

    def kill(self) -> None:
        self.is_killed = True

    def begins(self) -> None:
        self.is_ready = True
        self.ready.callback(None)

    def fails(self) -> None:
        self.ready.errback(GatewayError("no luck"))
        self.ends()

    def ends(self) -> None:
        self.has_ended = True
        self.gone.callback(None)


class Started:
    """A supervisor with a worker for each of two processor cores; they are ready."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, text: ConfigurationText = TEXT) -> None:
        FakeWorker.made = []
        self.cores = 2
        monkeypatch.setattr(generations, "WorkerProcess", FakeWorker)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(self.cores))
        self.text = text
        self.started: list[Supervisor] = []
        self._start(None)
        for worker in self.workers:
            worker.begins()

    def _start(self, state: State | None) -> None:
        self.clock = Clock()
        self.supervisor = Supervisor(
            *(self.text.parse(), self.text, self.clock, {}, None),
            *(lambda: (self.text.parse(), self.text), print),
            state=state,
        )
        self.started.append(self.supervisor)
        self.supervisor.bind()
        Deferred.fromCoroutine(self.supervisor.start())

    def upgrade(self) -> None:
        """Replace the supervisor by its successor. ``workers`` are those that it adopts, and starts."""
        state = self.supervisor.hand_over(ExitStack())
        FakeWorker.made = []
        self._start(state)

    @property
    def current(self) -> Generation:
        current = self.supervisor.generations.current
        assert current is not None
        return current

    def stop(self) -> None:
        for each in self.started:
            workers = each.generations.workers
            Deferred.fromCoroutine(each.stop())
            for worker in workers:
                worker.ends()

    @property
    def workers(self) -> list[FakeWorker]:
        return FakeWorker.made

    def reload(self, text: ConfigurationText = CHANGED) -> list[Any]:
        """The outcome, once there is one."""
        self.text = text
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.supervisor.reload()).addBoth(outcome.append)
        return outcome


@pytest.fixture(autouse=True)
def without_listening_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would need a reactor."""
    monkeypatch.setattr(supervisor.ListeningSockets, "open", lambda self, configuration: [])
    monkeypatch.setattr(supervisor.ListeningSockets, "of", lambda self, configuration: [])
    monkeypatch.setattr(
        supervisor.ListeningSockets, "close_others", lambda self, configurations: None
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


@pytest.fixture
def with_udp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    started = Started(monkeypatch, WITH_UDP)
    yield started
    started.stop()


def test_the_old_workers_retire_once_all_new_ones_are_ready(started: Started) -> None:
    outcome = started.reload()
    old, new = started.workers[:2], started.workers[2:]
    new[0].begins()
    assert [worker.retired_s for worker in old] == [None, None]
    assert [worker.told for worker in old] == [["reopen_logs"]] * 2
    new[1].begins()
    assert outcome == [["configuration"]]
    assert [worker.retired_s for worker in old] == [43_200.0, 43_200.0]


def test_the_workers_stay_and_renew_certificates_if_the_configuration_is_the_same(
    started: Started,
) -> None:
    assert started.reload(TEXT) == [["certificates"]]
    assert [worker.called for worker in started.workers] == [[("reload_certificates",)]] * 2
    assert started.supervisor.reloads == {"succeeded": 1, "failed": 0}


def test_a_worker_that_is_starting_does_not_make_a_reload_of_certificates_fail(
    started: Started,
) -> None:
    started.workers[1].ends()
    started.clock.advance(0.2)
    assert started.reload(TEXT) == [["certificates"]]
    called = [worker.called for worker in started.workers]
    assert called == [[("reload_certificates",)], [], []]
    # It may have read them before the reload.
    started.workers[2].begins()
    assert started.workers[2].called == [("reload_certificates",)]


def test_a_worker_that_is_starting_learns_of_renewed_files_once_it_is_ready(
    started: Started,
) -> None:
    started.workers[1].ends()
    started.clock.advance(0.2)
    starting = started.workers[2]
    started.supervisor.generations.tell_all("renew_certificates")
    assert [worker.told for worker in started.workers] == [["renew_certificates"], [], []]
    starting.begins()
    assert starting.told == ["renew_certificates"]


def test_a_worker_that_a_reload_has_ended_while_it_started_is_no_failure(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(generations._log, "error", lambda *_, **fields: errors.append(fields))
    started.workers[1].ends()
    started.clock.advance(0.2)
    starting = started.workers[2]
    outcome = started.reload()
    for worker in started.workers[3:]:
        worker.begins()
    assert outcome == [["configuration"]]
    assert starting.retired_s is not None
    starting.fails()
    assert not errors


def drained(started: Started) -> None:
    started.supervisor.generations.draining = True
    started.supervisor.generations.drained_upstreams = {"media:1935"}


_DRAINED = [("drain", True), ("close_upstreams", ["media:1935"], [])]


def test_a_worker_started_instead_of_a_failed_one_is_drained_even_if_it_answers_late(
    started: Started,
) -> None:
    drained(started)
    started.workers[1].ends()
    started.clock.advance(0.2)
    late = started.workers[2]
    late.answer = Deferred()
    late.begins()
    assert late.called == _DRAINED
    late.answer.errback(CallFailed("drain: no answer within 1 s"))


def test_a_reload_drains_each_new_worker_as_soon_as_it_accepts_clients(started: Started) -> None:
    drained(started)
    outcome = started.reload()
    first, second = started.workers[2:]
    first.answer = Deferred()
    first.begins()
    assert first.called == _DRAINED
    second.begins()
    assert outcome == [["configuration"]]
    assert second.called == _DRAINED


def test_the_program_is_not_replaced_during_a_reload(started: Started) -> None:
    answer = started.workers[0].answer = Deferred()
    outcome = started.reload(TEXT)
    assert not started.supervisor.may_be_replaced_now
    answer.callback(None)
    assert outcome == [["certificates"]]
    assert started.supervisor.may_be_replaced_now


def test_another_version_replaces_workers_and_reports_the_upgrade(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrades: list[str] = []
    started.supervisor.upgraded = lambda: upgrades.append("upgraded")
    monkeypatch.setattr(supervisor, "version_of", lambda package: "999")
    outcome = started.reload(TEXT)
    assert len(started.workers) == 4
    for worker in started.workers[2:]:
        worker.begins()
    assert (outcome, upgrades) == ([["configuration"]], ["upgraded"])
    # The new workers are of that version.
    assert started.reload(TEXT) == [["certificates"]]
    assert (len(started.workers), upgrades) == (4, ["upgraded"])


def test_workers_are_replaced_without_a_change_if_that_is_asked_for(started: Started) -> None:
    Deferred.fromCoroutine(started.supervisor.reload(replaces_workers=True))
    assert len(started.workers) == 4


def test_older_publishers_are_ended_in_other_workers_that_run(started: Started) -> None:
    one, other = started.workers
    calls = started.supervisor.generations.tell_others(one.prefix, "replace_publisher", "it", 5.0)
    Deferred.fromCoroutine(calls)
    assert (one.called, other.called) == ([], [("replace_publisher", "it", 5.0)])


def test_clients_of_a_new_worker_are_not_cut_if_another_one_cannot_start(started: Started) -> None:
    outcome = started.reload()
    old, new = started.workers[:2], started.workers[2:]
    new[0].begins()
    new[1].fails()
    assert outcome[0].getErrorMessage() == "no luck"
    assert [worker.retired_s for worker in old] == [None, None]
    # It accepted clients as soon as it was ready, and ends with the last of them.
    assert new[0].retired_s == 43_200.0
    assert started.supervisor.reloads == {"succeeded": 0, "failed": 1}


def test_a_reload_waits_for_the_one_before(started: Started) -> None:
    first = started.reload(CHANGED)
    second = started.reload(TEXT)
    assert len(started.workers) == 4
    for worker in started.workers[2:4]:
        worker.begins()
    assert (len(first), len(second), len(started.workers)) == (1, 0, 6)
    for worker in started.workers[4:]:
        worker.begins()
    assert second == [["configuration"]]


def test_a_failed_worker_is_replaced_after_a_pause_that_doubles(started: Started) -> None:
    pauses = []
    for _ in range(4):
        started.workers[-1].ends()
        count, before = len(started.workers), started.clock.seconds()
        while len(started.workers) == count:
            started.clock.advance(0.05)
        pauses.append(started.clock.seconds() - before)
        started.workers[-1].begins()
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.06)
    # One that has lasted did not fail because of its start.
    started.clock.advance(100)
    started.workers[-1].ends()
    count = len(started.workers)
    started.clock.advance(0.1)
    assert len(started.workers) == count + 1


def test_a_worker_whose_process_cannot_be_started_is_tried_again(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWorker, "failure", OSError(errno.EAGAIN, "Resource unavailable"))
    started.workers[0].ends()
    started.clock.pump([1.0] * 10)
    assert len(started.workers) == 2
    # The workers that ``stop`` would wait for.
    assert len(started.supervisor.generations.workers) == 1
    monkeypatch.setattr(FakeWorker, "failure", None)
    started.clock.pump([1.0] * 30)
    assert len(started.workers) == 3


def test_a_reload_fails_if_no_process_can_be_started(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWorker, "failure", OSError(errno.EAGAIN, "Resource unavailable"))
    [failure] = started.reload()
    assert failure.getErrorMessage() == "no process can be started: Resource unavailable"
    assert len(started.supervisor.generations.workers) == 2
    assert started.supervisor.may_be_replaced_now


def test_a_worker_that_does_not_report_is_killed(started: Started) -> None:
    one, other = started.workers
    for _ in range(35):
        started.clock.advance(1.0)
        other.unheard_looks = 0
    assert one.is_killed
    assert not other.is_killed


def test_workers_are_not_killed_for_a_pause_of_the_supervisor(started: Started) -> None:
    started.clock.advance(300.0)
    assert not any(worker.is_killed for worker in started.workers)


def test_a_worker_that_does_not_report_is_killed_while_the_gateway_stops(started: Started) -> None:
    outcome: list[Any] = []
    Deferred.fromCoroutine(started.supervisor.stop()).addBoth(outcome.append)
    started.clock.pump([1.0] * 35)
    assert all(worker.is_killed for worker in started.workers)
    for worker in started.workers:
        worker.ends()
    assert outcome == [None]
    assert not started.clock.getDelayedCalls()


def test_a_worker_that_retires_is_not_replaced(started: Started) -> None:
    started.reload()
    for worker in started.workers[2:]:
        worker.begins()
    count = len(started.workers)
    for worker in started.workers[:2]:
        worker.ends()
    started.clock.advance(60)
    assert len(started.workers) == count


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_a_worker_that_fails_after_an_upgrade_is_replaced_however_many_cores_there_are(
    with_udp: Started, cores: int
) -> None:
    with_udp.cores = cores
    with_udp.upgrade()
    _, second = with_udp.workers
    second.ends()
    with_udp.clock.advance(0.2)
    *_, replaced = with_udp.workers
    assert (replaced.setup.index, replaced.setup.workers, len(replaced.sockets)) == (1, 2, 1)


def test_no_datagram_socket_is_opened_that_no_worker_reads(with_udp: Started) -> None:
    with_udp.cores = 3
    with_udp.upgrade()
    assert [len(sockets) for sockets in with_udp.current.datagram_sockets] == [2]


def test_sockets_of_workers_that_run_are_not_closed_by_a_failed_reload(with_udp: Started) -> None:
    with_udp.cores = 1
    outcome = with_udp.reload()
    with_udp.workers[-1].fails()
    assert len(outcome) == 1
    (sockets,) = with_udp.current.datagram_sockets
    assert all(each.fileno() >= 0 for each in sockets)


def test_a_worker_that_had_failed_before_an_upgrade_is_replaced_after_it(started: Started) -> None:
    started.workers[1].ends()
    started.upgrade()
    assert len(started.workers) == 1
    started.clock.advance(0.2)
    assert [worker.setup.index for worker in started.workers] == [0, 1]


@pytest.mark.parametrize(
    ("upstream", "workers", "count"), [((), 0, 1), (("media",), 3, 3), (("media",), 1, 1)]
)
def test_the_embedded_origin_has_one_worker(
    upstream: tuple[str, ...], workers: int, count: int
) -> None:
    lines = [f"workers = {workers or chr(34) + 'auto' + chr(34)}", "[[listener]]"]
    lines += ['address = "127.0.0.1:0"']
    lines += [f'[[upstream]]\nservers = ["{each}"]' for each in upstream]
    configuration: Config = loading.from_text("gateway.toml", "\n".join(lines))
    assert worker_count(configuration) == count
