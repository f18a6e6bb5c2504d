"""How many sessions a worker takes, in all and for each client address, tunnelled or not.

The bound on all buffers is kept here too: each session may use an equal part of the whole, and when that
part would be of no use, no more sessions come in.
"""

from __future__ import annotations

from collections import Counter
from typing import final

from gateway.errors import CapacityReached, Draining
from gateway.protocols.limits import Limits

# A session that may buffer less than this is of no use: one answer would not fit.
_LEAST_SHARE_BYTES = 64 * 1024
# What ended sessions keep is for clients whose connection was cut at the very end; it must not take the
# room of those that live.
_ENDED_PART = 16


@final
class Admission:
    """``buffers_bytes`` is for all sessions' buffers together."""

    def __init__(self, limits: Limits, buffers_bytes: int) -> None:
        self._limits = limits
        self._buffers_bytes = buffers_bytes
        self._per_address: Counter[str] = Counter()
        self.closed = False
        # Set by the operator, for as long as no new sessions are to come in.
        self.draining = False
        self.living = 0

    def enter(self, address: str) -> None:
        """Count one more session; the caller owes ``leave``, once. Raises CapacityReached, Draining."""
        if self.closed:
            raise Draining("the gateway is ending")
        if self.draining:
            raise Draining("the gateway is draining")
        if self.living >= self._limits.sessions:
            raise CapacityReached("sessions")
        if address and self._per_address[address] >= self._limits.sessions_per_address:
            raise CapacityReached("sessions of one address")
        if self._share_bytes() < _LEAST_SHARE_BYTES:
            raise CapacityReached("buffers")
        self.living += 1
        self._per_address[address] += 1

    def leave(self, address: str) -> None:
        """A session that entered has ended."""
        self.living -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    def close(self) -> None:
        """Let no more sessions in."""
        self.closed = True

    def share_bytes(self) -> int:
        """How much each session may buffer."""
        return max(self._share_bytes(), _LEAST_SHARE_BYTES)

    @property
    def ended_bytes(self) -> int:
        """How much all sessions that have ended may keep, for the repetition of their last answers."""
        return self._buffers_bytes // _ENDED_PART

    def _share_bytes(self) -> int:
        return self._buffers_bytes // max(1, self.living)
