"""Connects to a server: from which address, and to which of its own."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.error import ConnectBindError
from twisted.internet.protocol import Protocol

from gateway.addresses import ServerAddress
from gateway.errors import ConfigurationError
from gateway.upstreams.dial import Server, connect
from tests.upstreams.network import LOOPBACK, Network

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
    network.result_of(server.look_up(network.reactor))
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
