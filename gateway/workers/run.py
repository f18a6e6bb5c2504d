"""The run of a worker in its process (``process``).

Descriptor 3 is the channel to the supervisor. The log goes to standard output as finished lines, which the
supervisor writes to its own log.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from gateway.admin.time_slices import TimeSlices
from gateway.configuration.sections import Log
from gateway.logs import debugging
from gateway.periodic_calls import periodic_call
from gateway.reactor_time import use_monotonic_time
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.logs.line_observer import make_observer
from gateway.telemetry.logs.pipe_output import PipeOutput
from gateway.telemetry.logs.unraisable import unraisable
from gateway.transport import has_unsent
from gateway.workers.control import Control, failure_text
from gateway.workers.place import Place
from gateway.workers.setup import SUPERVISORS_SIGNALS, Setup, read_setup
from gateway.workers.shared_counts import SharedCounts
from gateway.workers.worker import Worker

CHANNEL: Final = 3
_ALIVE_S: Final = 1.0
_OUTPUT: Final = 1
# The totals can be larger than the channel's buffer, and the supervisor can be busy with those of others.
_LAST_WORDS_S: Final = 10.0
# What was written to clients is sent meanwhile.
_STOP_S: Final = 0.05

_log = Logger()


def run() -> None:
    """Run a worker until the supervisor ends it, or until it is no longer needed after that. Enables the
    garbage collector when it is ready.
    """
    for number in SUPERVISORS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISORS_SIGNALS)
    with socket.socket(fileno=CHANNEL) as channel:
        setup = read_setup(channel)
        channel.setblocking(False)
        _run(setup, channel)


def _run(setup: Setup, channel: socket.socket) -> None:
    from twisted.internet import reactor as found

    reactor: Any = found
    use_monotonic_time(reactor)

    configuration = setup.configuration.parse()
    output = PipeOutput(_OUTPUT)
    threshold = _begin_logging(setup, configuration.log, output)
    counts = SharedCounts(setup.memory, setup.slot)
    place = Place(
        *(configuration.node.id, setup.number, setup.folder, setup.sockets, counts, setup.workers),
        setup.servers,
        setup.configuration.digest,
    )
    worker = Worker(configuration, reactor, place, threshold)
    slices = partial(TimeSlices, reactor, monotonic)
    control: Control = Control(
        *(worker, place.prefix, reactor, slices),
        lambda: _stop(reactor, control),
        output.take_dropped,
    )
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(control.terminate))
    reactor.adoptStreamConnection(channel.fileno(), socket.AF_UNIX, _factory(control))
    if not setup.is_first:
        threshold.level = "error"
    reactor.callWhenRunning(_begin, worker, control, reactor, partial(_set_level, threshold, setup))
    reactor.run(installSignalHandlers=False)


def _begin_logging(setup: Setup, log: Log, output: PipeOutput) -> LevelFilter:
    unraisable.install()
    lines_per_s = max(1, log.lines_per_s // setup.workers)
    lines = make_observer(log.format, output, lines_per_s, monotonic, setup.is_journal)
    threshold = LevelFilter(lines, setup.level)
    debugging.enabled = setup.level == "debug"
    globalLogBeginner.beginLoggingTo([threshold], redirectStandardIO=False)
    return threshold


def _factory(control: Control) -> Any:
    factory: Any = Factory.forProtocol(lambda: control.channel)
    factory.noisy = False
    return factory


def _set_level(threshold: LevelFilter, setup: Setup) -> None:
    threshold.level = setup.level


def _begin(worker: Worker, control: Control, reactor: Any, started: Callable[[], object]) -> None:
    def refuse(failure: Failure) -> None:
        control.channel.tell("failed", failure_text(failure.value))
        _stop(reactor, control)

    Deferred.fromCoroutine(start(worker, control, reactor, started)).addErrback(refuse)


async def start(
    worker: Worker, control: Control, reactor: Any, started: Callable[[], object]
) -> None:
    """Start the worker, enable the garbage collector, and tell the supervisor that the worker is ready."""
    worker.bind()
    await worker.start()
    started()
    gc.collect()
    gc.freeze()
    gc.enable()
    control.channel.tell("ready", os.getpid())
    alive = periodic_call(control.report, reactor)
    alive.start(_ALIVE_S)


def _stop(reactor: Any, control: Control) -> None:
    stop_once_sent(reactor, control.channel.transport, reactor.seconds() + _LAST_WORDS_S)


def stop_once_sent(reactor: Any, transport: Any, until: float) -> None:
    """Stop the reactor when everything that was written to ``transport`` is sent, or at ``until``."""

    def look() -> None:
        if transport.connected and has_unsent(transport) and reactor.seconds() < until:
            reactor.callLater(_STOP_S, look)
        else:
            reactor.stop()

    reactor.callLater(_STOP_S, look)
