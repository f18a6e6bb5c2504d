"""Direct dispatch of read events, without Twisted's log context for each event; and writes that wait for
the end of an iteration.

``at_end_of_iteration`` lets several small writes to one connection become one: those between workers, which
many clients' commands share.

Internals in use, which the tests check on every supported Twisted: ``_poller`` and ``_selectables`` of
``EPollReactor``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from select import EPOLLIN
from typing import Any, Final, final

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger
from twisted.python import log

from gateway.transport import EagerWrites
from gateway.udp.reader import DatagramReader

_log = Logger()

# Those that read without a log context.
_DIRECT: Final = (EagerWrites, DatagramReader)


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


def dispatch_directly(reactor: object) -> bool:
    """Have the epoll reactor call ``doRead`` directly. Returns whether this reactor supports it.

    Twisted enters a log context for each event, for prefixes of ``twisted.python.log``. This program logs
    through ``twisted.logger``, so read events of its own transports skip it. All other events are
    dispatched by Twisted.
    """
    if type(reactor) is not EPollReactor:
        return False
    reactor.doIteration = partial(_poll, reactor)  # type: ignore[method-assign]
    return True


def _poll(reactor: EPollReactor, timeout: float | None) -> None:
    selectables: dict[int, Any] = reactor._selectables
    try:
        events = reactor._poller.poll(-1 if timeout is None else timeout, len(selectables) or 1)
    except InterruptedError:
        return
    _iteration.is_running = True
    try:
        _dispatch(reactor, selectables, events)
    finally:
        _iteration.end()


def _dispatch(
    reactor: EPollReactor, selectables: dict[int, Any], events: list[tuple[int, int]]
) -> None:
    for fd, event in events:
        selectable = selectables.get(fd)
        if event == EPOLLIN and isinstance(selectable, _DIRECT):
            try:
                why = selectable.doRead()
            except Exception as caught:
                _log.failure("A connection failed")
                why = caught
            if why:
                reactor._disconnectSelectable(selectable, why, True)
        elif selectable is not None:
            # As EPollReactor.doPoll does.
            log.callWithLogger(selectable, reactor._doReadOrWrite, selectable, fd, event)
