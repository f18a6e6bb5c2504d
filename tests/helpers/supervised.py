"""A supervisor whose workers have no processes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.errors import GatewayError
from gateway.supervisor import generations
from gateway.supervisor.generation import Generation
from gateway.supervisor.succession import State
from gateway.supervisor.supervisor import Supervisor
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
