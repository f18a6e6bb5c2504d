"""The supervisor's decisions about its workers, without processes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import GatewayError
from gateway.supervisor import generations, supervisor
from gateway.supervisor.generations import worker_count
from gateway.supervisor.supervisor import Supervisor
from gateway.workers.setup import ConfigurationText

TEXT = ConfigurationText(listen=("127.0.0.1:0",), upstream=("media",))
CHANGED = ConfigurationText(listen=("127.0.0.1:0",), upstream=("other",))


class FakeWorker:
    """A worker whose process the test plays."""

    made: list[FakeWorker]

    def __init__(self, reactor: Any, setup: Any, node: str, *calls: Any) -> None:
        self.setup = setup
        self.prefix = f"{node}{setup.number:02}"
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.is_ready = self.is_retiring = self.has_ended = False
        self.retired_s: float | None = None
        self.started_at = self.alive_at = reactor.seconds()
        self.families: list[Any] = []
        self.sessions: dict[str, int] = {}
        self.channel = self
        self.told: list[str] = []
        self.called: list[tuple[Any, ...]] = []
        self.made.append(self)

    def start(self, memory: int, sockets: list[int]) -> None:
        """Nothing: the test says when it is ready."""

    def tell(self, event: str) -> None:
        self.told.append(event)

    async def call(self, name: str, *values: Any) -> None:
        self.called.append((name, *values))

    def retire(self, seconds: float) -> None:
        self.retired_s = seconds

    def kill(self) -> None:
        """Nothing."""

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
    """A supervisor with two workers that are ready."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        FakeWorker.made = []
        monkeypatch.setattr(generations, "WorkerProcess", FakeWorker)
        monkeypatch.setattr(generations, "worker_count", lambda configuration: 2)
        self.clock = Clock()
        self.text = TEXT
        self.supervisor = Supervisor(
            TEXT.parse(), TEXT, self.clock, {}, None, lambda: (self.text.parse(), self.text), print
        )
        Deferred.fromCoroutine(self.supervisor.start())
        for worker in self.workers:
            worker.begins()

    @property
    def workers(self) -> list[FakeWorker]:
        return FakeWorker.made

    def reload(self, text: ConfigurationText = CHANGED) -> list[Any]:
        """The outcome, once there is one."""
        self.text = text
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.supervisor.reload()).addBoth(outcome.append)
        return outcome


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    # The sockets would need a reactor.
    monkeypatch.setattr(supervisor.ListeningSockets, "open", lambda self, configuration: [])
    monkeypatch.setattr(
        supervisor.ListeningSockets, "close_others", lambda self, configurations: None
    )
    return Started(monkeypatch)


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


def test_a_worker_that_retires_is_not_replaced(started: Started) -> None:
    started.reload()
    for worker in started.workers[2:]:
        worker.begins()
    count = len(started.workers)
    for worker in started.workers[:2]:
        worker.ends()
    started.clock.advance(60)
    assert len(started.workers) == count


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
