"""Servers of SRV records, as members of a group."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol

from gateway.addresses import ServerAddress, parse_server
from gateway.errors import ConfigurationError
from gateway.protocols.service_records import Target
from gateway.upstreams.dns import NoAnswer
from gateway.upstreams.dns import Service as Found
from gateway.upstreams.group import Choice, Group
from gateway.upstreams.member import Member
from gateway.upstreams.names import Names
from gateway.upstreams.pool import Pool
from gateway.upstreams.services import Service
from tests.helpers.logged import logged
from tests.upstreams.network import LOOPBACK, Network

_NAME = "_rtmp._tcp.example.org"


class Records:
    """A DNS with these targets; none if it does not answer."""

    def __init__(self) -> None:
        self.targets: list[Target] = []

    async def service(self, name: str) -> Found:
        assert name == _NAME
        if not self.targets:
            raise NoAnswer("no name server answers in time")
        return Found(tuple(self.targets), 30.0)

    async def time_to_live(self, host: str) -> float:
        return 30.0


class Grouped:
    """A pool of a service, and of further members."""

    def __init__(self, network: Network, *others: Member, choose: Choice = "first") -> None:
        self.network = network
        self.records = Records()
        self.forgotten: list[str] = []
        dns: Any = self.records
        network.resolving = Names(network.reactor, dns, lambda: network.now, "/dev/null")
        # The servers with sessions that have no connection there.
        self.used: set[str] = set()
        self.service = Service(
            *(parse_server(_NAME), network.member),
            *(self.forgotten.append, self.used.__contains__),
        )
        self.group = Group([self.service, *others], choose)
        network.names.hosts |= {"a": [LOOPBACK], "b": [LOOPBACK], "c": [LOOPBACK]}

    def start(self, *targets: Target) -> Pool:
        self.records.targets = [*targets]
        self.pool = self.network.pool_of(self.group)
        return self.pool

    def change(self, *targets: Target) -> None:
        self.records.targets = [*targets]
        self.network.now += 30.0
        self.network.result_of(self.pool.look_up_again())

    def connect(self) -> str:
        name: str = self.network.result_of(self.pool.connect(Protocol()))
        return name

    @property
    def tiers(self) -> list[list[str]]:
        return [[member.name for member in tier] for tier in self.group.tiers]


@pytest.fixture
def ports(network: Network) -> list[int]:
    return [network.server().port for _ in range(3)]


def test_servers_with_a_higher_priority_are_backups_of_the_others(
    network: Network, ports: list[int]
) -> None:
    grouped = Grouped(network, network.member(ServerAddress(LOOPBACK, ports[2]), is_backup=True))
    dead = network.dead_server().port
    grouped.start(Target(0, "a", dead, 1), Target(1, "b", ports[0], 1), Target(2, "c", ports[1], 1))
    assert grouped.tiers == [
        [f"a:{dead}"],
        [f"b:{ports[0]}"],
        [f"c:{ports[1]}"],
        [f"{LOOPBACK}:{ports[2]}"],
    ]
    assert grouped.connect() == f"b:{ports[0]}"


def test_sessions_are_shared_by_the_weights_of_the_records(
    network: Network, ports: list[int]
) -> None:
    grouped = Grouped(network, choose="round_robin")
    grouped.start(Target(0, "a", ports[0], 30), Target(0, "b", ports[1], 10))
    connected = [grouped.connect() for _ in range(8)]
    assert connected.count(f"a:{ports[0]}") == 6
    grouped.change(Target(0, "a", ports[0], 10), Target(0, "b", ports[1], 30))
    connected = [grouped.connect() for _ in range(8)]
    assert connected.count(f"b:{ports[1]}") == 6


def test_servers_come_and_go_with_the_records_and_sessions_stay(
    network: Network, ports: list[int]
) -> None:
    grouped = Grouped(network)
    one, other = Target(0, "a", ports[0], 1), Target(0, "b", ports[1], 1)
    pool = grouped.start(one)
    client = Protocol()
    network.result_of(pool.connect(client))
    (left,) = pool.members
    with logged() as lines:
        grouped.change(other)
    assert lines == [f"info: upstream {_NAME}: its servers are now b:{ports[1]}"]
    assert grouped.connect() == f"b:{ports[1]}"
    transport: Any = client.transport
    assert transport.connected
    assert [each.name for each in pool.health()] == [f"b:{ports[1]}"]
    # It has its session when it returns, and is forgotten after its last one.
    grouped.change(one, other)
    assert pool.members[0] is left
    assert left.sessions == 1
    grouped.change(other)
    transport.abortConnection()
    network.until(lambda: not left.sessions)
    assert not grouped.forgotten
    grouped.change(other)
    assert grouped.forgotten == [f"a:{ports[0]}"]
    grouped.change(one, other)
    assert pool.members[0] is not left


def test_a_server_is_known_while_its_sessions_have_data_for_their_clients(network: Network) -> None:
    grouped = Grouped(network)
    grouped.start(Target(0, "a", 1, 1))
    grouped.used.add("a:1")
    grouped.change(Target(0, "b", 1, 1))
    assert not grouped.forgotten
    grouped.used.clear()
    grouped.change(Target(0, "b", 1, 1))
    assert grouped.forgotten == ["a:1"]


def test_thousands_of_servers_that_come_and_go_leave_nothing(network: Network) -> None:
    grouped = Grouped(network)
    grouped.start(Target(0, "a", 1, 1))
    for number in range(2, 300):
        grouped.change(Target(0, "a", number, 1))
    assert len(grouped.forgotten) == 298
    assert len(grouped.pool.members) == 1


def test_servers_without_an_address_that_come_and_go_leave_nothing(network: Network) -> None:
    grouped = Grouped(network)
    grouped.start(Target(0, "a", 1, 1))
    for number in range(2, 10):
        network.now += 60.0
        grouped.change(Target(0, "unknown", number, 1))
    assert grouped.forgotten == [f"unknown:{number}" for number in range(2, 9)]
    assert grouped.tiers == [["a:1"]]


def test_records_that_cannot_be_resolved_again_leave_the_servers_as_they_are(
    network: Network, ports: list[int]
) -> None:
    grouped = Grouped(network)
    pool = grouped.start(Target(0, "a", ports[0], 1))
    with logged() as lines:
        grouped.change()
    assert lines == [
        (
            f"warn: upstream {_NAME}: no SRV records: no name server answers in time; check the name, and"
            " this machine's resolver; the last addresses stay in use"
        )
    ]
    assert grouped.connect() == f"a:{ports[0]}"
    (health,) = pool.health()
    assert (health.stale, health.failed_look_ups, health.service) == (True, 1, _NAME)
    assert health.addresses == [LOOPBACK]


def test_a_service_that_is_unknown_at_the_start_is_reported_with_a_remedy(network: Network) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Grouped(network).start()
    assert str(caught.value) == (
        f"upstream {_NAME}: no SRV records: no name server answers in time; check the name, and this"
        " machine's resolver"
    )


def test_a_server_whose_name_is_unknown_is_left_out(network: Network, ports: list[int]) -> None:
    grouped = Grouped(network)
    grouped.start(Target(0, "gone", 1935, 1), Target(1, "a", ports[0], 1))
    assert grouped.tiers == [[f"a:{ports[0]}"]]
    network.names.hosts["gone"] = [LOOPBACK]
    grouped.change(*grouped.records.targets)
    assert grouped.tiers == [["gone:1935"], [f"a:{ports[0]}"]]
    with pytest.raises(ConfigurationError, match="none of the servers in its SRV records"):
        Grouped(network).start(Target(0, "nowhere", 1935, 1))


def test_a_server_that_is_configured_too_is_used_once(network: Network, ports: list[int]) -> None:
    own = network.member(ServerAddress("a", ports[0]))
    grouped = Grouped(network, own)
    grouped.start(Target(0, "a", ports[0], 1), Target(0, "b", ports[1], 1))
    assert grouped.tiers == [[f"a:{ports[0]}", f"b:{ports[1]}"]]


def test_what_the_operator_asked_for_holds_for_servers_that_return(
    network: Network, ports: list[int]
) -> None:
    grouped = Grouped(network)
    one, other = Target(0, "a", ports[0], 1), Target(1, "b", ports[1], 1)
    pool = grouped.start(other)
    pool.close_servers({f"a:{ports[0]}"}, set())
    grouped.change(one, other)
    assert grouped.connect() == f"b:{ports[1]}"
    assert [each.state for each in pool.health()] == ["drained", "up"]
