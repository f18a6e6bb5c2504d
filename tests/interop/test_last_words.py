"""Data received before an end is delivered, even to a slow peer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from threading import Thread
from time import sleep

import pytest

from tests.helpers.interop.kernel_buffers import unacknowledged_bytes
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import ANY_PORT, LOOPBACK, start_gateway

_WAIT_S = 20.0
_HANDSHAKE = b"\x06" + bytes(1536)
# A little more than a session buffers before it stops reading, and than a relay does: what is left has room
# in the kernel.
_OF_SESSION = bytes(range(256)) * 2240
_OF_RELAY = bytes(range(256)) * 1400
_PIECE = bytes(range(256)) * 256
# Beyond this, the kernels would take more as long as the buffers grow.
_MOST_BYTES = 64 * 1024 * 1024


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """The upstream's listening socket, with a small receive buffer."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        listening.bind((LOOPBACK, 0))
        listening.listen()
        listening.settimeout(_WAIT_S)
        yield listening


@pytest.fixture
def client(programs: Programs, server: socket.socket) -> Iterator[socket.socket]:
    _, port = start_gateway(
        programs, *ANY_PORT, "--upstream", f"{LOOPBACK}:{server.getsockname()[1]}"
    )
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        connection.settimeout(_WAIT_S)
        connection.connect((LOOPBACK, port))
        yield connection


def ask(connection: socket.socket, target: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The status and body of the answer to a command."""
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (target, len(body))
    connection.sendall(head + body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, came = answer.partition(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(came) < length:
        came += connection.recv(65536)
    return head.split(b" ")[1], came


def accepted(server: socket.socket) -> socket.socket:
    connection, _ = server.accept()
    connection.settimeout(_WAIT_S)
    return connection


@pytest.mark.parametrize("speaks", [False, True])
def test_data_before_a_close_reaches_a_slow_upstream(
    client: socket.socket, server: socket.socket, speaks: bool
) -> None:
    session = ask(client, b"/open/1", b"\0")[1].strip()
    with closing(accepted(server)) as upstream:
        for number in range(6):
            assert ask(client, b"/send/%b/%d" % (session, number), _PIECE)[0] == b"200"
        assert ask(client, b"/close/%b/6" % session, b"\0") == (b"200", b"\0")
        got = bytearray()
        while data := upstream.recv(16384):
            got += data
            if speaks:
                with suppress(OSError):
                    upstream.sendall(b"acknowledged")
            sleep(0.002)
    assert got == 6 * _PIECE


def end_with(words: bytes, server: socket.socket, first: bytes) -> None:
    """Send ``words`` after ``first`` has arrived, and close."""
    with closing(accepted(server)) as upstream:
        got = b""
        while len(got) < len(first):
            got += upstream.recv(65536)
        upstream.sendall(words)
        until(lambda: not unacknowledged_bytes(upstream), "the gateway's kernel has all")


def test_an_upstreams_last_data_is_not_lost_when_a_send_fails(
    client: socket.socket, server: socket.socket
) -> None:
    session = ask(client, b"/open/1", b"\0")[1].strip()
    speaker = Thread(target=end_with, args=(_OF_SESSION, server, _HANDSHAKE))
    speaker.start()
    status, answer = ask(client, b"/send/%b/0" % session, _HANDSHAKE)
    speaker.join()
    got, number = answer[1:], 1
    while status == b"200":
        kind = b"send" if number < 4 else b"idle"
        body = b"x" if number < 4 else b"\0"
        status, answer = ask(client, b"/%b/%b/%d" % (kind, session, number), body)
        got += answer[1:]
        number += 1
    assert status == b"404"
    assert got == _OF_SESSION


def test_the_upstreams_last_data_is_relayed_even_if_the_client_still_sends(
    client: socket.socket, server: socket.socket
) -> None:
    client.sendall(_HANDSHAKE)
    end_with(_OF_RELAY, server, _HANDSHAKE)
    for _ in range(5):
        with suppress(OSError):
            client.sendall(b"x")
        sleep(0.02)
    got = bytearray()
    while data := client.recv(65536):
        got += data
    assert got == _OF_RELAY


def receive(connection: socket.socket, size: int) -> int:
    got = 0
    while got < size:
        got += len(connection.recv(size - got))
    return got


def fill(connection: socket.socket) -> int:
    """Send until the peer's kernel takes no more. Returns how much it has taken."""
    size = 0
    connection.settimeout(0.5)
    with suppress(TimeoutError):
        while size < _MOST_BYTES:
            size += connection.send(_PIECE)
    return size - unacknowledged_bytes(connection)


def test_a_publishers_last_data_is_relayed_if_it_closes_without_reading_answers(
    client: socket.socket, server: socket.socket
) -> None:
    client.sendall(_HANDSHAKE)
    with closing(accepted(server)) as upstream:
        got = receive(upstream, len(_HANDSHAKE))
        # While both read, the receive buffer of the gateway's kernel grows.
        for _ in range(200):
            client.sendall(_PIECE)
            got += receive(upstream, len(_PIECE))
        taken = got + fill(client)
        upstream.sendall(b"not read")
        until(lambda: client.recv(1, socket.MSG_PEEK), "the client has an answer")
        client.close()
        for _ in range(5):
            upstream.sendall(b"not received")
            sleep(0.02)
        while data := upstream.recv(1 << 20):
            got += len(data)
    assert got >= taken
