"""Limits on connections, and their deadlines."""

from __future__ import annotations

import pytest

from gateway.listeners.connections import ConnectionSet
from gateway.protocols.limits import Limits
from tests.helpers.own_count import OwnCount


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


def test_connections_are_accepted_up_to_the_limit() -> None:
    connections = ConnectionSet(Limits(connections=2), OwnCount())
    for number in range(2):
        assert connections.has_room(f"192.0.2.{number}")
        Speaker(connections, f"192.0.2.{number}")
    assert not connections.has_room("192.0.2.9")
    assert not connections.has_room()
    assert len(connections) == 2


def test_connections_of_one_address_are_accepted_up_to_its_limit() -> None:
    connections = ConnectionSet(Limits(connections_per_address=2), OwnCount())
    for _ in range(2):
        assert connections.has_room("192.0.2.1")
        Speaker(connections, "192.0.2.1")
    assert not connections.has_room("192.0.2.1")
    assert connections.has_room("192.0.2.2")


def test_before_an_address_is_known_only_the_limit_on_all_connections_applies() -> None:
    connections = ConnectionSet(Limits(connections=2, connections_per_address=1), OwnCount())
    Speaker(connections, "192.0.2.1")
    assert connections.has_room()
    Speaker(connections, "192.0.2.2")
    assert not connections.has_room()


@pytest.mark.parametrize("cap", ["connections", "connections_per_address"])
def test_a_closed_connection_no_longer_counts_toward_the_limit(cap: str) -> None:
    connections = ConnectionSet(Limits(**{cap: 1}), OwnCount())
    for _ in range(3):
        assert connections.has_room("192.0.2.1")
        speaker = Speaker(connections, "192.0.2.1")
        assert not connections.has_room("192.0.2.1")
        connections.remove(speaker)
    assert len(connections) == 0


def test_an_address_without_connections_is_not_remembered() -> None:
    """Or every address that ever came would cost memory."""
    connections = ConnectionSet(Limits(), OwnCount())
    for number in range(100):
        address = f"192.0.2.{number}"
        connections.has_room(address)
        connections.remove(Speaker(connections, address))
    assert not connections._counted._per_address


def test_connections_expire_at_their_deadline_and_not_before() -> None:
    connections = ConnectionSet(Limits(), OwnCount())
    past, now, later = (Speaker(connections, "a", deadline) for deadline in (9.0, 10.0, 10.1))
    connections.sweep(10.0)
    assert (past.expired, now.expired, later.expired) == ([10.0], [10.0], [])


def test_a_connection_may_leave_while_all_are_swept() -> None:
    connections = ConnectionSet(Limits(), OwnCount())
    leaving = [Leaving(connections, "a") for _ in range(3)]
    connections.sweep(1.0)
    assert [speaker.expired for speaker in leaving] == [[1.0]] * 3
    assert len(connections) == 0


class Failing(Speaker):
    """A connection whose expiry raises an exception."""

    def expire(self, now: float) -> None:
        super().expire(now)
        raise ZeroDivisionError


def test_a_failing_connection_does_not_delay_the_deadlines_of_others() -> None:
    connections = ConnectionSet(Limits(), OwnCount())
    speakers = [
        (Failing if number % 2 else Speaker)(connections, "a", deadline=1.0) for number in range(8)
    ]
    connections.sweep(1.0)
    assert [speaker.expired for speaker in speakers] == [[1.0]] * 8


def test_an_unknown_connection_cannot_be_removed() -> None:
    """Or its address would be counted down for somebody else's connection."""
    connections = ConnectionSet(Limits(), OwnCount())
    gone, there = (Speaker(connections, "a") for _ in range(2))
    connections.remove(gone)
    with pytest.raises(KeyError):
        connections.remove(gone)
    assert len(connections) == 1
    connections.remove(there)
    assert not connections._counted._per_address
