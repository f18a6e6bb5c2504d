"""The gateway's addresses, and the order in which they are tried."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol

from gateway.client.remote_gateway import RemoteGateway
from gateway.port_test.ways import parse_way
from gateway.upstreams.tls_client import client_context
from tests.upstreams.network import Network


def test_addresses_that_fail_are_tried_last_while_the_name_has_the_same_ones(
    network: Network,
) -> None:
    server = network.listen(Factory.forProtocol(Protocol))
    way = parse_way(f"rtmp:{server.port}")
    gateway = RemoteGateway(network.reactor, "a.example", [way], client_context(), "agent")
    # Nothing listens on the first one.
    network.names.hosts["a.example"] = ["::1", "127.0.0.1"]

    def failures() -> list[str]:
        """The addresses that fail before one is connected to."""
        network.result_of(gateway.look_up())
        race: Any = gateway.open(way, Protocol(), 5.0)
        network.until(lambda: race.done.called)
        return list(race.failures)

    assert failures() == ["::1"]
    assert failures() == []
    network.names.hosts["a.example"] = ["::1", "127.0.0.1", "127.0.0.2"]
    assert failures()[:1] == ["::1"]
