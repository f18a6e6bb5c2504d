"""The limits of a pool: sessions of a server, waits for a place, and the time that an open may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from gateway.errors import UpstreamFull, UpstreamUnavailable
from gateway.protocols.limits import Limits
from gateway.upstreams import hashing
from gateway.upstreams.group import Group
from gateway.upstreams.pool import Pool, Telemetry
from gateway.upstreams.waiting import WaitingQueue
from tests.upstreams.network import TURN_S, TURNS, Network


def close(network: Network, client: Protocol) -> None:
    transport: Any = client.transport
    transport.loseConnection()
    for _ in range(5):
        network.reactor.iterate(TURN_S)


def test_a_server_gets_no_more_sessions_than_its_cap(network: Network) -> None:
    first, second = network.server(), network.server()
    members = [network.member(at, max_sessions=most) for at, most in ((first, 2), (second, 1))]
    reserve = Group([network.member(network.server())])
    pool = network.pool_of(Group(members), reserve)
    clients = [Protocol() for _ in range(3)]
    names = [network.result_of(pool.connect(client)) for client in clients]
    assert names == [str(first), str(first), str(second)]
    # The reserve is for failures.
    with pytest.raises(UpstreamFull):
        network.connect(pool)
    close(network, clients[0])
    assert network.connect(pool) == str(first)


def test_an_open_waits_for_a_place_and_takes_it_in_its_turn(network: Network) -> None:
    queue = WaitingQueue(network.reactor, lambda: network.now, 10, 2.0)
    member = network.member(network.server(), max_sessions=1)
    pool = network.pool_of(Group([member], queue=queue))
    first = Protocol()
    network.result_of(pool.connect(first))
    results: list[str] = []
    Deferred.fromCoroutine(pool.connect(Protocol())).addCallback(results.append)
    # A place becomes free, and one that has just come must not take it.
    transport: Any = first.transport
    transport.loseConnection()
    turn_until(network, lambda: not member.sessions)
    assert not results
    late: list[Failure] = []
    Deferred.fromCoroutine(pool.connect(Protocol())).addErrback(late.append)
    turn_until(network, lambda: bool(results))
    assert results == [member.name]
    assert not late
    network.now += 2.5
    turn_until(network, lambda: bool(late))
    assert late[0].check(UpstreamFull)
    assert member.sessions == 1


def turn_until(network: Network, is_done: Callable[[], bool]) -> None:
    for _ in range(TURNS):
        if is_done():
            return
        network.reactor.iterate(TURN_S)
    raise AssertionError


def test_an_open_does_not_wait_for_a_server_that_has_failed(network: Network) -> None:
    """The only one that is up is full; when it fails, the backup is used."""
    queue = WaitingQueue(network.reactor, lambda: network.now, 10, 2.0)
    full = network.member(network.server(), max_sessions=1)
    backup = network.member(network.server(), is_backup=True)
    pool = network.pool_of(Group([full, backup], queue=queue))
    network.connect(pool)
    results: list[str] = []
    Deferred.fromCoroutine(pool.connect(Protocol())).addCallback(results.append)
    network.reactor.iterate(TURN_S)
    assert not results
    pool.note_checks({full.name: False})
    turn_until(network, lambda: bool(results))
    assert results == [backup.name]


def test_a_session_of_a_hashed_key_waits_for_its_own_server(network: Network) -> None:
    members = [network.member(network.server(), max_sessions=1) for _ in range(2)]
    pool = network.pool_of(Group(members, "hash"))
    network.result_of(pool.connect(Protocol(), key="live/show"))
    with pytest.raises(UpstreamFull):
        network.result_of(pool.connect(Protocol(), key="live/show"))
    # It has a place for the keys that are there.
    (free,) = (member for member in members if not member.is_full)
    key = next(f"{n}" for n in range(99) if hashing.order(f"{n}", members)[0] is free)
    assert network.result_of(pool.connect(Protocol(), key=key)) == free.name


def test_a_bounded_hash_gives_the_sessions_of_a_full_server_to_another(network: Network) -> None:
    members = [network.member(network.server(), max_sessions=2) for _ in range(2)]
    pool = network.pool_of(Group(members, "hash", balance_factor=2.0))
    for _ in range(4):
        network.result_of(pool.connect(Protocol(), key="live/show"))
    assert [member.sessions for member in members] == [2, 2]


def test_no_further_server_is_tried_after_the_deadline_of_the_open(network: Network) -> None:
    dead = [network.dead_server() for _ in range(3)]
    members = network.pool(*dead).members
    tried = []

    class Late(Telemetry):
        def failed(self, server: str, reason: str) -> None:
            tried.append((server, reason))
            network.now += 6.0

    pool = Pool(
        network.reactor,
        [Group(members)],
        Limits(open_s=10.0),
        lambda: network.now,
        Late(),
    )
    with pytest.raises(UpstreamUnavailable):
        network.connect(pool)
    assert tried == [(str(address), "refused") for address in dead[:2]]
