"""Counts of the sessions of media servers that were found by SRV records, which all workers share.

Such servers come and go, and each worker finds them by itself, so the supervisor cannot number them. The
shared memory has a table for them: a row is of the server whose name's digest it has. A worker that finds a
server takes its row, or a free one; a row is free while no worker has taken it. Rows are taken and left
under a lock of the memory's file, which the kernel releases if a worker dies. Counts need no lock, as all
others (``shared_counts``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, lockf
from hashlib import blake2b
from typing import Final, final

# More than the servers of 32 names with the most records. If all are taken, a worker counts its sessions
# alone.
ROWS: Final = 1024
_DIGEST_BYTES: Final = 8
_CELL_BYTES: Final = 4


def table_bytes(slots: int) -> int:
    """The size of the table for so many workers."""
    return ROWS * (_DIGEST_BYTES + 2 * slots * _CELL_BYTES)


@final
class ServerCount:
    """The sessions of a media server. ``cells``: the count of each worker; ``slot``: that of this one."""

    def __init__(self, cells: memoryview, slot: int) -> None:
        self._cells = cells
        self._slot = slot

    @property
    def own(self) -> int:
        """The count of this worker."""
        count: int = self._cells[self._slot]
        return count

    @property
    def total(self) -> int:
        """The count of all workers."""
        return sum(self._cells)

    def add(self, number: int) -> None:
        """Change this worker's count."""
        self._cells[self._slot] += number


@final
class FoundServers:
    """``descriptor``: of the shared memory; ``table``: its part for this, as bytes. ``slot`` is below
    ``slots``.
    """

    def __init__(self, descriptor: int, table: memoryview, slots: int, slot: int) -> None:
        self._descriptor = descriptor
        self._slots, self._slot = slots, slot
        counts_at = ROWS * _DIGEST_BYTES
        takers_at = counts_at + ROWS * slots * _CELL_BYTES
        self._digests = table[:counts_at].cast("Q")
        self._counts = table[counts_at:takers_at].cast("i")
        # How often each worker has taken each row.
        self._takers = table[takers_at : table_bytes(slots)].cast("i")

    def take(self, server: str) -> ServerCount | None:
        """The count of the server with this name; None if all rows are of other servers. Each one must be
        left.
        """
        digest = _digest(server)
        with self._locked():
            row = self._row(digest)
            if row is None:
                row = next((each for each in range(ROWS) if self._is_free(each)), None)
            if row is None:
                return None
            self._digests[row] = digest
            self._takers[row * self._slots + self._slot] += 1
        return ServerCount(self._cells(self._counts, row), self._slot)

    def leave(self, server: str) -> None:
        """A server that was taken has no sessions of this worker, and gets no more."""
        with self._locked():
            row = self._row(_digest(server))
            if row is None:
                return
            takers = self._cells(self._takers, row)
            # None if all rows were of other servers when this worker found the server.
            if takers[self._slot]:
                takers[self._slot] -= 1

    def clear(self, slot: int) -> None:
        """A worker has ended: it has no sessions, and has left all rows."""
        with self._locked():
            for cells in (self._counts, self._takers):
                for index in range(slot, len(cells), self._slots):
                    cells[index] = 0

    def _row(self, digest: int) -> int | None:
        """The row that is taken for this digest."""
        for row, found in enumerate(self._digests):
            if found == digest and not self._is_free(row):
                return row
        return None

    def _is_free(self, row: int) -> bool:
        return not any(self._cells(self._takers, row))

    def _cells(self, table: memoryview, row: int) -> memoryview:
        return table[row * self._slots : (row + 1) * self._slots]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lockf(self._descriptor, LOCK_EX, 1, 0, os.SEEK_SET)
        try:
            yield
        finally:
            lockf(self._descriptor, LOCK_UN, 1, 0, os.SEEK_SET)


def _digest(server: str) -> int:
    """Zero, of a row that was never taken, is as unlikely as two equal ones."""
    return int.from_bytes(blake2b(server.encode(), digest_size=_DIGEST_BYTES).digest(), "big")
