"""Connects to the servers of a pool, and failover between them, with a resolver in memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from errno import EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.logger import LogEvent, eventAsText, globalLogPublisher

from gateway.addresses import ServerAddress
from gateway.errors import (
    ConfigurationError,
    ResourcesExhausted,
    UpstreamUnavailable,
)
from gateway.logs import repeated
from gateway.protocols.limits import Limits
from gateway.upstreams.connector import EagerClient
from gateway.upstreams.group import Group
from gateway.upstreams.pool import OpeningFailed, Pool
from gateway.upstreams.rtmpe_transport import HandshakeFailed
from tests.helpers.logged import logged
from tests.upstreams.network import LOOPBACK, Network


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that are logged during the test."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_a_client_is_connected_to_the_server(network: Network) -> None:
    server = network.server()
    assert network.connect(network.pool(server)) == str(server)


@pytest.mark.parametrize(
    ("proxy_protocol", "client", "begins"),
    [
        ("v1", "192.0.2.7", b"PROXY TCP4 192.0.2.7 127.0.0.1 0 "),
        ("v2", "192.0.2.7", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\0\0\1\0\0"),
        ("off", "192.0.2.7", b"first bytes"),
    ],
)
def test_the_clients_address_is_sent_in_front_of_everything_else(
    network: Network, proxy_protocol: str, client: str, begins: bytes
) -> None:
    class First(Protocol):
        def connectionMade(self) -> None:
            transport: Any = self.transport
            transport.write(b"first bytes")

    with socket.create_server((LOOPBACK, 0)) as listening:
        address = ServerAddress(LOOPBACK, listening.getsockname()[1])
        pool = network.pool_of(Group([network.member(address, proxy_protocol)]))
        network.result_of(pool.connect(First(), client))
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(5)
            received = accepted.recv(1000)
            while not received.endswith(b"first bytes"):
                received += accepted.recv(1000)
    assert received.startswith(begins)


def test_a_refused_client_is_connected_to_the_next_server(network: Network) -> None:
    dead, living = network.dead_server(), network.server()
    pool = network.pool(dead, living)
    assert [network.connect(pool) for _ in range(4)] == [str(living)] * 4


def test_a_client_is_connected_to_the_next_server_after_a_timeout(network: Network) -> None:
    silent, living = network.silent_server(), network.server()
    pool = network.pool(living, silent, limits=Limits(upstream_connect_s=0.1))
    assert network.connect(pool) == str(living)
    assert network.connect(pool) == str(living)


def test_a_client_gets_the_next_server_after_one_that_makes_no_handshake(
    network: Network, lines: list[str]
) -> None:
    first, second = network.server(), network.server()
    pool = network.pool(first, second, choose="first")
    client = Protocol()

    async def is_ready(name: str) -> None:
        transport: Any = client.transport
        if transport.getPeer().port == first.port:
            transport.abortConnection()
            raise HandshakeFailed("it says nothing")

    assert network.result_of(pool.connect(client, is_ready=is_ready)) == str(second)
    network.until(lambda: [member.sessions for member in pool.members] == [0, 1])
    assert [each.up for each in pool.health()] == [False, True]
    assert f"upstream {first} is down: it says nothing" in lines


def test_a_server_that_does_not_answer_a_connect_is_not_avoided(network: Network) -> None:
    """Clients could take servers out otherwise."""
    first, second = network.server(), network.server()
    pool = network.pool(first, second, choose="first")

    async def is_ready(name: str) -> None:
        if name == str(first):
            raise OpeningFailed("it closes the connection")

    assert network.result_of(pool.connect(Protocol(), is_ready=is_ready)) == str(second)
    assert [each.up for each in pool.health()] == [True, True]


def test_without_a_working_server_the_open_is_refused_with_503(network: Network) -> None:
    pool = network.pool(network.dead_server(), network.dead_server())
    with pytest.raises(UpstreamUnavailable) as caught:
        network.connect(pool)
    assert caught.value.status == 503
    assert [member.sessions for member in pool.members] == [0, 0]


def test_a_failed_server_is_tried_last_for_a_while_and_then_in_turn_again(
    network: Network,
) -> None:
    returning, living = network.dead_server(), network.server()
    pool = network.pool(returning, living)
    assert network.connect(pool) == str(living)
    network.revive(returning)
    assert [network.connect(pool) for _ in range(4)] == [str(living)] * 4
    network.now += 60.0
    assert sorted(network.connect(pool) for _ in range(2)) == sorted((str(living), str(returning)))


def test_a_failed_server_is_tried_if_there_is_no_other_server(network: Network) -> None:
    returning = network.dead_server()
    pool = network.pool(returning)
    with pytest.raises(UpstreamUnavailable):
        network.connect(pool)
    network.revive(returning)
    assert network.connect(pool) == str(returning)


def test_a_failed_server_that_accepts_again_is_used_in_turn_at_once(network: Network) -> None:
    """The failed server was tried because the other server had failed too, and it accepted."""
    returning, failing = network.dead_server(), network.dead_server()
    pool = network.pool(failing, returning)
    with pytest.raises(UpstreamUnavailable):
        network.connect(pool)
    network.revive(returning)
    network.connect(pool)
    network.revive(failing)
    assert [network.connect(pool) for _ in range(4)] == [str(returning)] * 4


def states(pool: Pool) -> list[tuple[str, bool, bool]]:
    return [(each.name, each.up, each.due) for each in pool.health()]


def test_a_server_is_down_from_a_failure_until_it_accepts_a_connection(network: Network) -> None:
    returning, living = network.dead_server(), network.server()
    pool = network.pool(returning, living)
    assert [each.up for each in pool.health()] == [True, True]
    network.connect(pool)
    assert states(pool) == [(str(returning), False, False), (str(living), True, True)]
    assert pool.health()[0].tried_at == network.now
    # It is due to be tried, but still not known to be up.
    network.now += 60.0
    assert states(pool)[0] == (str(returning), False, True)
    network.revive(returning)
    assert {network.connect(pool) for _ in range(2)} == {str(living), str(returning)}
    assert states(pool)[0] == (str(returning), True, True)
    assert pool.health()[0].tried_at == network.now


def test_a_server_that_is_down_by_its_checks_is_used_only_if_no_other_accepts(
    network: Network,
) -> None:
    first, second = network.server(), network.dead_server()
    pool = network.pool(first, second, choose="first")
    pool.note_checks({str(first): False, str(second): True})
    assert [each.up for each in pool.health()] == [False, True]
    # The second one is tried before.
    assert network.connect(pool) == str(first)
    assert [each.up for each in pool.health()] == [False, False]
    pool.note_checks({str(first): True, str(second): True})
    assert [each.up for each in pool.health()] == [True, False]


def test_a_server_that_has_come_up_by_its_checks_is_used_at_once(network: Network) -> None:
    first, second = network.dead_server(), network.server()
    pool = network.pool(first, second, choose="first")
    assert network.connect(pool) == str(second)
    pool.note_checks({str(first): False})
    network.revive(first)
    pool.note_checks({str(first): True})
    assert network.connect(pool) == str(first)


def test_a_short_failure_is_over_by_the_checks_after_a_while(network: Network) -> None:
    pool = network.pool(network.dead_server(), network.server(), choose="first")
    network.connect(pool)
    states = {server.name: True for server in pool.servers}
    pool.note_checks(states)
    assert [each.up for each in pool.health()] == [False, True]
    network.now += 20.0
    pool.note_checks(states)
    assert [each.up for each in pool.health()] == [True, True]


def test_an_outage_and_its_end_are_logged_once_each(network: Network, lines: list[str]) -> None:
    returning = network.dead_server()
    pool = network.pool(returning)
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            network.connect(pool)
        network.now += 60.0
    network.revive(returning)
    for _ in range(2):
        network.connect(pool)
    down, up = lines
    assert down.startswith(f"upstream {returning} is down: ")
    assert up == f"upstream {returning} accepts connections again"


def test_an_address_of_a_name_that_refuses_costs_no_session(network: Network) -> None:
    server = network.server()
    # No server listens on the second address.
    network.names.hosts["media"] = ["127.0.0.1", "127.0.0.2"]
    pool = network.pool(ServerAddress("media", server.port))
    for _ in range(4):
        assert network.result_of(pool.connect(Protocol())) == f"media:{server.port}"


def test_an_unknown_name_is_reported_with_a_remedy(network: Network) -> None:
    with pytest.raises(ConfigurationError) as caught:
        network.pool(ServerAddress("no-such-host.example", 1936))
    assert str(caught.value) == (
        "upstream no-such-host.example:1936: the name 'no-such-host.example' is unknown; "
        "check its spelling and this machine's resolver"
    )


def test_a_name_that_cannot_be_resolved_again_keeps_its_addresses(network: Network) -> None:
    server = network.server()
    network.names.hosts["media"] = [LOOPBACK]
    pool = network.pool(ServerAddress("media", server.port))
    network.names.hosts.clear()
    network.now += 60.0
    network.result_of(pool.look_up_again())
    assert network.result_of(pool.connect(Protocol())) == f"media:{server.port}"


def test_a_name_that_cannot_be_resolved_does_not_prevent_resolving_the_others(
    network: Network,
) -> None:
    server = network.server()
    network.names.hosts |= {"gone": ["127.0.0.2"], "moved": ["127.0.0.2"]}
    pool = network.pool(ServerAddress("gone", server.port), ServerAddress("moved", server.port))
    del network.names.hosts["gone"]
    network.names.hosts["moved"] = [LOOPBACK]
    network.now += 60.0
    network.result_of(pool.look_up_again())
    assert network.result_of(pool.connect(Protocol())) == f"moved:{server.port}"


def test_at_level_debug_each_attempt_has_a_line(network: Network) -> None:
    dead, server = network.dead_server(), network.server()
    pool = network.pool(dead, server)
    with logged(debug=True) as lines:
        for _ in range(4):
            network.connect(pool)
    attempts = [line for line in lines if line.startswith("debug: ")]
    assert sum(f"upstream {server} connected in " in line for line in attempts) == 4
    failed = [line for line in attempts if f"upstream {dead} failed: " in line]
    assert failed
    assert "refused" in failed[0]
    with logged() as without:
        network.connect(pool)
    assert without == []


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the creation of sockets fail with an errno; no repeated warning is pending."""
    monkeypatch.setattr(repeated, "_causes", {})

    def with_error(number: int) -> None:
        def refuse(_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(EagerClient, "createInternetSocket", refuse)

    return with_error


@pytest.mark.parametrize("number", [EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL])
def test_exhausted_local_resources_do_not_count_as_a_failure_of_a_server(
    network: Network,
    lines: list[str],
    fails: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    servers = network.server(), network.server()
    pool = network.pool(*servers)
    for _ in servers:
        network.connect(pool)
    fails(number)
    for _ in range(5):
        with pytest.raises(ResourcesExhausted) as caught:
            network.connect(pool)
    monkeypatch.undo()
    assert caught.value.status == 503
    assert [(each.up, each.due) for each in pool.health()] == [(True, True)] * 2
    # One line with advice, and none that reports a server as down.
    (line,) = [line for line in lines if "tarting" not in line]
    assert line.startswith("no connection to upstream 127.0.0.1:")
    assert any(word in line for word in ("raise", "widen", "see"))
    network.connect(pool)


def test_a_missing_local_address_counts_as_a_failure_of_the_server(
    network: Network, lines: list[str], fails: Callable[[int], None]
) -> None:
    """For example, IPv6 is disabled; the local ports are not used up."""
    pool = network.pool(network.server())
    fails(EADDRNOTAVAIL)
    with pytest.raises(UpstreamUnavailable):
        network.connect(pool)
    assert not pool.health()[0].up
    assert " is down: " in lines[-1]


def test_the_next_server_is_tried_if_local_ports_are_used_up_for_one(
    network: Network, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = network.server(), network.server()
    pool = network.pool(*servers)
    for _ in servers:
        network.connect(pool)
    made = EagerClient.createInternetSocket

    def refuse(client: EagerClient) -> Any:
        address: Any = client
        if address.addr[1] == servers[0].port:
            raise OSError(EADDRNOTAVAIL, os.strerror(EADDRNOTAVAIL))
        return made(client)

    monkeypatch.setattr(EagerClient, "createInternetSocket", refuse)
    assert [network.connect(pool) for _ in range(4)] == [str(servers[1])] * 4
    assert not [line for line in lines if " is down: " in line]
