"""A worker process as the supervisor sees it: started, ready, retiring, ended.

Its standard output has finished log lines. Its standard error is logged too: it has only what Python writes
when a process fails.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, final

from prometheus_client.core import Metric
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import GatewayError
from gateway.tunnels.ids import base36
from gateway.workers.channel import Channel
from gateway.workers.plain_values import family_of
from gateway.workers.setup import Setup

_log = Logger()

_OUTPUT: Final = 1
_ERRORS: Final = 2
_CHANNEL: Final = 3
# Descriptors in the worker from here on: the shared memory, then the listening sockets.
FIRST_DESCRIPTOR: Final = 4
# A line of a worker's log is shorter; more without a line end is written as it is.
_LINE_BYTES: Final = 128 * 1024


@final
class WorkerProcess(ProcessProtocol):
    """``ready`` is called back when the worker accepts clients; its errback has a GatewayError if not.
    ``gone`` is called back when the process has ended.
    """

    def __init__(
        self, reactor: Any, setup: Setup, node: str, write_line: Callable[[str], object]
    ) -> None:
        self.setup = setup
        self.prefix = node + base36(setup.number, 2)
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.is_ready = self.is_retiring = self.is_stopping = self.has_ended = False
        self.started_at = self.alive_at = float(reactor.seconds())
        # Its active sessions by protocol, as last reported, and its metrics, as last collected.
        self.sessions: Counter[str] = Counter()
        self.families: list[Metric] = []
        self.pid = 0
        self._reactor = reactor
        self._write_line = write_line
        self._unfinished = {_OUTPUT: b"", _ERRORS: b""}
        self.channel = Channel(
            reactor,
            events={
                "ready": self._became_ready,
                "failed": self._failed,
                "alive": self._is_alive,
                "totals": self._has_totals,
            },
            lost=lambda: None,
        )

    def start(self, memory: int, sockets: Sequence[int]) -> None:
        """Start the process with copies of these descriptors. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        with ours, theirs:
            ours.setblocking(False)
            inherited = [theirs.fileno(), memory, *sockets]
            child_fds: dict[int, int | str] = {0: "w", _OUTPUT: "r", _ERRORS: "r"}
            child_fds |= dict(enumerate(inherited, _CHANNEL))
            process = self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-P", "-m", "gateway.workers.process"],
                env=_environment(),
                childFDs=child_fds,
            )
            self.pid = process.pid or 0
            factory: Any = Factory.forProtocol(lambda: self.channel)
            factory.noisy = False
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        channel: Any = self.channel
        channel.transport.write(self.setup.line())

    def retire(self, seconds: float) -> None:
        """Have it accept no more clients, and end with its last session."""
        self.is_retiring = True
        self.channel.tell("retire", seconds)

    def stop(self) -> None:
        """Have it end its sessions, after they had time to end by themselves; a second time, at once."""
        self.channel.tell("hurry" if self.is_stopping else "stop")
        self.is_stopping = True

    def kill(self) -> None:
        if not self.has_ended and self.transport is not None:
            self.transport.signalProcess("KILL")

    # The worker's events

    def _became_ready(self, pid: int) -> None:
        self.is_ready = True
        self.alive_at = self._reactor.seconds()
        ready = self.ready
        if not ready.called:
            ready.callback(None)

    def _failed(self, text: str) -> None:
        if not self.ready.called:
            self.ready.errback(GatewayError(text))

    def _is_alive(self, sessions: dict[str, int]) -> None:
        self.alive_at = self._reactor.seconds()
        self.sessions = Counter(sessions)

    def _has_totals(self, families: list[Any]) -> None:
        self.families = [family_of(each) for each in families]
        self.sessions = Counter()

    # Twisted calls

    def connectionMade(self) -> None:
        if self.transport is not None:
            # Nothing is written to its standard input.
            self.transport.closeChildFD(0)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, rest = (self._unfinished[childFD] + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines.append(rest)
            rest = b""
        self._unfinished[childFD] = rest
        for line in lines:
            self._say(childFD, line.decode("utf-8", "replace"))

    def _say(self, child_fd: int, line: str) -> None:
        if child_fd == _OUTPUT:
            self._write_line(line)
        else:
            _log.error("worker {prefix}: {line}", prefix=self.prefix, line=line)

    def processEnded(self, reason: Failure) -> None:
        self.has_ended = True
        if not self.ready.called:
            self.ready.errback(GatewayError(f"a worker has ended: {reason.getErrorMessage()}"))
        if not (self.is_retiring or self.is_stopping) or not reason.check(ProcessDone):
            _log.error(
                "worker {prefix} (process {pid}) has ended with {sessions} sessions: {cause}",
                prefix=self.prefix,
                pid=self.pid,
                sessions=sum(self.sessions.values()),
                cause=_cause_of(reason),
            )
        self.gone.callback(None)


def _cause_of(reason: Failure) -> str:
    ended: Any = reason.value
    if getattr(ended, "signal", None):
        return f"killed by signal {ended.signal}"
    return f"exit status {getattr(ended, 'exitCode', None)}"


def _environment() -> dict[str, str]:
    """The environment, with the folder that this program was imported from."""
    program = str(Path(__file__).parents[2])
    paths = [program, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
