"""A worker's process as the supervisor and its successor see it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily
from twisted.internet.task import Clock

from gateway.supervisor.retired_totals import RetiredTotals
from gateway.supervisor.worker_process import HandedOver, WorkerProcess
from gateway.workers.setup import ConfigurationText, Setup
from tests.helpers.turning import Turning


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.close()


def adopted(turning: Turning, worker: HandedOver) -> WorkerProcess:
    def ignore(*_: object) -> None:
        return None

    return WorkerProcess.adopted(turning.reactor, worker, ignore, ignore, ignore, RetiredTotals())


def new_worker(turning: Turning, totals: RetiredTotals | None = None) -> WorkerProcess:
    setup = Setup(1, 0, ConfigurationText(), "", (), 0, "info", False)
    nothing: Any = print
    return WorkerProcess(
        turning.reactor, setup, "", print, nothing, print, totals or RetiredTotals()
    )


def handed_over(pid: int, connections: list[int]) -> HandedOver:
    output, errors, channel = connections
    return HandedOver(
        setup=Setup(1, 0, ConfigurationText(), "", (), 0, "info", False),
        node="",
        pid=pid,
        channel=channel,
        output=output,
        errors=errors,
        message="",
        output_line="",
        error_line="",
        is_ready=True,
        is_retiring=True,
        sessions={},
        families=[],
    )


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def started(
    turning: Turning,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    replacement: Callable[..., None],
    sockets: Sequence[int] = (),
) -> WorkerProcess:
    """A worker whose start has failed."""
    monkeypatch.setattr(WorkerProcess, method, replacement)
    worker = new_worker(turning)
    memory = os.memfd_create("counts")
    try:
        with pytest.raises(OSError, match="file"):
            worker.start(memory, sockets)
    finally:
        os.close(memory)
    return worker


def test_a_worker_that_is_ending_is_handed_over_and_its_end_is_noticed(turning: Turning) -> None:
    # A process that ends when the test closes its input.
    goes_on, lets_go = os.pipe()
    pid = os.posix_spawnp(
        "cat", ["cat"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, goes_on, 0)]
    )
    os.close(goes_on)
    pairs = [socket.socketpair() for _ in range(3)]
    worker = adopted(turning, handed_over(pid, [ours.detach() for ours, _ in pairs]))
    for _, theirs in pairs:
        theirs.close()
    turning.until(lambda: worker.channel.transport.fileno() < 0)
    assert not worker.has_ended
    before = open_descriptors()
    with ExitStack() as closing:
        worker.hand_over(closing)
    # An upgrade has failed.
    assert open_descriptors() == before
    successor = adopted(turning, worker.hand_over(ExitStack()))
    os.close(lets_go)
    turning.until(lambda: successor.has_ended)


def test_a_worker_without_connections_is_ended(
    turning: Turning, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    worker = started(turning, monkeypatch, "_connect", fail)
    assert worker.has_ended
    with pytest.raises(ChildProcessError):
        os.waitpid(worker.pid, os.WNOHANG)


def test_a_process_that_cannot_be_started_leaves_no_descriptor_open(
    turning: Turning, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()
    # The last of those that are copied.
    worker = started(turning, monkeypatch, "_connect", lambda *_: None, sockets=[9999])
    assert not worker.pid
    assert open_descriptors() == before


def test_series_that_are_missing_in_a_workers_totals_are_kept(turning: Turning) -> None:
    totals = RetiredTotals()
    worker = new_worker(turning, totals)
    family = CounterMetricFamily("bytes", "Bytes.", labels=["upstream"])
    worker.note_families([family])
    family.add_metric(["192.0.2.1:1935"], 7)
    # The server has been forgotten since.
    event = {"event": "totals", "values": [[]]}
    worker.channel.stringReceived(json.dumps(event).encode())
    assert worker.has_totals
    assert [sample.value for kept in totals.families for sample in kept.samples] == [7]


def test_signals_for_the_supervisor_do_not_end_a_worker_that_starts(turning: Turning) -> None:
    worker = new_worker(turning)
    memory = os.memfd_create("counts")
    worker.start(memory, [])
    os.close(memory)
    try:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            os.kill(worker.pid, number)
        # Its program does not run so early. A signal would end it at once.
        sleep(0.1)
        end = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert end is None or end.si_code == os.CLD_EXITED
    finally:
        worker.kill()


def test_a_worker_that_stops_is_not_told_to_retire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sessions would end at once, as with a second request to stop."""
    setup = Setup(1, 0, ConfigurationText(), "", (), 0, "info", False)
    worker = WorkerProcess(
        *(Clock(), setup, "", print, print, print),  # type: ignore[arg-type]
        RetiredTotals(),
    )
    worker.is_ready = True
    told: list[str] = []
    monkeypatch.setattr(worker.channel, "tell", lambda event, *_: told.append(event))
    worker.stop()
    worker.retire(60.0)
    assert told == ["stop"]
