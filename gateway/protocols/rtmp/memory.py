"""What all connections of one server keep in memory together, with a bound for each kind.

- *Unfinished messages*: when there are too many bytes of them, whoever keeps most is ended, so that nobody
  can take the room of all others.
- *Waiting messages*, for players that are slow: a payload that waits for several players is in memory once,
  and is counted once. Where there is no room, a message does not wait, and its player leaves it out.
"""

from __future__ import annotations

from typing import Final, Protocol, final

from gateway.errors import RTMPError

# Eight of the largest messages there may be.
UNFINISHED_BYTES: Final = 64 * 1024 * 1024
# A minute of 16 Mbit/s.
WAITING_BYTES: Final = 128 * 1024 * 1024
# What a waiting message costs beside its payload, so that empty ones are bounded too.
MESSAGE_BYTES: Final = 256


class Keeper(Protocol):
    """A connection; ``unfinished_bytes`` is what it keeps of unfinished messages."""

    unfinished_bytes: int

    def evict(self, cause: str) -> None:
        """End the connection, and let go of what it keeps."""


@final
class ServerMemory:
    """The counts, kept for each change; ``waiting_bytes`` and ``unfinished_bytes`` are for all together."""

    __slots__ = (
        *("_keepers", "_most_unfinished", "_most_waiting", "_waiting"),
        *("unfinished_bytes", "waiting_bytes"),
    )

    def __init__(
        self, unfinished_bytes: int = UNFINISHED_BYTES, waiting_bytes: int = WAITING_BYTES
    ) -> None:
        self._most_unfinished = unfinished_bytes
        self._most_waiting = waiting_bytes
        self._keepers: set[Keeper] = set()
        # By a payload's identity: for how many players it waits.
        self._waiting: dict[int, int] = {}
        self.unfinished_bytes = self.waiting_bytes = 0

    def unfinished(self, keeper: Keeper, change_bytes: int) -> None:
        """``keeper`` keeps so much more, or less, of unfinished messages.

        Raises RTMPError when there are too many, and it is ``keeper`` that keeps most.
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

    def wait(self, payload: bytes) -> bool:
        """Count a payload that is to wait for one more player; False if there is no room for it."""
        count = self._waiting.get(id(payload), 0)
        size_bytes = MESSAGE_BYTES + (0 if count else len(payload))
        if self.waiting_bytes + size_bytes > self._most_waiting:
            return False
        self.waiting_bytes += size_bytes
        self._waiting[id(payload)] = count + 1
        return True

    def waited(self, payload: bytes) -> None:
        """One player less waits for it. To be called while the payload still exists."""
        count = self._waiting[id(payload)] - 1
        self.waiting_bytes -= MESSAGE_BYTES
        if count:
            self._waiting[id(payload)] = count
        else:
            del self._waiting[id(payload)]
            self.waiting_bytes -= len(payload)
