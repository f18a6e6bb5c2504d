"""The supervisor's decisions about its workers, without processes."""

from __future__ import annotations

import errno

import pytest
from twisted.internet.defer import Deferred

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.supervisor import supervisor
from gateway.supervisor.generation import worker_count
from tests.helpers.supervised import CHANGED, TEXT, FakeWorker, Started


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


def test_a_reload_fails_if_no_process_can_be_started(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWorker, "failure", OSError(errno.EAGAIN, "Resource unavailable"))
    [failure] = started.reload()
    assert failure.getErrorMessage() == "no process can be started: Resource unavailable"
    assert len(started.supervisor.generations.workers) == 2
    assert started.supervisor.may_be_replaced_now


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
