"""Calls that are repeated for as long as a process runs, whatever faults they have.

Twisted's ``LoopingCall`` stops at the first exception: the deadlines of all sessions would stop with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()


def periodic_call(call: Callable[[], object], reactor: Any) -> LoopingCall:
    """A timer for ``call``, which may return a Deferred. Its faults are logged, and it is called again."""

    def run() -> Deferred[Any]:
        return maybeDeferred(call).addErrback(
            lambda failure: _log.failure("a periodic call failed", failure)
        )

    timer = LoopingCall(run)
    timer.clock = reactor
    return timer
