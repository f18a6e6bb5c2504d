"""Counts in memory that workers share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gateway.workers.shared_counts import SharedCounts, make_memory

ADDRESS = "192.0.2.1"


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_memory()
    yield descriptor
    os.close(descriptor)


def test_the_counts_of_all_workers_add_up(memory: int) -> None:
    one, other = SharedCounts(memory, 0), SharedCounts(memory, 1)
    one.sessions.add(ADDRESS, 1)
    other.sessions.add(ADDRESS, 1)
    other.sessions.add("2001:db8::1", 1)
    other.connections.add(ADDRESS, 1)
    for each in (one, other):
        assert each.sessions.total == 3
        assert each.sessions.of_address(ADDRESS) == 2
        assert each.connections.total == 1
        assert each.sessions.of_each[:3] == [1, 2, 0]
    one.sessions.add(ADDRESS, -1)
    assert other.sessions.of_address(ADDRESS) == 1


def test_the_counts_of_an_ended_worker_are_removed(memory: int) -> None:
    one, other = SharedCounts(memory, 0), SharedCounts(memory, 1)
    one.sessions.add(ADDRESS, 1)
    for _ in range(5):
        other.sessions.add(ADDRESS, 1)
        other.connections.add(ADDRESS, 1)
    one.clear(1)
    assert one.sessions.total == one.sessions.of_address(ADDRESS) == 1
    assert one.connections.total == one.connections.of_address(ADDRESS) == 0


def test_a_client_cannot_choose_addresses_that_share_a_bucket(memory: int) -> None:
    other_memory = make_memory()
    try:
        first, second = SharedCounts(memory, 0), SharedCounts(other_memory, 0)
        buckets = [
            [counts.sessions._bucket(f"192.0.2.{number}") for number in range(100)]
            for counts in (first, second)
        ]
    finally:
        os.close(other_memory)
    assert buckets[0] != buckets[1]


def test_a_worker_with_more_connections_than_others_that_accept_has_its_share(memory: int) -> None:
    one, other = SharedCounts(memory, 0), SharedCounts(memory, 1)
    one.connections.add(ADDRESS, 100)
    other.connections.add(ADDRESS, 50)
    one.set_accepting(True)
    # The other one is retiring: it will take none.
    assert not one.has_share()
    other.set_accepting(True)
    assert one.has_share()
    assert not other.has_share()
    other.connections.add(ADDRESS, 45)
    assert not one.has_share()
    other.set_accepting(False)
    one.clear(0)
    assert not other.has_share()
