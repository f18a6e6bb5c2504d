"""How a worker ends: at events of the supervisor, and at signals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.workers.control import Control


class FakeWorker:
    """``calls``: those that end it. Its sessions do not end by themselves."""

    reload_drain_s = 60.0

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.view = self.figures = self
        self.publishers = None

    def __getattr__(self, name: str) -> Any:
        """What events and calls need that have nothing to do with the end."""
        return None

    async def retire(self, seconds: float) -> None:
        self.calls.append("retire")
        await Deferred()

    async def stop(self) -> None:
        self.calls.append("stop")
        await Deferred()

    def hurry(self) -> None:
        self.calls.append("hurry")


def calls_at(events: Iterable[str]) -> list[str]:
    worker: Any = FakeWorker()
    nothing: Any = None
    control = Control(worker, "0001", Clock(), nothing, nothing, nothing)
    for event in events:
        getattr(control, event)()
    calls: list[str] = worker.calls
    return calls


@pytest.mark.parametrize("events", [["stop", "terminate"], ["terminate", "stop"]])
def test_a_signal_to_all_processes_ends_no_session_at_once(events: list[str]) -> None:
    assert calls_at(events) == ["stop"]


def test_a_second_signal_to_a_worker_ends_its_sessions_at_once() -> None:
    assert calls_at(["terminate", "terminate"]) == ["stop", "hurry"]


def test_a_worker_without_supervisor_obeys_signals() -> None:
    assert calls_at(["stop", "_supervisor_lost", "terminate"]) == ["stop", "hurry"]
