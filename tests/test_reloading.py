"""Reloads that signals ask for, and the replacement of the program, without processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from signal import SIG_BLOCK, pthread_sigmask
from typing import Any, NoReturn

import pytest
from twisted.internet.task import Clock

from gateway.errors import GatewayError
from gateway.reloading import Reloader
from gateway.supervisor import succession
from gateway.systemd_notify import SystemdNotify


class FakeSupervisor:
    """Its reloads succeed at once."""

    status = ""

    def __init__(self) -> None:
        self.reloads = 0
        self.may_be_replaced_now = True
        self.is_stopping = False
        self.upgraded: Any = None
        self.fault: Exception | None = None
        # Called once.
        self.during_reload: Callable[[], object] | None = None
        # The states whose descriptors have been closed.
        self.taken_back: list[str] = []

    async def reload(self, replaces_workers: bool) -> list[str]:
        self.reloads += 1
        if self.during_reload is not None:
            during_reload, self.during_reload = self.during_reload, None
            during_reload()
        return []

    def hand_over(self, closing: ExitStack) -> str:
        closing.callback(self.taken_back.append, "state")
        if self.fault is not None:
            raise self.fault
        return "state"


class Reloaded:
    """A reloader. ``executed``: the states of programs that were executed, which has failed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.executed: list[Any] = []
        monkeypatch.setattr(succession, "execute_successor", self._execute)
        self.clock = Clock()
        self.supervisor = FakeSupervisor()
        supervisor: Any = self.supervisor
        self.reloader = Reloader(supervisor, self.clock, SystemdNotify({}), {"nodaemon": True})

    def _execute(self, state: Any, pid_file: str) -> None:
        self.executed.append(state)
        raise GatewayError("no such program")


@pytest.fixture
def reloaded(monkeypatch: pytest.MonkeyPatch) -> Reloaded:
    return Reloaded(monkeypatch)


def blocked() -> set[int]:
    return set(pthread_sigmask(SIG_BLOCK, ()))


def test_the_program_is_replaced_once_the_supervisor_is_idle(reloaded: Reloaded) -> None:
    before = blocked()
    reloaded.supervisor.may_be_replaced_now = False
    reloaded.reloader.reload(replaces_program=True)
    reloaded.clock.pump([0.1] * 10)
    assert not reloaded.executed
    reloaded.supervisor.may_be_replaced_now = True
    reloaded.clock.pump([0.1] * 10)
    assert reloaded.executed == ["state"]
    assert reloaded.supervisor.taken_back == ["state"]
    assert reloaded.supervisor.reloads == 1
    assert blocked() == before


def test_a_reload_that_is_due_comes_before_the_replacement(reloaded: Reloaded) -> None:
    reloaded.reloader.reload(replaces_program=True)
    reloaded.reloader.reload()
    assert reloaded.supervisor.reloads == 1
    reloaded.clock.pump([0.1] * 10)
    assert reloaded.supervisor.reloads == 2
    assert reloaded.executed == ["state"]


def test_a_stop_is_not_undone_by_the_replacement(reloaded: Reloaded) -> None:
    reloaded.reloader.reload(replaces_program=True)
    # The call of a handler that has run before the signals were blocked.
    reloaded.supervisor.is_stopping = True
    reloaded.clock.pump([0.1] * 10)
    assert not reloaded.executed
    assert not reloaded.clock.getDelayedCalls()


def test_a_reload_that_was_asked_for_during_a_faulty_one_is_made(
    reloaded: Reloaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_and_fail() -> NoReturn:
        reloaded.reloader.reload()
        raise RuntimeError("a fault")

    logged: list[Any] = []
    monkeypatch.setattr("gateway.reloading._log.failure", lambda *values: logged.append(values))
    reloaded.supervisor.during_reload = ask_and_fail
    reloaded.reloader.reload()
    assert (reloaded.supervisor.reloads, len(logged)) == (2, 1)


def test_signals_are_received_after_a_fault_of_the_replacement(
    reloaded: Reloaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    monkeypatch.setattr("gateway.reloading._log.failure", lambda *values: logged.append(values))
    before = blocked()
    reloaded.supervisor.fault = OSError("too many open files")
    reloaded.reloader.reload(replaces_program=True)
    reloaded.clock.pump([0.1] * 10)
    assert len(logged) == 1
    assert reloaded.supervisor.taken_back == ["state"]
    assert blocked() == before


# A process whose reactor has a thread that waits, as for a name server, and that gets a signal while the
# main thread blocks it.
_WITH_THREAD = """
import os, signal, threading
from twisted.internet import reactor
from gateway.reloading import keep_signals_from_threads
keep_signals_from_threads(reactor)
received = []
signal.signal(signal.SIGUSR2, lambda number, frame: received.append(number))
waits, goes_on, ends = threading.Event(), threading.Event(), threading.Event()
def upgrade():
    reactor.callInThread(lambda: (waits.set(), goes_on.wait(20), ends.set()))
    assert waits.wait(20)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR2)
    goes_on.set()
    assert ends.wait(20)
    print(received, signal.SIGUSR2 in signal.sigpending())
    reactor.stop()
reactor.callWhenRunning(upgrade)
reactor.run()
"""


def test_a_signal_before_the_program_is_executed_is_left_to_the_successor() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITH_THREAD],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] True\n", "")
