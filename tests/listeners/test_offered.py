"""A connection that is offered to another worker; tests/workers/peering/test_offers.py has the rest."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from gateway.listeners.http import HTTPConnection
from gateway.listeners.offered import OfferedConnection
from tests.helpers.http_conversation import Gateway, Wire

_OPEN = b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0"


class Offering(Wire):
    """The transport of a connection with ``offer``'s result."""

    given_away = False

    def __init__(self, gateway: Gateway, is_offered: bool) -> None:
        super().__init__()
        self.offered: Any = OfferedConnection(
            gateway.connections,
            lambda offered, first: is_offered,
            lambda: HTTPConnection(gateway.service, "192.0.2.1"),
            "192.0.2.1",
        )
        self.protocol = self.offered
        self.offered.makeConnection(self)

    def give_away(self) -> None:
        self.given_away = True


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_nothing_is_read_while_it_is_offered_and_it_has_no_deadline(gateway: Gateway) -> None:
    wire = Offering(gateway, True)
    wire.arrive(_OPEN)
    wire.arrive(_OPEN)
    assert wire.unread == len(_OPEN)
    assert wire.offered.deadline == inf
    assert len(gateway.connections) == 1
    wire.offered.declined()
    wire.turn()
    gateway.turn()
    assert len(wire.writes) == 2
    assert len(gateway.connections) == 1


def test_a_taken_connection_is_given_away_and_forgotten(gateway: Gateway) -> None:
    wire = Offering(gateway, True)
    wire.arrive(_OPEN)
    wire.offered.taken()
    assert wire.given_away
    assert not wire.aborted
    assert (len(gateway.connections), wire.writes) == (0, [])


def test_a_connection_that_cannot_be_offered_goes_on(gateway: Gateway) -> None:
    wire = Offering(gateway, False)
    wire.arrive(_OPEN)
    gateway.turn()
    assert len(wire.writes) == 1
    assert wire.reading
    assert type(wire.protocol) is HTTPConnection


@pytest.mark.parametrize("outcome", ["taken", "declined"])
def test_a_connection_that_was_lost_meanwhile_stays_lost(gateway: Gateway, outcome: str) -> None:
    wire = Offering(gateway, True)
    wire.arrive(_OPEN)
    wire.lose()
    assert len(gateway.connections) == 0
    getattr(wire.offered, outcome)()
    assert not wire.given_away
    assert (len(gateway.connections), wire.writes) == (0, [])
