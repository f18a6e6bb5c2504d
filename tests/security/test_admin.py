"""The admin server under attack: health checks are answered, and repeated fields are refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from gateway.admin.http.server import CONNECTIONS, STREAMED
from gateway.admin.resources.event_streams import WATCHERS
from tests.helpers.admin_server import AdminServer

EVENTS = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def server() -> Iterator[AdminServer]:
    server = AdminServer()
    yield server
    server.site.stopFactory()
    assert not server.site.connections
    assert server.watching.watchers == 0


def send(server: AdminServer, request: bytes) -> Any:
    protocol, transport = server.connect()
    protocol.dataReceived(request)
    return transport


def write_to_full(transport: Any, pieces: Any) -> None:
    """Behaves as the transport of a client that does not read."""
    type(transport).writeSequence(transport, pieces)
    transport.producer.pauseProducing()


def test_health_checks_are_answered_during_a_hundred_event_streams(server: AdminServer) -> None:
    streams = [send(server, EVENTS) for _ in range(100)]
    for path in ("/healthz", "/readyz"):
        assert server.ask("GET", path).status == 200
    served = [each for each in streams if each.value().startswith(b"HTTP/1.1 200 ")]
    refused = [each for each in streams if each.value().startswith(b"HTTP/1.1 503 ")]
    assert (len(served), len(refused)) == (WATCHERS, 100 - WATCHERS)
    assert all(b"Retry-After: " in each.value() for each in refused)
    assert not any(each.aborted for each in served)


@pytest.mark.parametrize("head", [b"", b"G", b"GET / HTTP/1.1\r\nX: ", EVENTS[:-2]])
def test_health_checks_are_answered_while_connections_without_requests_are_open(
    server: AdminServer, head: bytes
) -> None:
    silent = [send(server, head) for _ in range(3 * CONNECTIONS)]
    assert server.ask("GET", "/healthz").status == 200
    assert len(server.site.connections) <= CONNECTIONS
    # The oldest are ended.
    assert silent[0].aborted
    assert not silent[-1].aborted


def test_health_checks_are_answered_while_a_hundred_clients_do_not_read(
    server: AdminServer,
) -> None:
    for _ in range(100):
        protocol, transport = server.connect()
        transport.writeSequence = partial(write_to_full, transport)  # type: ignore[method-assign]
        protocol.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert server.ask("GET", "/healthz").status == 200
    assert server.ask("GET", "/metrics").status == 503
    server.reactor.advance(20)
    server.let_run()
    assert server.ask("GET", "/metrics").status == 200


def test_long_responses_leave_connections_in_reserve_for_short_responses() -> None:
    assert WATCHERS < STREAMED < CONNECTIONS


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site", "Authorization"])
def test_a_repeated_field_that_access_control_uses_is_refused(
    server: AdminServer, name: str
) -> None:
    tunnel = server.node.open()
    head = f"DELETE /sessions/n100-1 HTTP/1.1\r\nHost: localhost\r\n{name}: a\r\n{name}: b\r\n\r\n"
    assert server.exchange(head.encode()).startswith(b"HTTP/1.1 400 ")
    assert not tunnel.session.ended


def test_a_repeated_content_length_cannot_smuggle_a_request(server: AdminServer) -> None:
    head = b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n"
    answer = server.exchange(head + b"DELETE /drain HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")
