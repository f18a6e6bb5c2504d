"""Which servers of a pool get sessions: groups, backups, keys, and what the operator has asked for."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol

from gateway.errors import UpstreamUnavailable
from gateway.telemetry.exposition.sources import SERVER_STATES
from gateway.upstreams.group import Group
from gateway.upstreams.hashing import order
from tests.upstreams.network import TURN_S, Network


def test_servers_are_used_in_turn(network: Network) -> None:
    servers = [network.server() for _ in range(3)]
    pool = network.pool(*servers)
    names = [network.connect(pool) for _ in range(6)]
    assert sorted(names[:3]) == sorted(map(str, servers))
    assert names[3:] == names[:3]


def test_the_first_server_is_used_as_long_as_it_accepts(network: Network) -> None:
    first, second = network.dead_server(), network.server()
    pool = network.pool(first, second, choose="first")
    assert [network.connect(pool) for _ in range(2)] == [str(second)] * 2
    network.revive(first)
    network.now += 20.0
    assert [network.connect(pool) for _ in range(3)] == [str(first)] * 3


def test_the_server_with_the_fewest_sessions_is_used(network: Network) -> None:
    pool = network.pool(*(network.server() for _ in range(3)), choose="fewest_sessions")
    clients = []
    for _ in range(6):
        client = Protocol()
        clients.append((network.result_of(pool.connect(client)), client))
    assert [member.sessions for member in pool.members] == [2, 2, 2]
    emptied = clients[0][0]
    for name, client in clients:
        if name == emptied:
            transport: Any = client.transport
            transport.loseConnection()
    for _ in range(5):
        network.reactor.iterate(TURN_S)
    assert {network.connect(pool) for _ in range(2)} == {emptied}


def test_a_later_group_is_used_while_all_servers_of_the_first_fail(network: Network) -> None:
    dead, reserve = network.dead_server(), network.server()
    pool = network.pool_of(Group([network.member(dead)]), Group([network.member(reserve)]))
    assert network.connect(pool) == str(reserve)
    network.revive(dead)
    network.now += 20.0
    assert network.connect(pool) == str(dead)


def test_a_session_can_be_kept_to_named_groups_in_an_order_of_its_own(network: Network) -> None:
    one, two, three = network.server(), network.dead_server(), network.server()
    named = {"1": one, "live": two, "vod": three}
    groups = [Group([network.member(at)], name=name) for name, at in named.items()]
    pool = network.pool_of(*groups)

    def chosen(*upstreams: str) -> str:
        return str(network.result_of(pool.connect(Protocol(), upstreams=upstreams)))

    assert chosen() == str(one)
    assert chosen("vod") == chosen("live", "vod") == chosen("vod", "1") == str(three)
    with pytest.raises(UpstreamUnavailable):
        chosen("live")


def test_a_backup_is_used_only_while_all_others_are_down_or_drained(network: Network) -> None:
    backup, first, second = (network.server() for _ in range(3))
    members = [network.member(backup, is_backup=True), *map(network.member, (first, second))]
    reserve = Group([network.member(network.server())])
    pool = network.pool_of(Group(members, "round_robin"), reserve)

    def chosen() -> set[str]:
        return {network.connect(pool) for _ in range(4)}

    assert chosen() == {str(first), str(second)}
    pool.note_checks({str(first): False})
    assert chosen() == {str(second)}
    pool.close_servers({str(second)}, set())
    assert chosen() == {str(backup)}
    pool.close_servers(set(), set())
    assert chosen() == {str(second)}


def test_a_hashed_key_moves_while_its_server_fails_and_returns_to_it(network: Network) -> None:
    servers = [network.server() for _ in range(3)]
    pool = network.pool(*servers, choose="hash")

    def chosen(**of: str) -> str:
        return str(network.result_of(pool.connect(Protocol(), **of)))

    key = next(f"live/{n}" for n in range(99) if chosen(key=f"live/{n}") == str(servers[1]))
    pool.note_checks({str(servers[1]): False})
    moved = {chosen(key=key) for _ in range(3)}
    assert len(moved) == 1
    assert moved != {str(servers[1])}
    pool.note_checks({str(servers[1]): True})
    assert chosen(key=key) == str(servers[1])


def test_a_hash_by_stream_spreads_the_streams_of_an_application(network: Network) -> None:
    servers = [network.server() for _ in range(3)]
    members = [network.member(server) for server in servers]
    pool = network.pool_of(Group(members, "hash", hash_by="stream"))

    def chosen(stream_key: str) -> set[str]:
        connects = (pool.connect(Protocol(), key="live", stream_key=stream_key) for _ in range(2))
        return {str(network.result_of(connect)) for connect in connects}

    taken = [chosen(f"live/{number}") for number in range(12)]
    assert all(len(names) == 1 for names in taken)
    assert len(set.union(*taken)) == 3
    # Without a stream it is by application.
    assert chosen("") == {order("live", members)[0].name}


def test_a_hash_by_application_keeps_them_together(network: Network) -> None:
    pool = network.pool(*(network.server() for _ in range(3)), choose="hash")
    connects = (
        pool.connect(Protocol(), key="live", stream_key=f"live/{number}") for number in range(6)
    )
    assert len({network.result_of(connect) for connect in connects}) == 1


def test_without_a_key_the_hash_is_of_the_clients_address(network: Network) -> None:
    pool = network.pool(*(network.server() for _ in range(3)), choose="hash")
    taken = {
        address: {network.result_of(pool.connect(Protocol(), address)) for _ in range(2)}
        for address in (f"192.0.2.{number}" for number in range(40))
    }
    assert all(len(names) == 1 for names in taken.values())
    assert len(set.union(*taken.values())) == 3


def test_a_drained_server_gets_no_new_sessions(network: Network) -> None:
    first, second = network.server(), network.server()
    pool = network.pool(first, second, choose="first")
    pool.close_servers({str(first)}, set())
    assert [each.drained for each in pool.health()] == [True, False]
    assert network.connect(pool) == str(second)
    pool.close_servers({str(first), str(second)}, set())
    with pytest.raises(UpstreamUnavailable):
        network.connect(pool)


def test_a_server_that_is_set_down_gets_no_session_even_as_the_last(network: Network) -> None:
    first, second = network.server(), network.server()
    pool = network.pool(first, second, choose="first")
    pool.close_servers(set(), {str(first)})
    (health, _) = pool.health()
    assert (health.up, health.due, health.drained, health.state) == (
        False,
        False,
        False,
        "set_down",
    )
    assert network.connect(pool) == str(second)
    # Its checks do not end that.
    pool.note_checks({str(first): True, str(second): False})
    assert network.connect(pool) == str(second)
    pool.close_servers({str(second)}, {str(first)})
    with pytest.raises(UpstreamUnavailable):
        network.connect(pool)
    pool.close_servers(set(), set())
    assert network.connect(pool) == str(first)


def test_each_state_of_a_server_has_a_name(network: Network) -> None:
    member = network.member(network.server(), slow_start_s=10.0)
    states = [member.state]
    member.note_checks(False)
    states.append(member.state)
    member.note_checks(True)
    states.append(member.state)
    for drained, down in ((True, False), (True, True)):
        member.set_by_operator(drained, down)
        states.append(member.state)
    assert states == ["up", "down", "slow_start", "drained", "set_down"]
    assert set(states) == set(SERVER_STATES)
    member.set_by_operator(False, False)
    assert member.state == "slow_start"
    network.now += 10.0
    assert member.state == "up"
