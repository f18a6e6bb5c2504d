"""A server as a member of its group: its weight, its sessions, and whether new ones may be given to it.

It is *avoided* for a while after a failed connect, and while its health checks say that it is down: it then
gets a session only if no other member accepts it. The operator can have new sessions *kept from* it. After
it has come up again, its share of new sessions rises from nothing during ``slow_start_s``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Protocol, final

from gateway.upstreams.dial import Server

# Longer: a restarted server is not used for longer. Shorter: more clients wait for a dead server's timeout.
AVOIDED_S: Final = 10.0
# The share with which a slow start begins, so that the server gets its first session soon.
_LEAST_SHARE: Final = 0.05


class SessionCount(Protocol):
    """The sessions of a server. ``own``: those of this worker; ``total``: of all that share the count."""

    @property
    def own(self) -> int: ...

    @property
    def total(self) -> int: ...

    def add(self, number: int) -> None: ...


@final
class OwnCount:
    """The sessions of a server in this worker alone."""

    def __init__(self) -> None:
        self.total = 0

    @property
    def own(self) -> int:
        return self.total

    def add(self, number: int) -> None:
        self.total += number


@final
class Member:
    """``clock`` returns monotonic seconds. ``max_sessions``: 0 for any number. ``count``: of its sessions,
    including those that are being opened.
    """

    def __init__(
        self,
        server: Server,
        clock: Callable[[], float],
        weight: int = 1,
        is_backup: bool = False,
        max_sessions: int = 0,
        slow_start_s: float = 0.0,
        count: SessionCount | None = None,
    ) -> None:
        self.server = server
        self.name = server.name
        self.weight = weight
        self.is_backup = is_backup
        self.is_down_by_checks = False
        self.is_drained = False
        self.max_sessions = max_sessions
        self.count = OwnCount() if count is None else count
        # When it was last connected to; 0.0 for never.
        self.tried_at = 0.0
        # Of the smooth round robin (``group``).
        self.credit = 0.0
        self._clock = clock
        self._slow_start_s = slow_start_s
        # Until when it is avoided because of a failed connect; None if the last one has succeeded.
        self._failed_until: float | None = None
        self._up_since = -inf

    @property
    def sessions(self) -> int:
        """The number of its sessions."""
        return self.count.total

    @property
    def is_full(self) -> bool:
        """Whether it has as many sessions as it may."""
        return bool(self.max_sessions) and self.sessions >= self.max_sessions

    @property
    def is_up(self) -> bool:
        """Whether the last connect has succeeded, and the checks do not say that it is down."""
        return self._failed_until is None and not self.is_down_by_checks

    @property
    def is_avoided(self) -> bool:
        """Whether others are tried first."""
        return self.is_down_by_checks or (
            self._failed_until is not None and self._failed_until > self._clock()
        )

    @property
    def share(self) -> float:
        """Its weight for the choice; less during a slow start."""
        age_s = self._clock() - self._up_since
        if age_s >= self._slow_start_s:
            return self.weight
        return self.weight * max(_LEAST_SHARE, age_s / self._slow_start_s)

    @property
    def is_starting(self) -> bool:
        """Whether it is in its slow start."""
        return self.is_up and self.share < self.weight

    def connected(self) -> bool:
        """A connect has succeeded. Returns whether it is the first one after a failure."""
        self.tried_at = self._clock()
        return self._end_failure()

    def failed(self) -> bool:
        """A connect has failed. Returns whether it is the first one after a success."""
        is_first = self._failed_until is None
        self.tried_at = self._clock()
        self._failed_until = self.tried_at + AVOIDED_S
        return is_first

    def note_checks(self, is_up: bool) -> None:
        """The result of its health checks."""
        was_down, self.is_down_by_checks = self.is_down_by_checks, not is_up
        # A failure that was short is over as well, although no client has shown that.
        if is_up and (was_down or not self.is_avoided):
            self._end_failure()
        if is_up and was_down:
            self._up_since = self._clock()

    def _end_failure(self) -> bool:
        if self._failed_until is None:
            return False
        self._failed_until = None
        self._up_since = self._clock()
        return True
