"""Memory shared by all connections of one RTMP server, and its limits.

- *Unfinished messages*: when their bytes exceed the limit, the connection that holds most of them is
  closed, so that one client cannot use up the memory of all others.
- *Queued messages* for slow players: a payload queued for several players is stored once and counted once.
  A message that exceeds the limit is not queued; the player skips it.
- *Full transports* count towards the same limit, each with the most that it can hold, which is a copy.
  When one exceeds the limit, the connection whose transport has been full longest is closed.

A transport that is not full is not counted: it holds up to 64 KiB, and connections are limited.
"""

from __future__ import annotations

from typing import Final, Protocol, final

from gateway.errors import RTMPError

# Eight messages of the largest size.
UNFINISHED_BYTES: Final = 64 * 1024 * 1024
# A minute of 16 Mbit/s.
WAITING_BYTES: Final = 128 * 1024 * 1024
# The cost of a queued message without its payload; it limits the number of empty messages.
MESSAGE_BYTES: Final = 256
# The most that a full transport holds: Twisted's mark of 64 KiB, and one write of up to 64 KiB past it.
STALLED_BYTES: Final = 128 * 1024


class Keeper(Protocol):
    """A connection. ``unfinished_bytes``: received bytes of its unfinished messages."""

    unfinished_bytes: int

    def evict(self, cause: str) -> None:
        """Close the connection and release its unfinished messages."""


class Stalled(Protocol):
    """The send queue of a connection whose transport is full."""

    def close(self, cause: str) -> None:
        """Close the connection and release what is queued for it."""


@final
class ServerMemory:
    """``unfinished_bytes`` and ``waiting_bytes`` are the totals of all connections."""

    __slots__ = (
        *("_keepers", "_most_unfinished", "_most_waiting", "_stalled", "_waiting"),
        *("unfinished_bytes", "waiting_bytes"),
    )

    def __init__(
        self, unfinished_bytes: int = UNFINISHED_BYTES, waiting_bytes: int = WAITING_BYTES
    ) -> None:
        self._most_unfinished = unfinished_bytes
        self._most_waiting = waiting_bytes
        self._keepers: set[Keeper] = set()
        # The number of players that a payload is queued for, by its identity.
        self._waiting: dict[int, int] = {}
        # Connections in the order in which their transports became full.
        self._stalled: dict[Stalled, None] = {}
        self.unfinished_bytes = self.waiting_bytes = 0

    def unfinished(self, keeper: Keeper, change_bytes: int) -> None:
        """Account for a change in the unfinished bytes of ``keeper``.

        Raises RTMPError if the limit is exceeded and ``keeper`` holds the most bytes; otherwise the
        connection that does is evicted.
        """
        keeper.unfinished_bytes += change_bytes
        self.unfinished_bytes += change_bytes
        if keeper.unfinished_bytes:
            self._keepers.add(keeper)
        else:
            self._keepers.discard(keeper)
        if self.unfinished_bytes > self._most_unfinished:
            self._end_largest(keeper)

    def _end_largest(self, keeper: Keeper) -> None:
        cause = (
            "too many bytes in unfinished messages of all connections, most of them in this one's"
        )
        largest = max(self._keepers, key=lambda each: each.unfinished_bytes)
        if largest is keeper:
            raise RTMPError(cause)
        largest.evict(cause)

    def has_room(self, payload: bytes, others_bytes: int = 0) -> bool:
        """Whether ``payload`` can be queued for one more player, with ``others_bytes`` before it."""
        size_bytes = self._added_bytes(payload) + others_bytes
        return self.waiting_bytes + size_bytes <= self._most_waiting

    def _added_bytes(self, payload: bytes) -> int:
        return MESSAGE_BYTES + (0 if id(payload) in self._waiting else len(payload))

    def wait(self, payload: bytes) -> bool:
        """Account for a payload queued for one more player. Returns False if the limit is reached."""
        size_bytes = self._added_bytes(payload)
        if self.waiting_bytes + size_bytes > self._most_waiting:
            return False
        self.waiting_bytes += size_bytes
        self._waiting[id(payload)] = self._waiting.get(id(payload), 0) + 1
        return True

    def waited(self, payload: bytes) -> None:
        """The payload has left one player's queue. Must be called while the payload is still referenced."""
        count = self._waiting[id(payload)] - 1
        self.waiting_bytes -= MESSAGE_BYTES
        if count:
            self._waiting[id(payload)] = count
        else:
            del self._waiting[id(payload)]
            self.waiting_bytes -= len(payload)

    def stall(self, outbox: Stalled) -> None:
        """Account for a transport that has become full. May close ``outbox``, or another one."""
        self._stalled[outbox] = None
        self.waiting_bytes += STALLED_BYTES
        while self.waiting_bytes > self._most_waiting and self._stalled:
            longest = next(iter(self._stalled))
            longest.close("too many bytes queued for all slow clients; this one was slow longest")

    def stalled_no_more(self, outbox: Stalled) -> None:
        """The transport has drained, or its connection is closed."""
        del self._stalled[outbox]
        self.waiting_bytes -= STALLED_BYTES
