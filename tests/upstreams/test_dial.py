"""Connects to a server: from which address, and to which of its own."""

from __future__ import annotations

import os
import socket
from errno import EMFILE
from typing import Any

import pytest
from twisted.internet.error import ConnectBindError, ConnectError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.addresses import ServerAddress
from gateway.errors import ConfigurationError, ResourcesExhausted
from gateway.upstreams.connector import EagerClient
from gateway.upstreams.dial import Server, connect
from tests.upstreams.network import LOOPBACK, Network, connects_in_memory

_TIMEOUT_S = 2.0
# IP_BIND_ADDRESS_NO_PORT of linux/in.h.
_BIND_ADDRESS_NO_PORT = 24


def connected(network: Network, server: Server) -> Any:
    """The transport of a connection to the server. Raises ConnectError."""
    client = Protocol()
    network.result_of(connect(network.reactor, server, client, _TIMEOUT_S))
    return client.transport


def looked_up(network: Network, address: ServerAddress, source_address: str = "") -> Server:
    server = Server(address, source_address=source_address)
    network.result_of(server.look_up(network.resolving))
    return server


# --- The source address ---


def test_a_server_is_connected_to_from_the_source_address(network: Network) -> None:
    server = looked_up(network, network.server(), "127.0.0.9")
    transport = connected(network, server)
    assert transport.getHost().host == "127.0.0.9"
    # Connections to other servers may have the same port.
    assert transport.socket.getsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT) == 1


def test_the_system_chooses_the_source_address_by_default(network: Network) -> None:
    transport = connected(network, looked_up(network, network.server()))
    assert transport.getHost().host == LOOPBACK
    assert transport.socket.getsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT) == 0


def test_a_source_address_that_is_gone_is_a_failure_of_the_server(network: Network) -> None:
    """And no exhaustion of ports, although the server was reached before."""
    server = looked_up(network, network.server(), "192.0.2.9")
    server.note_reached(LOOPBACK)
    with pytest.raises(ConnectBindError):
        connected(network, server)


def test_only_addresses_of_the_family_of_the_source_address_are_used(network: Network) -> None:
    network.names.hosts["media"] = ["2001:db8::1", LOOPBACK]
    assert looked_up(network, ServerAddress("media", 1935), "127.0.0.9").hosts == [LOOPBACK]
    network.names.hosts["media"] = ["2001:db8::1"]
    with pytest.raises(
        ConfigurationError, match=r"no address of the family of source_address, 127"
    ):
        looked_up(network, ServerAddress("media", 1935), "127.0.0.9")


# --- The server's addresses ---


class Accepted(Protocol):
    """A connection at a server, which is appended to ``all``."""

    all: list[Accepted]
    received = b""
    is_lost = False

    def connectionMade(self) -> None:
        self.all.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True


def accepting(network: Network, host: str, port: int = 0) -> tuple[int, list[Accepted]]:
    """A server at this address: its port and its connections."""
    made: list[Accepted] = []
    factory = Factory.forProtocol(type("Here", (Accepted,), {"all": made}))
    return network.listen(factory, host=host, number=port).port, made


def named(network: Network, port: int, *hosts: str) -> Server:
    network.names.hosts["media"] = [*hosts]
    return looked_up(network, ServerAddress("media", port))


def peer(network: Network, server: Server) -> str:
    """The address that the next connection reaches."""
    host: str = connected(network, server).getPeer().host
    return host


def test_the_addresses_of_a_name_are_used_in_turn(network: Network) -> None:
    port, _ = accepting(network, "127.0.0.1")
    accepting(network, "127.0.0.2", port)
    server = named(network, port, "127.0.0.1", "127.0.0.2")
    reached = [peer(network, server) for _ in range(4)]
    assert reached[:2] == reached[2:]
    assert sorted(reached[:2]) == ["127.0.0.1", "127.0.0.2"]


def test_families_alternate_and_begin_with_the_preferred_one(network: Network) -> None:
    server = named(network, 1935, "::1", "::2", "::3", "10.0.0.1", "10.0.0.2")
    orders = [server.hosts_in_order() for _ in range(6)]
    assert all(
        [":" in host for host in order] == [True, False, True, False, True] for order in orders
    )
    assert {order[0] for order in orders} == {"::1", "::2", "::3"}
    assert {order[1] for order in orders} == {"10.0.0.1", "10.0.0.2"}
    assert all(sorted(order) == sorted(server.hosts) for order in orders)


def test_the_next_address_is_tried_after_a_quarter_of_a_second_and_the_slow_one_is_last_then(
    network: Network,
) -> None:
    port = network.silent_server("127.0.0.2").port
    accepting(network, "127.0.0.1", port)
    server = named(network, port, "127.0.0.1", "127.0.0.2")
    took = []
    for _ in range(4):
        began = network.reactor.seconds()
        assert peer(network, server) == "127.0.0.1"
        took.append(network.reactor.seconds() - began)
    # One of the first two begins with the address that does not answer.
    assert 0.25 <= max(took[:2]) < _TIMEOUT_S
    assert max(took[2:]) < 0.25
    open_sockets = [each for each in network.reactor.getReaders() if isinstance(each, EagerClient)]
    assert all(each.connected for each in open_sockets)
    network.now += 60.0
    network.result_of(server.look_up(network.resolving))
    assert {server.hosts_in_order()[0] for _ in range(2)} == {"127.0.0.1", "127.0.0.2"}


def test_ipv4_is_used_at_once_if_ipv6_refuses(network: Network) -> None:
    port, _ = accepting(network, "127.0.0.1")
    server = named(network, port, "::1", "127.0.0.1")
    began = network.reactor.seconds()
    assert [peer(network, server) for _ in range(3)] == ["127.0.0.1"] * 3
    assert network.reactor.seconds() - began < 0.25


def test_the_deadline_is_that_of_all_addresses_together(network: Network) -> None:
    port = network.silent_server("127.0.0.1").port
    network.silent_server("127.0.0.2", port)
    server = named(network, port, "127.0.0.1", "127.0.0.2")
    began = network.reactor.seconds()
    with pytest.raises(ConnectError):
        network.result_of(connect(network.reactor, server, Protocol(), 0.4))
    assert 0.4 <= network.reactor.seconds() - began < 0.6


def test_resources_that_are_used_up_at_one_address_are_no_failure_of_the_server(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = EagerClient.createInternetSocket

    def refuse(client: Any) -> socket.socket:
        if client.addr[0] == "127.0.0.1":
            raise OSError(EMFILE, os.strerror(EMFILE))
        return made(client)

    monkeypatch.setattr(EagerClient, "createInternetSocket", refuse)
    # No server listens on the second address.
    server = named(network, network.dead_server().port, "127.0.0.1", "127.0.0.2")
    for _ in range(2):
        with pytest.raises(ResourcesExhausted):
            connected(network, server)


# --- Established connections ---


def test_an_established_connection_keeps_nothing_of_its_connect_and_reports_its_end(
    network: Network,
) -> None:
    port, accepted = accepting(network, LOOPBACK)
    server = named(network, port, LOOPBACK)
    losses: list[int] = []
    before = connects_in_memory()
    network.result_of(
        connect(
            *(network.reactor, server, Protocol(), _TIMEOUT_S),
            lost=lambda: losses.append(1),
        )
    )
    network.until(lambda: accepted)
    assert connects_in_memory() <= before
    assert losses == []
    accepted[0].transport.loseConnection()
    network.until(lambda: losses == [1])
