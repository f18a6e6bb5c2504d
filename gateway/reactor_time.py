"""The time of the reactor: that of the monotonic clock.

Twisted's own is the system's time. If that is set back, by NTP or an operator, no timer of the process
fires until it has caught up: held answers, deadlines and health checks stop. If it is set forward, all
timers fire at once, and workers seem to have been silent.

Internals in use, which the tests check on every supported Twisted: ``ReactorBase.seconds``, an attribute
that ``callLater`` and the event loop read.
"""

from __future__ import annotations

from time import monotonic
from typing import Any


def use_monotonic_time(reactor: Any) -> None:
    """Must be called before the reactor's first timer is made."""
    reactor.seconds = monotonic
