"""Counts that all workers share in memory, so that limits on sessions and connections are the gateway's.

The memory has one slot for each worker. A worker writes only to its own slot, so there are no locks, and
reads all of them. Two workers that admit a client at the same moment can exceed a limit by one.

Counts for client addresses are kept in buckets, chosen by a keyed hash, because a table of addresses cannot
be changed without locks. Addresses in the same bucket share their limit.

Sessions of media servers are counted by numbers that the supervisor gives to the servers' names; those of
servers that are found by SRV records in a table (``found_servers``).
"""

from __future__ import annotations

import os
from hashlib import blake2b
from mmap import mmap
from typing import Final, final

from gateway.workers.found_servers import FoundServers, ServerCount, table_bytes

SLOTS: Final = 64
_BUCKETS: Final = 8192
_COLUMNS: Final = 2
_COUNT_BYTES: Final = 4
_COUNTS: Final = SLOTS * _COLUMNS * (1 + _BUCKETS)
# Behind the counts: for each slot, whether its worker accepts connections.
_MEMORY_BYTES: Final = _COUNT_BYTES * (_COUNTS + SLOTS)
# A worker may have this many more connections than the one with the fewest, plus a twentieth of its number.
_MORE: Final = 8
_SHARE: Final = 20
_KEY_BYTES: Final = 16
# The numbers of media servers: enough for those of several generations of workers.
SERVERS: Final = 1024
# Behind the key, because workers of earlier versions use what is in front of it.
_SERVERS_AT: Final = _MEMORY_BYTES + _KEY_BYTES
_FOUND_AT: Final = _SERVERS_AT + _COUNT_BYTES * SERVERS * SLOTS
_ALL_BYTES: Final = _FOUND_AT + table_bytes(SLOTS)


def make_memory() -> int:
    """The descriptor of new shared memory, with all counts 0 and a key for the hash behind them."""
    descriptor = os.memfd_create("rtmpt-gateway")
    os.ftruncate(descriptor, _ALL_BYTES)
    os.pwrite(descriptor, os.urandom(_KEY_BYTES), _MEMORY_BYTES)
    return descriptor


@final
class SharedCount:
    """One count: of all clients, and of each address. ``column``: 0 for sessions, 1 for connections."""

    def __init__(self, memory: mmap, slot: int, column: int) -> None:
        view = memoryview(memory)
        self._counts = view[:_MEMORY_BYTES].cast("i")
        self._key = bytes(view[_MEMORY_BYTES : _MEMORY_BYTES + _KEY_BYTES])
        self._slot = slot
        self._first = column * SLOTS * (1 + _BUCKETS)

    @property
    def total(self) -> int:
        """The count of all workers."""
        return sum(self._counts[self._first : self._first + SLOTS])

    @property
    def of_each(self) -> list[int]:
        """The count of each slot."""
        return self._counts[self._first : self._first + SLOTS].tolist()

    def of_address(self, address: str) -> int:
        """The count of all workers for this address, and for others in its bucket."""
        first = self._bucket(address)
        return sum(self._counts[first : first + SLOTS])

    def add(self, address: str, number: int) -> None:
        """Change this worker's counts."""
        self._counts[self._first + self._slot] += number
        self._counts[self._bucket(address) + self._slot] += number

    def _bucket(self, address: str) -> int:
        digest = blake2b(address.encode(), digest_size=4, key=self._key).digest()
        return self._first + SLOTS * (1 + int.from_bytes(digest, "big") % _BUCKETS)


@final
class SharedCounts:
    """The memory behind ``descriptor``, which must stay open, as the worker in ``slot`` sees it."""

    def __init__(self, descriptor: int, slot: int) -> None:
        if os.fstat(descriptor).st_size < _ALL_BYTES:
            # The memory was made by a supervisor of an earlier version.
            os.ftruncate(descriptor, _ALL_BYTES)
        self._memory = mmap(descriptor, _ALL_BYTES)
        self._accepting = memoryview(self._memory)[:_MEMORY_BYTES].cast("i")[_COUNTS:]
        self.slot = slot
        self.sessions = SharedCount(self._memory, slot, 0)
        self.connections = SharedCount(self._memory, slot, 1)
        view = memoryview(self._memory)
        self._servers = view[_SERVERS_AT:_FOUND_AT].cast("i")
        self.found_servers = FoundServers(descriptor, view[_FOUND_AT:], SLOTS, slot)

    def server(self, number: int) -> ServerCount:
        """The sessions of a media server; ``number`` is below ``SERVERS``."""
        return ServerCount(self._servers[number * SLOTS : (number + 1) * SLOTS], self.slot)

    def set_accepting(self, is_accepting: bool) -> None:
        """Whether this worker accepts connections."""
        self._accepting[self.slot] = is_accepting

    def has_share(self) -> bool:
        """Whether this worker has at least its share of the connections, so that another one that accepts
        should take the next, and others should keep those that began with a command of its sessions.
        """
        counts = self.connections.of_each
        own = counts[self.slot]
        least = min(
            (count for count, accepts in zip(counts, self._accepting, strict=True) if accepts),
            default=own,
        )
        return own > least + _MORE + own // _SHARE

    def clear(self, slot: int) -> None:
        """Set the counts of a worker that has ended to 0."""
        counts = memoryview(self._memory)[:_MEMORY_BYTES].cast("i")
        for index in range(slot, len(counts), SLOTS):
            counts[index] = 0
        for index in range(slot, len(self._servers), SLOTS):
            self._servers[index] = 0
        self.found_servers.clear(slot)
