"""A worker process as the supervisor sees it: started, ready, retiring, ended.

It has three connections with the supervisor: the channel, its standard output with finished log lines, and
its standard error, where Python writes if the process fails. All are sockets, so that they, and the worker,
can be handed over to the supervisor's successor in the same process (``handover``).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from typing import Any, Final, final

from attrs import frozen
from prometheus_client.core import Metric
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from gateway.errors import GatewayError
from gateway.supervisor.exit_status import cause_of_end
from gateway.supervisor.retired_totals import RetiredTotals
from gateway.transport import has_unsent
from gateway.tunnels.ids import base36
from gateway.workers.channel import Channel, Handler
from gateway.workers.plain_values import family_of, plain_family
from gateway.workers.setup import SUPERVISORS_SIGNALS, Setup

_log = Logger()

# Descriptors in the worker: its outputs, the channel, the shared memory, and then the listening sockets.
_OUTPUT: Final = 1
_ERRORS: Final = 2
_CHANNEL: Final = 3
FIRST_DESCRIPTOR: Final = 4
# A line of a worker's log is shorter; more without a line end is written as it is.
_LINE_BYTES: Final = 128 * 1024
# After its channel is closed, a worker ends within this time, or is killed.
_END_S: Final = 5.0
_REAP_S: Final = 0.01


@final
class _Lines(Protocol):
    """The lines that a worker writes to one of its outputs."""

    def __init__(self, say: Callable[[str], object], unfinished: bytes = b"") -> None:
        self._say = say
        self.unfinished = unfinished

    def dataReceived(self, data: bytes) -> None:
        *lines, rest = (self.unfinished + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines.append(rest)
            rest = b""
        self.unfinished = rest
        for line in lines:
            self._say(line.decode("utf-8", "replace"))


@frozen
class HandedOver:
    """A running worker, for the supervisor's successor. The descriptors are its three connections; the
    texts are base64 of what has been received of unfinished messages and lines.
    """

    setup: Setup
    node: str
    pid: int
    channel: int
    output: int
    errors: int
    message: str
    output_line: str
    error_line: str
    is_ready: bool
    is_retiring: bool
    sessions: dict[str, int]
    families: list[Any]


@final
class WorkerProcess:
    """``replace_publisher`` answers the call of that name. ``suspect`` is called with the number of each
    media server's failures. ``totals`` gets the series that the worker no longer has. ``ready`` is called
    back when the worker accepts clients; its errback has a GatewayError if not. ``gone`` is called back
    when the process has ended. ``has_totals``: whether its metrics are those of its end. ``unheard_looks``:
    how often the supervisor has looked since the worker has last reported.
    """

    def __init__(
        self,
        reactor: Any,
        setup: Setup,
        node: str,
        write_line: Callable[[str], object],
        replace_publisher: Handler,
        suspect: Callable[[dict[str, int]], object],
        totals: RetiredTotals,
    ) -> None:
        self.setup = setup
        self.node = node
        self.prefix = node + base36(setup.number, 2)
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.is_ready = self.is_retiring = self.is_stopping = self.has_ended = False
        self.started_at = self.alive_at = float(reactor.seconds())
        self.unheard_looks = 0
        self.has_totals = False
        # Its active sessions by protocol, as last reported, and its metrics, as last collected.
        self.sessions: Counter[str] = Counter()
        self.families: list[Metric] = []
        self.pid = 0
        self._totals = totals
        self._reactor = reactor
        self._output = _Lines(write_line)
        self._errors = _Lines(self._say_error)
        self.channel = Channel(
            reactor,
            events={
                "ready": self._became_ready,
                "failed": self._failed,
                "alive": self._is_alive,
                "totals": self._has_totals,
                "suspect": suspect,
            },
            lost=self._channel_lost,
            calls={"replace_publisher": replace_publisher},
        )

    def start(self, memory: int, sockets: Sequence[int]) -> None:
        """Start the process with copies of these descriptors. Raises OSError, after which there is none."""
        with ExitStack() as closing_pairs:
            pairs = [_pair(closing_pairs) for _ in range(3)]
            (output, errors, channel) = [theirs.fileno() for _, theirs in pairs]
            self.pid = _spawn([output, errors, channel, memory, *sockets])
            try:
                self._connect(*(ours.fileno() for ours, _ in pairs))
            except OSError:
                self._abandon()
                raise
        transport: Any = self.channel.transport
        transport.write(self.setup.line())

    def _abandon(self) -> None:
        """End a process that there are no connections with, and wait for its end."""
        self.kill()
        os.waitpid(self.pid, 0)
        self.has_ended = True

    def _connect(self, output: int, errors: int, channel: int) -> None:
        """Use copies of these descriptors."""
        for descriptor, protocol in (
            (output, self._output),
            (errors, self._errors),
            (channel, self.channel),
        ):
            os.set_blocking(descriptor, False)
            self._reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, _factory_of(protocol))

    def retire(self, seconds: float) -> None:
        """Have it accept no more clients, and end with its last session, unless it stops already."""
        if not self.is_ready:
            self.discard()
            return
        if self.is_stopping:
            # A second request would end its sessions at once.
            return
        self.is_retiring = True
        self.channel.tell("retire", seconds)

    def stop(self) -> None:
        """Have it end its sessions, after they had time to end by themselves; a second time, at once."""
        if not self.is_ready:
            self.discard()
            return
        self.channel.tell("hurry" if self.is_stopping else "stop")
        self.is_stopping = True

    def discard(self) -> None:
        """End a worker that has no clients yet."""
        self.is_stopping = True
        self.kill()
        # The failure may have no other errback.
        self.ready.addErrback(lambda _: None)

    def kill(self) -> None:
        # Process 0 would be all of this process's group.
        if self.pid and not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _transports(self) -> list[Any]:
        return [self._output.transport, self._errors.transport, self.channel.transport]

    def note_families(self, families: list[Metric]) -> None:
        """Its metrics have been collected."""
        self._totals.keep_forgotten(self.families, families)
        self.families = families

    # To the supervisor's successor

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent to the worker."""
        return not has_unsent(self.channel.transport)

    def hand_over(self, closing: ExitStack) -> HandedOver:
        """Describe the worker for ``adopted``. The descriptors are copies that survive an exec, and that
        ``closing`` closes.
        """
        output, errors, channel = (
            _copy_of_connection(each, closing) for each in self._transports()
        )
        return HandedOver(
            setup=self.setup,
            node=self.node,
            pid=self.pid,
            channel=channel,
            output=output,
            errors=errors,
            message=_text(self.channel.recvd),
            output_line=_text(self._output.unfinished),
            error_line=_text(self._errors.unfinished),
            is_ready=self.is_ready,
            is_retiring=self.is_retiring,
            sessions=dict(self.sessions),
            families=[plain_family(each) for each in self.families],
        )

    @classmethod
    def adopted(
        cls,
        reactor: Any,
        worker: HandedOver,
        write_line: Callable[[str], object],
        replace_publisher: Handler,
        suspect: Callable[[dict[str, int]], object],
        totals: RetiredTotals,
    ) -> WorkerProcess:
        """The worker that this process's former program has handed over."""
        self = cls(
            reactor,
            worker.setup,
            worker.node,
            write_line,
            replace_publisher,
            suspect,
            totals,
        )
        self.pid = worker.pid
        self.is_ready, self.is_retiring = worker.is_ready, worker.is_retiring
        self.sessions = Counter(worker.sessions)
        self.families = [family_of(each) for each in worker.families]
        self._output.unfinished = b64decode(worker.output_line)
        self._errors.unfinished = b64decode(worker.error_line)
        if worker.is_ready:
            self.ready.callback(None)
        descriptors = worker.output, worker.errors, worker.channel
        self._connect(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        channel: Any = self.channel
        channel.dataReceived(b64decode(worker.message))
        return self

    # The worker's events

    def _became_ready(self, pid: int) -> None:
        self.is_ready = True
        self._heard()
        if not self.ready.called:
            self.ready.callback(None)

    def _failed(self, text: str) -> None:
        if not self.ready.called:
            self.ready.errback(GatewayError(text))

    def _is_alive(self, sessions: dict[str, int], dropped_lines: int = 0) -> None:
        self._heard()
        self.sessions = Counter(sessions)
        if dropped_lines:
            _log.warn(
                "worker {prefix}: {count} log lines were dropped, because the log was not written in time",
                prefix=self.prefix,
                count=dropped_lines,
            )

    def _heard(self) -> None:
        self.alive_at = self._reactor.seconds()
        self.unheard_looks = 0

    def _has_totals(self, families: list[Any]) -> None:
        self.has_totals = True
        self.note_families([family_of(each) for each in families])
        self.sessions = Counter()

    def _say_error(self, line: str) -> None:
        _log.error("worker {prefix}: {line}", prefix=self.prefix, line=line)

    # Its end

    def _channel_lost(self) -> None:
        self._reap(self._reactor.seconds() + _END_S)

    def _reap(self, kill_at: float) -> None:
        """Wait for the end of the process, which has closed its channel."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            # Ended while the supervisor was replaced.
            pid, status = self.pid, 0
        if pid:
            self._ended(status)
            return
        if self._reactor.seconds() > kill_at:
            self.kill()
        self._reactor.callLater(_REAP_S, self._reap, kill_at)

    def _ended(self, status: int) -> None:
        self.has_ended = True
        cause = cause_of_end(status)
        if not self.ready.called:
            self.ready.errback(GatewayError(f"a worker has ended: {cause}"))
        is_discarded = self.is_stopping and not self.is_ready
        if not is_discarded and (status or not (self.is_retiring or self.is_stopping)):
            _log.error(
                "worker {prefix} (process {pid}) has ended with {sessions} sessions: {cause}",
                prefix=self.prefix,
                pid=self.pid,
                sessions=sum(self.sessions.values()),
                cause=cause,
            )
        self.gone.callback(None)


def _spawn(descriptors: Sequence[int]) -> int:
    """Start a worker with these descriptors, numbered from ``_OUTPUT`` on. Returns its process id."""
    # Beyond the numbers that they will have, so that none is overwritten before it is copied.
    with ExitStack() as closing_copies:

        def copy(descriptor: int) -> int:
            made = fcntl(descriptor, F_DUPFD_CLOEXEC, len(descriptors) + 1)
            closing_copies.callback(os.close, made)
            return made

        copies = [copy(each) for each in descriptors]
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "gateway.workers.process"],
            _environment(),
            # Not that of a supervisor that is about to replace its program, which blocks SIGTERM too.
            setsigmask=SUPERVISORS_SIGNALS,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, each, number) for number, each in enumerate(copies, 1)),
            ],
        )


def _pair(closing: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Connected sockets, which ``closing`` closes."""
    ours, theirs = socket.socketpair()
    return closing.enter_context(ours), closing.enter_context(theirs)


def _environment() -> dict[str, str]:
    """The environment, with the folder that this program was imported from."""
    program = str(Path(__file__).parents[2])
    paths = [program, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _factory_of(protocol: Any) -> Any:
    factory: Any = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return factory


def _copy_of_connection(transport: Any, closing: ExitStack) -> int:
    """A copy of a connection's descriptor that survives an exec. For one that the worker has closed, since
    it is ending: the descriptor of one without a peer, so that the successor notices the end.
    """
    descriptor: int = transport.fileno()
    if descriptor >= 0:
        return inheritable_copy(descriptor, closing)
    ended, peer = socket.socketpair()
    peer.close()
    with ended:
        return inheritable_copy(ended.fileno(), closing)


def inheritable_copy(descriptor: int, closing: ExitStack) -> int:
    """A copy that survives an exec. ``closing`` closes it if the program is not replaced: workers that are
    started later would inherit it.
    """
    copy = os.dup(descriptor)
    closing.callback(os.close, copy)
    os.set_inheritable(copy, True)
    return copy


def _text(data: bytes) -> str:
    return b64encode(data).decode()
