"""Connectors to servers: their connections have immediate writes, and need a descriptor."""

from __future__ import annotations

import socket
from collections.abc import Callable
from errno import EMFILE
from pathlib import Path

import pytest
from twisted.internet import tcp

from gateway.descriptors import descriptors
from gateway.upstreams.connector import EagerConnector
from tests.helpers.tcp_pairs import Clients, Pair, Speaker
from tests.helpers.turning import Turning

pytest_plugins = ["tests.helpers.tcp_pair_fixtures"]


def test_a_refused_connect_is_reported_as_failed(turning: Turning) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        factory = Clients(Speaker())
        EagerConnector(*unused.getsockname(), factory, 5, None, turning.reactor).connect()
        turning.until(lambda: factory.failed)
    assert factory.speaker.transport is None


def test_a_connect_that_needs_a_reserved_descriptor_fails_and_leaves_no_descriptor_open(
    turning: Turning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "_others_below", 0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        factory = Clients(Speaker())
        host, port = server.getsockname()
        EagerConnector(host, port, factory, 5, None, turning.reactor).connect()
        turning.until(lambda: factory.failed)
        assert factory.failed[0].value.osError == EMFILE
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_kernel_detects_that_the_server_has_vanished(dial: Callable[[], Pair]) -> None:
    speaker, _ = dial()
    sock = speaker.transport.socket
    time_out_ms = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert time_out_ms == int(EagerConnector.vanished_s * 1000)


def test_twisted_calls_the_overridden_method() -> None:
    """An override that is no longer called has no effect, and other tests may not detect this."""
    assert "_makeTransport" in tcp.Connector.connect.__code__.co_names or hasattr(
        tcp.Connector, "_makeTransport"
    )
