"""Limits of the admin server: connections, bodies, time, streamed responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from gateway.admin.http.request_handler import STALLED_S
from gateway.admin.http.responses import Response
from gateway.admin.http.server import BODY_BYTES, CONNECTIONS, REQUEST_S
from tests.helpers.admin_server import AdminServer, parse

TURN_S = 0.001
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_connection_serves_several_requests_one_after_the_other(server: AdminServer) -> None:
    assert server.exchange(REQUEST + REQUEST).count(b"HTTP/1.1 200") == 2


def test_a_request_for_another_host_is_refused_before_its_path_is_examined(
    server: AdminServer,
) -> None:
    assert server.ask("GET", "/healthz", Host="evil.example").status == 421
    assert server.ask("GET", "/nothing", Host="evil.example").status == 421
    twice = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
    assert parse(twice, server.exchange).status == 421


def test_every_path_requires_the_token() -> None:
    server = AdminServer(b"0123456789abcdef")
    for path in ("/", "/healthz", "/metrics", "/nothing", "/events"):
        answer = server.ask("GET", path)
        assert answer.status == 401
        assert "Basic" in answer.fields["WWW-Authenticate"]
    assert server.ask("GET", "/", Authorization="Bearer 0123456789abcdef").status == 200


def test_a_page_of_another_site_cannot_end_a_session(server: AdminServer) -> None:
    tunnel = server.node.open()
    answer = server.ask("DELETE", "/sessions/n100-1", Origin="http://evil.example")
    assert answer.status == 403
    assert not tunnel.session.ended


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        % (BODY_BYTES + 1),
        b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1000\r\n" + b" " * 4096 + b"\r\n1\r\nx\r\n",
    ],
)
def test_a_body_over_the_limit_is_refused_and_not_stored(
    server: AdminServer, request_bytes: bytes
) -> None:
    protocol, transport = server.connect()
    protocol.dataReceived(request_bytes)
    protocol.dataReceived(b"x" * 100)
    server.let_run()
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert transport.value().count(b"HTTP/1.1") == 1
    assert transport.disconnecting


def test_a_body_of_the_largest_size_is_read(server: AdminServer) -> None:
    body = b'{"level": "warn"}'.ljust(BODY_BYTES)
    assert server.ask("PUT", "/log-level", body).status == 200


def test_the_number_of_connections_is_limited_and_closed_connections_are_not_counted(
    server: AdminServer,
) -> None:
    connected = [server.connect() for _ in range(CONNECTIONS)]
    connected.append(server.connect())
    assert connected[0][1].aborted
    assert len(server.site.connections) == CONNECTIONS
    for protocol, _ in connected[1:]:
        protocol.connectionLost(Failure(ConnectionDone()))
    assert not server.site.connections


def test_a_connection_with_a_request_in_progress_is_not_closed_for_a_new_connection(
    server: AdminServer,
) -> None:
    server.site._answer = lambda _: Deferred()  # type: ignore[assignment,return-value]
    for _ in range(CONNECTIONS):
        protocol, _transport = server.connect()
        protocol.dataReceived(REQUEST)
    assert server.site.buildProtocol(None) is None
    assert len(server.site.connections) == CONNECTIONS


def test_a_request_sent_byte_by_byte_does_not_extend_its_deadline(server: AdminServer) -> None:
    protocol, transport = server.connect()
    while not transport.disconnecting:
        protocol.dataReceived(b"x")
        server.reactor.advance(1)
    assert server.reactor.seconds() <= REQUEST_S
    server.reactor.advance(20)
    assert transport.aborted


class Endless:
    """An endless response."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.made += 1
                yield b"piece"
        finally:
            self.closed = True


def endless(server: AdminServer) -> tuple[Endless, Any, Any]:
    body = Endless()

    async def answer(_: object) -> Response:
        return Response(200, "text/plain", body.pieces())

    server.site._answer = answer
    server.site._time_slices = lambda: EachTurn(server.reactor)  # type: ignore[assignment,return-value]
    protocol, transport = server.connect()
    protocol.dataReceived(REQUEST)
    return body, protocol, transport


def run(server: AdminServer) -> None:
    server.reactor.pump([TURN_S] * 5)


class EachTurn:
    """Yields to the reactor at every step."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    async def yield_to_reactor(self) -> None:
        await deferLater(self.reactor, TURN_S)


def test_a_long_response_yields_and_waits_for_its_reader(server: AdminServer) -> None:
    body, _, transport = endless(server)
    run(server)
    assert body.made == 6
    transport.producer.pauseProducing()
    run(server)
    assert body.made == 7
    transport.producer.resumeProducing()
    run(server)
    assert body.made > 9


def test_a_client_that_does_not_read_is_disconnected(server: AdminServer) -> None:
    body, _, transport = endless(server)
    transport.producer.pauseProducing()
    run(server)
    server.reactor.advance(STALLED_S)
    run(server)
    assert transport.aborted
    assert body.closed


def test_a_response_ends_when_its_connection_is_lost(server: AdminServer) -> None:
    body, protocol, _ = endless(server)
    run(server)
    protocol.connectionLost(Failure(ConnectionDone()))
    run(server)
    assert body.closed
    assert not server.reactor.getDelayedCalls()


def test_an_internal_error_ends_one_request_without_details(server: AdminServer) -> None:

    async def answer(_: object) -> Response:
        raise ZeroDivisionError("inside")

    server.site._answer = answer
    seen: list[Any] = []
    globalLogPublisher.addObserver(seen.append)
    try:
        found = parse(REQUEST, server.exchange)
    finally:
        globalLogPublisher.removeObserver(seen.append)
    assert (found.status, found.body) == (500, b"")
    assert any(event.get("log_failure") for event in seen)
