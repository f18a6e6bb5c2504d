"""A real reactor that a test runs until a condition holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

_log = Logger()

# A condition on loopback is met in milliseconds; this is for a machine that is busy with other things.
_PATIENCE_S = 10.0


class Turning:
    """``reactor`` is not installed and never runs; it turns inside ``until`` and ``turn`` only."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()

    def turn(self, wait_s: float = 0.0) -> None:
        """One turn, as in Twisted's main loop: exceptions are logged and do not end the loop."""
        with _log.failuresHandled("The reactor's turn failed"):
            self.reactor.runUntilCurrent()
            self.reactor.doIteration(wait_s)

    def until(self, condition: Callable[[], object]) -> None:
        """Turn until the condition is true; fail after a timeout."""
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < end, "it did not come about"
            self.turn(0.01)

    def settle(self) -> None:
        """Turn until no call is due and no descriptor is ready."""
        for _ in range(5):
            self.turn()

    def close(self) -> None:
        """Release the reactor's resources."""
        self.reactor.disconnectAll()
        self.settle()
        for reader in tuple(self.reactor._internalReaders):
            self.reactor._removeInternalReader(reader)
            reader.connectionLost(None)
        self.reactor._poller.close()
