"""Who is let in: the caps on connections, and that every deadline is looked at."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from gateway.listeners.listener import ConnectionSet, Listener
from gateway.protocols.limits import Limits


class Speaker:
    """A connection that is always busy until ``deadline``."""

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


def listener(**limits: int) -> tuple[ConnectionSet, Any]:
    connections = ConnectionSet(Limits(**limits))
    factory = Listener(connections, lambda address: Speaker(connections, address))
    return connections, factory


def ipv4(host: str, port: int = 50000) -> IPv4Address:
    return IPv4Address("TCP", host, port)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (ipv4("192.0.2.1"), "192.0.2.1"),
        (IPv6Address("TCP", "2001:db8::1", 50000), "2001:db8::1"),
        (UNIXAddress("/run/a"), ""),
        (UNIXAddress(None), ""),
    ],
)
def test_a_connection_speaks_for_its_clients_address(peer: object, address: str) -> None:
    _, factory = listener()
    assert factory.buildProtocol(peer).address == address


def test_as_many_connections_as_the_cap_and_no_more() -> None:
    connections, factory = listener(connections=2)
    spoken = [factory.buildProtocol(ipv4(f"192.0.2.{number}")) for number in range(3)]
    assert [speaker is not None for speaker in spoken] == [True, True, False]
    assert (len(connections), connections.refused) == (2, 1)


def test_as_many_connections_of_one_address_as_the_cap_and_no_more() -> None:
    connections, factory = listener(connections_per_address=2)
    spoken = [factory.buildProtocol(ipv4("192.0.2.1", 50000 + port)) for port in range(3)]
    assert [speaker is not None for speaker in spoken] == [True, True, False]
    assert factory.buildProtocol(ipv4("192.0.2.2")) is not None
    assert (len(connections), connections.refused) == (3, 1)


@pytest.mark.parametrize("cap", ["connections", "connections_per_address"])
def test_a_connection_that_is_gone_makes_room_for_one(cap: str) -> None:
    connections, factory = listener(**{cap: 1})
    for _ in range(3):
        speaker = factory.buildProtocol(ipv4("192.0.2.1"))
        assert speaker is not None
        assert factory.buildProtocol(ipv4("192.0.2.1")) is None
        connections.remove(speaker)
    assert (len(connections), connections.refused) == (0, 3)


def test_an_address_without_connections_is_not_remembered() -> None:
    """Or every address that ever came would cost memory."""
    connections, factory = listener()
    for number in range(100):
        connections.remove(factory.buildProtocol(ipv4(f"192.0.2.{number}")))
    assert not connections._per_address


def test_those_whose_deadline_has_come_expire_and_no_others() -> None:
    connections = ConnectionSet(Limits())
    past, now, later = (Speaker(connections, "a", deadline) for deadline in (9.0, 10.0, 10.1))
    connections.sweep(10.0)
    assert (past.expired, now.expired, later.expired) == ([10.0], [10.0], [])


def test_a_connection_may_leave_while_all_are_swept() -> None:
    connections = ConnectionSet(Limits())
    leaving = [Leaving(connections, "a") for _ in range(3)]
    connections.sweep(1.0)
    assert [speaker.expired for speaker in leaving] == [[1.0]] * 3
    assert len(connections) == 0
