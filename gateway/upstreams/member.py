"""A server as a member of its group: its weight, its sessions, and whether new ones may be given to it.

It is *avoided* for a while after a failed connect, and while its health checks say that it is down: it then
gets a session only if no other member accepts it. If the operator has *drained* it, or set it *down*, it
gets none. After it has come up again, its share of new sessions rises during ``slow_start_s``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final, Protocol, final

from gateway.upstreams.dial import Server
from gateway.upstreams.names import Resolved

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
        # Among servers that are no backups, and among backups, those with the lowest priority are used
        # first.
        self.priority = 0
        # The SRV records that it is from; None if it is configured.
        self.service: Resolved | None = None
        self.is_down_by_checks = False
        self.is_drained = False
        self.is_down_by_operator = False
        self.max_sessions = max_sessions
        self.count = OwnCount() if count is None else count
        # One object, to which the connections of all its sessions refer.
        self.end_session: Callable[[], None] = partial(self.count.add, -1)
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
    def failed_look_ups(self) -> int:
        """Failed resolutions of its name, and of the records that it is from."""
        return sum(each.failed_look_ups for each in self._names)

    @property
    def is_stale(self) -> bool:
        """Whether its addresses or records are old ones, because they could not be resolved again."""
        return any(each.is_failing for each in self._names)

    @property
    def _names(self) -> tuple[Resolved, ...]:
        return (self.server,) if self.service is None else (self.server, self.service)

    @property
    def is_full(self) -> bool:
        """Whether it has as many sessions as it may."""
        return bool(self.max_sessions) and self.sessions >= self.max_sessions

    @property
    def is_up(self) -> bool:
        """Whether the last connect has succeeded, and neither its checks nor the operator say that it is
        down.
        """
        is_down = self.is_down_by_checks or self.is_down_by_operator
        return self._failed_until is None and not is_down

    @property
    def is_closed(self) -> bool:
        """Whether it gets no new sessions, as the operator asked."""
        return self.is_drained or self.is_down_by_operator

    @property
    def is_avoided(self) -> bool:
        """Whether others are tried first."""
        return (
            self.is_down_by_checks
            or self.is_down_by_operator
            or (self._failed_until is not None and self._failed_until > self._clock())
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

    @property
    def state(self) -> str:
        """The state in the operator's words."""
        if self.is_down_by_operator:
            return "set_down"
        if self.is_drained:
            return "drained"
        if not self.is_up:
            return "down"
        return "slow_start" if self.is_starting else "up"

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

    def set_by_operator(self, is_drained: bool, is_down: bool) -> None:
        """Set whether the operator has drained the server, or set it down."""
        was_down, self.is_down_by_operator = self.is_down_by_operator, is_down
        self.is_drained = is_drained
        if was_down and not is_down:
            self._up_since = self._clock()

    def _end_failure(self) -> bool:
        if self._failed_until is None:
            return False
        self._failed_until = None
        self._up_since = self._clock()
        return True
