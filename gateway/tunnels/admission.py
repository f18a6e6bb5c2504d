"""Limits on the number of sessions, in total and for each client address, tunnelled or relayed.

The limits are those of all workers together, whose sessions ``SharedCount`` counts.

The limit on all buffers is kept here too: each session gets an equal share, and new sessions are refused
when the share would be too small to be useful.
"""

from __future__ import annotations

from typing import Protocol, final

from gateway.errors import CapacityReached, Draining
from gateway.protocols.limits import Limits

# A session with a smaller buffer limit is useless: one answer would not fit.
_LEAST_SHARE_BYTES = 64 * 1024
# The answers of ended sessions are kept for clients whose connection was cut at the end. They must not use
# the memory of active sessions.
_ENDED_PART = 16


class SharedCount(Protocol):
    """The sessions of all workers (workers/shared_counts.py)."""

    @property
    def total(self) -> int: ...

    def of_address(self, address: str) -> int: ...

    def add(self, address: str, number: int) -> None: ...


@final
class Admission:
    """``buffers_bytes``: limit on the buffers of all sessions. ``workers``: the number that share it.
    ``living``: the number of this worker's sessions.
    """

    def __init__(
        self,
        limits: Limits,
        buffers_bytes: int,
        counted: SharedCount,
        workers: int = 1,
    ) -> None:
        self._limits = limits
        self._buffers_bytes = buffers_bytes
        self._workers = workers
        self._counted = counted
        self.closed = False
        # Set by the operator while no new sessions are accepted.
        self.draining = False
        self.living = 0

    def enter(self, address: str) -> None:
        """Admit a session, until ``leave`` is called for it. Raises CapacityReached, Draining."""
        if self.closed:
            raise Draining("the gateway is ending")
        if self.draining:
            raise Draining("the gateway is draining")
        if self._counted.total >= self._limits.sessions:
            raise CapacityReached("sessions")
        if address and self._counted.of_address(address) >= self._limits.sessions_per_address:
            raise CapacityReached("sessions of one address")
        if self._share_bytes() < _LEAST_SHARE_BYTES:
            raise CapacityReached("buffers")
        self.living += 1
        self._counted.add(address, 1)

    def leave(self, address: str) -> None:
        """An admitted session has ended."""
        self.living -= 1
        self._counted.add(address, -1)

    def close(self) -> None:
        """Refuse all new sessions from now on."""
        self.closed = True

    def share_bytes(self) -> int:
        """The buffer limit of each session."""
        return max(self._share_bytes(), _LEAST_SHARE_BYTES)

    @property
    def ended_bytes(self) -> int:
        """The limit on the stored answers of all ended sessions of this worker together."""
        return self._buffers_bytes // _ENDED_PART // self._workers

    def _share_bytes(self) -> int:
        return self._buffers_bytes // max(1, self._counted.total)
