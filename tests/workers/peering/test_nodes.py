"""The server for other nodes' connections; tests/interop/test_peers.py has the rest."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gateway.protocols.peering import ACCEPTED, GREETING, frame
from gateway.workers.peering import batch, nodes
from gateway.workers.peering.nodes import NodeServer


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> NodeServer:
    monkeypatch.setattr(batch, "at_end_of_iteration", lambda call: call())
    return NodeServer(lambda session_id: None, clock.seconds, clock)


def connect(server: NodeServer) -> tuple[Any, Transport]:
    connection, transport = server.buildProtocol(None), Transport()
    connection.makeConnection(transport)
    return connection, transport


def test_a_connection_without_a_greeting_is_closed_after_ten_seconds(
    server: NodeServer, clock: Clock
) -> None:
    _, transport = connect(server)
    clock.advance(9.9)
    assert not transport.aborted
    clock.advance(0.2)
    assert transport.aborted


def test_a_greeting_is_answered_and_the_connection_stays(server: NodeServer, clock: Clock) -> None:
    connection, transport = connect(server)
    connection.dataReceived(GREETING[:5])
    assert transport.value() == b""
    connection.dataReceived(GREETING[5:])
    assert transport.value() == frame(ACCEPTED, 0)
    clock.advance(20)
    assert not transport.aborted


def test_a_node_that_does_not_read_its_answers_is_not_read(server: NodeServer) -> None:
    connection, transport = connect(server)
    connection.dataReceived(GREETING)
    assert transport.producer is connection
    transport.producer.pauseProducing()
    assert transport.producerState == "paused"
    transport.producer.resumeProducing()
    assert transport.producerState == "producing"
    connection.connectionLost(None)
    # Twisted can call it once more.
    connection.pauseProducing()


def test_a_closed_connection_leaves_no_timer(server: NodeServer, clock: Clock) -> None:
    connection, _ = connect(server)
    connection.connectionLost(None)
    assert clock.getDelayedCalls() == []


def test_the_number_of_connections_is_bounded(
    server: NodeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_MOST_CONNECTIONS", 2)
    connections = [connect(server)[0] for _ in range(2)]
    for connection in connections:
        connection.dataReceived(GREETING)
    assert server.buildProtocol(None) is None
    connections[0].connectionLost(None)
    assert server.buildProtocol(None) is not None


def test_strangers_keep_no_node_out(
    server: NodeServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_MOST_CONNECTIONS", 3)
    node, of_node = connect(server)
    node.dataReceived(GREETING)
    strangers = [connect(server) for _ in range(2)]
    other, of_other = connect(server)
    assert [transport.aborted for _, transport in strangers] == [True, False]
    strangers[0][0].connectionLost(None)
    other.dataReceived(GREETING)
    assert of_other.value() == frame(ACCEPTED, 0)
    clock.advance(20)
    assert not of_node.aborted
    assert not of_other.aborted
