"""Limits on connections, and their deadlines."""

from __future__ import annotations

import pytest

from gateway.listeners.connections import ConnectionSet
from gateway.protocols.limits import Limits


class Speaker:
    """A connection that remembers when it expired."""

    def __init__(self, connections: ConnectionSet, address: str, deadline: float = 0.0) -> None:
        self.connections = connections
        self.address = address
        self.deadline = deadline
        self.expired: list[float] = []
        connections.add(self)

    def expire(self, now: float) -> None:
        self.expired.append(now)


class Leaving(Speaker):
    """A connection that is lost while it expires."""

    def expire(self, now: float) -> None:
        super().expire(now)
        self.connections.remove(self)


def test_a_connection_over_the_limit_is_refused() -> None:
    connections = ConnectionSet(Limits(connections=2))
    for number in range(2):
        assert connections.has_room(f"192.0.2.{number}")
        Speaker(connections, f"192.0.2.{number}")
    assert not connections.has_room("192.0.2.9")
    assert not connections.has_room()
    assert len(connections) == 2


def test_a_connection_over_the_limit_of_its_address_is_refused() -> None:
    connections = ConnectionSet(Limits(connections_per_address=2))
    for _ in range(2):
        assert connections.has_room("192.0.2.1")
        Speaker(connections, "192.0.2.1")
    assert not connections.has_room("192.0.2.1")
    assert connections.has_room("192.0.2.2")


def test_a_connection_without_a_known_address_counts_only_against_the_limit_on_all() -> None:
    connections = ConnectionSet(Limits(connections=2, connections_per_address=1))
    Speaker(connections, "192.0.2.1")
    assert connections.has_room()
    Speaker(connections, "192.0.2.2")
    assert not connections.has_room()


@pytest.mark.parametrize("cap", ["connections", "connections_per_address"])
def test_a_closed_connection_makes_room_for_another_connection(cap: str) -> None:
    connections = ConnectionSet(Limits(**{cap: 1}))
    for _ in range(3):
        assert connections.has_room("192.0.2.1")
        speaker = Speaker(connections, "192.0.2.1")
        assert not connections.has_room("192.0.2.1")
        connections.remove(speaker)
    assert len(connections) == 0


def test_an_address_without_connections_is_not_stored() -> None:
    """Otherwise every address that has ever connected takes memory."""
    connections = ConnectionSet(Limits())
    for number in range(100):
        address = f"192.0.2.{number}"
        connections.has_room(address)
        connections.remove(Speaker(connections, address))
    assert not connections._counted._per_address


def test_a_sweep_expires_only_connections_whose_deadline_has_passed() -> None:
    connections = ConnectionSet(Limits())
    past, now, later = (Speaker(connections, "a", deadline) for deadline in (9.0, 10.0, 10.1))
    connections.sweep(10.0)
    assert (past.expired, now.expired, later.expired) == ([10.0], [10.0], [])


def test_a_connection_may_be_removed_during_a_sweep() -> None:
    connections = ConnectionSet(Limits())
    leaving = [Leaving(connections, "a") for _ in range(3)]
    connections.sweep(1.0)
    assert [speaker.expired for speaker in leaving] == [[1.0]] * 3
    assert len(connections) == 0


class Failing(Speaker):
    """A connection whose expiry raises an exception."""

    def expire(self, now: float) -> None:
        super().expire(now)
        raise ZeroDivisionError


def test_an_exception_in_one_connection_does_not_prevent_the_expiry_of_others() -> None:
    connections = ConnectionSet(Limits())
    speakers = [
        (Failing if number % 2 else Speaker)(connections, "a", deadline=1.0) for number in range(8)
    ]
    connections.sweep(1.0)
    assert [speaker.expired for speaker in speakers] == [[1.0]] * 8


def test_a_connection_that_is_not_in_the_set_cannot_be_removed() -> None:
    """Otherwise the count of its address is too low for the connections that remain."""
    connections = ConnectionSet(Limits())
    gone, there = (Speaker(connections, "a") for _ in range(2))
    connections.remove(gone)
    with pytest.raises(KeyError):
        connections.remove(gone)
    assert len(connections) == 1
    connections.remove(there)
    assert not connections._counted._per_address
