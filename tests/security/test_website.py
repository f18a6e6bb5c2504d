"""A faulty or hostile web server: no client gets another's response, and a malformed one is 502 at once."""

from __future__ import annotations

import pytest

from tests.helpers.http_conversation import Gateway
from tests.listeners.test_forwarding import BAD_GATEWAY, GET, OK, POST, Server, accept, serve

HEAD = GET.replace(b"GET", b"HEAD", 1)
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def server(gateway: Gateway) -> Server:
    server = Server()
    serve(gateway, server)
    return server


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (HEAD, CHUNKED),
        (GET, b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_a_server_connection_is_not_reused_after_a_response_that_must_not_have_a_body(
    gateway: Gateway, server: Server, request_: bytes, answer: bytes
) -> None:
    wire = accept(gateway)
    wire.arrive(request_)
    server.wire.arrive(answer)
    assert wire.sent.startswith(answer.split(b"\r\n")[0])
    assert server.wire.aborted
    other = accept(gateway)
    other.arrive(GET)
    assert len(server.wires) == 2
    server.wire.arrive(OK)
    assert other.sent == OK


@pytest.mark.parametrize("end", [OK, CHUNKED + b"1\r\na\r\n0\r\n\r\n"])
def test_a_server_connection_with_bytes_after_the_response_is_not_reused(
    gateway: Gateway, server: Server, end: bytes
) -> None:
    accept(gateway).arrive(GET)
    server.wire.arrive(end + EVIL)
    other = accept(gateway)
    other.arrive(GET)
    assert len(server.wires) == 2
    assert other.sent == b""


def test_bytes_waiting_in_the_kernel_are_not_read_as_the_response_to_the_next_request(
    gateway: Gateway, server: Server
) -> None:
    accept(gateway).arrive(GET)
    kept = server.wire
    kept.arrive(OK)
    kept.stopReading()
    kept.arrive(EVIL)
    other = accept(gateway)
    other.arrive(GET)
    assert kept.aborted
    assert len(server.wires) == 2
    assert other.sent == b""


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"Z\r\n",
        CHUNKED + b"1\r\nab\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc",
        b"HTTP/1.1 200 OK\r\nA: \0",
        b"<html>",
        b"HTTP/2.0 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 40_000,
    ],
)
def test_a_malformed_response_gives_502_at_once(
    gateway: Gateway, server: Server, answer: bytes
) -> None:
    wire = accept(gateway)
    wire.arrive(GET)
    server.wire.arrive(answer)
    assert wire.sent == BAD_GATEWAY
    assert server.wire.aborted
    assert not wire.aborted
    gateway.turn()
    wire.arrive(GET)
    server.wire.arrive(OK)
    assert wire.sent == OK


def test_a_trailer_with_content_length_closes_only_the_servers_connection(
    gateway: Gateway, server: Server
) -> None:
    wire = accept(gateway)
    wire.arrive(GET)
    answer = CHUNKED + b"1\r\na\r\n0\r\n"
    server.wire.arrive(answer)
    kept = server.wire
    kept.arrive(b"Content-Length: 5\r\n\r\n")
    assert wire.sent.endswith(b"1\r\na\r\n0\r\n\r\n")
    gateway.turn()
    wire.arrive(GET)
    assert server.wire is not kept
    server.wire.arrive(OK)
    assert wire.sent == OK


def test_a_bare_line_feed_is_refused_in_a_head_that_arrives_byte_by_byte(
    gateway: Gateway, server: Server
) -> None:
    wire = accept(gateway)
    wire.arrive(GET)
    for byte in b"HTTP/1.1 200 OK\r\nA: b\r\nB: c":
        server.wire.arrive(bytes([byte]))
    assert wire.sent == b""
    server.wire.arrive(b"\n")
    assert wire.sent == BAD_GATEWAY


def test_a_malformed_chunk_after_a_forwarded_head_aborts_the_clients_connection(
    gateway: Gateway, server: Server
) -> None:
    wire = accept(gateway)
    wire.arrive(GET)
    server.wire.arrive(CHUNKED)
    server.wire.arrive(b"Z\r\n")
    assert wire.sent == CHUNKED
    assert wire.aborted
    assert server.wire.aborted


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_server_that_closes_before_the_end_of_its_head_gives_502(
    gateway: Gateway, server: Server, said: bytes
) -> None:
    wire = accept(gateway)
    wire.arrive(GET)
    if said:
        server.wire.arrive(said)
    server.wire.end()
    assert wire.sent.endswith(BAD_GATEWAY)


def test_a_server_connection_is_not_reused_after_a_response_before_the_end_of_the_request(
    gateway: Gateway, server: Server
) -> None:
    wire = accept(gateway)
    wire.arrive(POST + b"he")
    server.wire.arrive(OK)
    assert b"Connection: close" in wire.sent
    assert server.wire.aborted
