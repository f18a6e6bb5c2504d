"""Direct dispatch of read events, without Twisted's log context for each event; ends of connections in
slices; and writes that wait for the end of an iteration.

The end of a session takes 0.3 ms: its log line, its figures, the close of its other connection. If a
media server fails, hundreds end at once, and all other sessions would wait for them. So an iteration
processes the ends last, and only for ``_ENDS_S``. The kernel reports those that are left again in the next
iteration.

``at_end_of_iteration`` lets several small writes to one connection become one: those between workers, which
many clients' commands share.

Internals in use, which the tests check on every supported Twisted: ``_poller`` and ``_selectables`` of
``EPollReactor``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from select import EPOLLERR, EPOLLHUP, EPOLLIN
from time import monotonic
from typing import Any, Final, final

from twisted.internet import main
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger
from twisted.python import log

from gateway.transport import EagerWrites
from gateway.udp.reader import DatagramReader

_log = Logger()

# A transport that has ended, its descriptor, and the event.
_End = tuple[Any, int, int]
# Classes of transports whose reads need no log context.
_DIRECT: Final = (EagerWrites, DatagramReader)
# Longer: data of live sessions waits longer if many others end. Shorter: the iterations that ends need, one
# for each at worst, cost more than the ends.
_ENDS_S: Final = 0.005


@final
class _Iteration:
    """The current iteration of a reactor that is dispatched directly, and what is called at its end."""

    def __init__(self) -> None:
        self.is_running = False
        self.calls: list[Callable[[], object]] = []

    def end(self) -> None:
        self.is_running = False
        if not self.calls:
            return
        calls, self.calls = self.calls, []
        for call in calls:
            try:
                call()
            except Exception:
                _log.failure("A write failed")


_iteration = _Iteration()


def at_end_of_iteration(call: Callable[[], object]) -> None:
    """Call ``call`` when the events of this iteration of the reactor have been processed; at once outside
    of one (for timers), or if the reactor is not dispatched directly.
    """
    if _iteration.is_running:
        _iteration.calls.append(call)
    else:
        call()


def dispatch_directly(reactor: object, clock: Callable[[], float] = monotonic) -> bool:
    """Have the epoll reactor call ``doRead`` directly. Returns whether this reactor supports it.
    ``clock`` returns monotonic seconds.

    Twisted enters a log context for each event, for prefixes of ``twisted.python.log``. This program logs
    through ``twisted.logger``, so read events of its own transports skip it. All other events are
    dispatched by Twisted.
    """
    if type(reactor) is not EPollReactor:
        return False
    reactor.doIteration = partial(_poll, reactor, clock)  # type: ignore[method-assign]
    return True


def _poll(reactor: EPollReactor, clock: Callable[[], float], timeout: float | None) -> None:
    selectables: dict[int, Any] = reactor._selectables
    try:
        events = reactor._poller.poll(-1 if timeout is None else timeout, len(selectables) or 1)
    except InterruptedError:
        return
    _iteration.is_running = True
    try:
        ends = _dispatch(reactor, selectables, events)
        if ends:
            _process_ends(reactor, clock, ends)
    finally:
        _iteration.end()


def _dispatch(
    reactor: EPollReactor, selectables: dict[int, Any], events: list[tuple[int, int]]
) -> list[_End]:
    """Process the events but for ends of connections, which are returned."""
    ends: list[_End] = []
    for fd, event in events:
        selectable = selectables.get(fd)
        if event == EPOLLIN and isinstance(selectable, _DIRECT):
            try:
                why = selectable.doRead()
            except Exception as caught:
                _log.failure("A connection failed")
                why = caught
            if why is main.CONNECTION_DONE:
                ends.append((selectable, fd, event))
            elif why:
                reactor._disconnectSelectable(selectable, why, True)
        elif event & (EPOLLERR | EPOLLHUP):
            ends.append((selectable, fd, event))
        elif selectable is not None:
            # As EPollReactor.doPoll does.
            log.callWithLogger(selectable, reactor._doReadOrWrite, selectable, fd, event)
    return ends


def _process_ends(reactor: EPollReactor, clock: Callable[[], float], ends: list[_End]) -> None:
    """Process as many as there is time for, and at least one. Those that are left are reported again: an
    error is, and so is the end of a stream, until its connection is closed.
    """
    until = clock() + _ENDS_S
    for selectable, fd, event in ends:
        # Another connection can have the number by now.
        if selectable is not None and reactor._selectables.get(fd) is selectable:
            log.callWithLogger(selectable, reactor._doReadOrWrite, selectable, fd, event)
            if clock() >= until:
                return
