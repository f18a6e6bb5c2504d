"""Counts of the sessions of servers that were found by SRV records."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import pytest

from gateway.workers.found_servers import ROWS, FoundServers, ServerCount
from gateway.workers.shared_counts import SharedCounts, make_memory

_A, _B = "a.example:1935", "b.example:1935"
# How long another process keeps the lock at least.
_HELD_S = 0.2


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_memory()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def workers(memory: int) -> tuple[FoundServers, FoundServers]:
    return SharedCounts(memory, 0).found_servers, SharedCounts(memory, 1).found_servers


def taken(found: FoundServers, server: str) -> ServerCount:
    count = found.take(server)
    assert count is not None
    return count


def test_workers_share_the_count_of_a_server_in_whatever_order_they_find_it(
    workers: tuple[FoundServers, FoundServers],
) -> None:
    one, other = workers
    of_one = taken(one, _A), taken(one, _B)
    of_b, of_a = taken(other, _B), taken(other, _A)
    of_one[0].add(2)
    of_a.add(1)
    assert [(each.own, each.total) for each in (*of_one, of_a, of_b)] == [
        *((2, 3), (0, 0)),
        *((1, 3), (0, 0)),
    ]


def test_a_row_is_another_servers_after_the_last_worker_has_left_it(
    workers: tuple[FoundServers, FoundServers],
) -> None:
    one, other = workers
    first = taken(one, _A)
    taken(other, _A)
    # Two names have the same server.
    taken(other, _A)
    one.leave(_A)
    other.leave(_A)
    second = taken(one, _B)
    second.add(1)
    assert first.total == 0
    other.leave(_A)
    third = taken(other, "c.example:1935")
    third.add(1)
    assert first.total == 1
    assert second.total == 1


def test_a_worker_that_has_ended_has_neither_sessions_nor_rows(
    memory: int, workers: tuple[FoundServers, FoundServers]
) -> None:
    one, other = workers
    taken(one, _A).add(1)
    of_other = taken(other, _A)
    of_other.add(2)
    SharedCounts(memory, 0).clear(1)
    assert (of_other.own, of_other.total) == (0, 1)
    one.leave(_A)
    taken(one, _B).add(5)
    assert of_other.total == 6


def test_if_all_rows_are_taken_a_further_server_has_no_count(
    workers: tuple[FoundServers, FoundServers],
) -> None:
    one, other = workers
    for number in range(ROWS):
        taken(one, f"{number}.example:1935")
    assert other.take(_A) is None
    assert other.take("0.example:1935") is not None
    one.leave("1.example:1935")
    assert one.take(_A) is not None
    # It had no count of the server.
    other.leave(_A)
    one.leave(_A)
    assert other.take(_B) is not None


def test_a_row_is_not_taken_while_another_process_takes_one(memory: int) -> None:
    """Both could take the same one, for different servers."""
    found = SharedCounts(memory, 0).found_servers
    code = (
        "import fcntl, sys\n"
        f"fcntl.lockf({memory}, fcntl.LOCK_EX, 1)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[memory],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        taking = Thread(target=found.take, args=(_A,))
        taking.start()
        taking.join(_HELD_S)
        assert taking.is_alive()
        process.stdin.close()
        taking.join()
