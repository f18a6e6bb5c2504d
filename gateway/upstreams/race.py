"""Attempts at several addresses of a server: Happy Eyeballs, version 2 (RFC 8305, 5).

    the first address      at once
    each further address   a quarter of a second after the one before it, or as soon as that has failed
    the first success      cancels all other attempts
    the last failure       is that of the race

All attempts have the deadline of the race. With TLS, an attempt succeeds at the end of the handshake, so an
address with another service loses. Addresses that failed or were slower are ``beaten``; the server tries
them last for a while, so that only one client waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, Protocol, final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

# RFC 8305, 8: the recommended Connection Attempt Delay. With less, distant servers get connections at
# several addresses for each session.
STAGGER_S: Final = 0.25


class Stage(IntEnum):
    """What an attempt waits for."""

    CONNECT = 0
    TLS = 1
    # The answer to the open of a tunnel.
    OPEN = 2


class Contender(Protocol):
    """An attempt that has begun. ``done`` fires, or fails with ConnectError, unless it is cancelled."""

    done: Deferred[None]

    @property
    def stage(self) -> Stage: ...

    def cancel(self) -> Deferred[None]:
        """Give it up. Fires when nothing is left of it at the server."""


# Begins an attempt at an address, which has so many seconds, and calls the last argument when it succeeds.
Begin = Callable[[str, float, Callable[[], object]], Contender]


@final
class Race:
    """``done`` fires with the address that won, or fails with the last failure."""

    def __init__(self, reactor: Any, hosts: Sequence[str], begin: Begin, timeout_s: float) -> None:
        self._reactor = reactor
        self._waiting = list(hosts)
        self._begin = begin
        self._deadline = reactor.seconds() + timeout_s
        self._running: dict[str, Contender] = {}
        self._timer: Any = None
        # The failures by address, and all addresses that failed or were slower than the winner.
        self.failures: dict[str, ConnectError] = {}
        self.beaten: list[str] = []
        self.done: Deferred[str] = Deferred()

    @property
    def stage(self) -> Stage:
        """That of the running attempt that has come furthest."""
        return max((each.stage for each in self._running.values()), default=Stage.CONNECT)

    def start(self) -> None:
        """Begin the next attempt. There must be one."""
        host = self._waiting.pop(0)
        left_s = max(0.0, self._deadline - self._reactor.seconds())
        attempt = self._begin(host, left_s, lambda: self._decide(host))
        self._running[host] = attempt
        if self._waiting:
            self._timer = self._reactor.callLater(STAGGER_S, self.start)
        attempt.done.addCallbacks(
            lambda _: self._succeed(host), lambda failure: self._fail(host, failure)
        )

    def cancel(self) -> None:
        """Give up a race that has not been decided; ``done`` does not fire."""
        self._stop_timer()
        self._waiting.clear()
        for attempt in self._running.values():
            attempt.cancel()

    def _decide(self, winner: str) -> None:
        """Called before the winner's protocol has its transport."""
        self._stop_timer()
        for host, attempt in self._running.items():
            if host != winner:
                self.beaten.append(host)
                attempt.cancel()

    def _succeed(self, winner: str) -> None:
        # The attempts refer to the race.
        self._running.clear()
        self.done.callback(winner)

    def _fail(self, host: str, failure: Failure) -> None:
        del self._running[host]
        if isinstance(failure.value, ConnectError):
            self.failures[host] = failure.value
        self.beaten.append(host)
        self._stop_timer()
        if self._waiting and self._reactor.seconds() < self._deadline:
            self.start()
        elif not self._running:
            self.done.errback(failure)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
