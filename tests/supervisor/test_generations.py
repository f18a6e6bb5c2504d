"""Replacement of failed workers, and what workers are told."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gateway.supervisor import generations
from gateway.workers.channel import CallFailed
from tests.helpers.supervised import FakeWorker, Started


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


def test_older_publishers_are_ended_in_other_workers_that_run(started: Started) -> None:
    one, other = started.workers
    calls = started.supervisor.generations.tell_others(one.prefix, "replace_publisher", "it", 5.0)
    Deferred.fromCoroutine(calls)
    assert (one.called, other.called) == ([], [("replace_publisher", "it", 5.0)])


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


def test_a_worker_that_had_failed_before_an_upgrade_is_replaced_after_it(started: Started) -> None:
    started.workers[1].ends()
    started.upgrade()
    assert len(started.workers) == 1
    started.clock.advance(0.2)
    assert [worker.setup.index for worker in started.workers] == [0, 1]
