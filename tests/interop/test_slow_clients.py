"""Clients that are slow on purpose are disconnected at a limit, in every phase."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from select import poll
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from time import perf_counter, sleep
from typing import final

import pytest

from tests.helpers.interop.programs import Programs
from tests.helpers.interop.secure import PLAIN, SECURE, Authority, Gateway, make_authority, start
from tests.helpers.interop.servers import LOOPBACK

NAME = "a.example"
_LIMIT_S = 2.0
_LIMITS = f"""
[limits]
first_bytes_s = {_LIMIT_S}
tls_handshake_s = {_LIMIT_S}
head_s = {_LIMIT_S}
body_s = {_LIMIT_S}
keep_alive_s = {_LIMIT_S}
stalled_write_s = {_LIMIT_S}
"""
_KEPT = b"POST /fcs/ident2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
# What is said in one piece before the bytes begin to trickle, and what they are.
_PHASES = {
    "first bytes": (b"", b"GE"),
    "head": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: " + b"x" * 60),
    "body": (b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n", b"x" * 60),
    "next head": (_KEPT, b"POST /" + b"x" * 60),
}
# What a client says before it reads a byte at a time, and how what then never ends begins.
_READERS = {
    "raw relay": (b"\x03" + bytes(1536), b"\x03"),
    "download": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    "WebSocket": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ),
}
# As few as Linux allows. What a client's kernel takes at first counts as read, for one limit's time.
_RECEIVED_BYTES = 2048
_MOST_READ_S = 2 * _LIMIT_S + 1.5


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def trickle(connection: socket.socket, begun: float, said: bytes, trickling: bytes) -> float:
    """The duration of a connection whose bytes arrive ten times slower than permitted."""
    connection.settimeout(_LIMIT_S / 8)
    with suppress(ConnectionError):
        connection.sendall(said)
        for byte in trickling:
            connection.sendall(bytes([byte]))
            try:
                # An answer that refuses, or the end.
                while connection.recv(100):
                    pass
                break
            except TimeoutError:
                continue
    return perf_counter() - begun


@pytest.fixture(scope="module")
def gateway(lasting_programs: Programs, authority: Authority) -> Gateway:
    return start(lasting_programs, [authority.certify("site.pem", NAME)], f"{LOOPBACK}:1", _LIMITS)


@contextmanager
def connected(gateway: Gateway, authority: Authority, secure: bool) -> Iterator[socket.socket]:
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED_BYTES)
        plain.settimeout(10)
        plain.connect((LOOPBACK, gateway.ports[SECURE if secure else PLAIN]))
        if not secure:
            yield plain
            return
        with authority.client_context().wrap_socket(plain, server_hostname=NAME) as connection:
            yield connection


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("phase", _PHASES)
def test_a_connection_with_trickling_bytes_is_closed_at_the_limit(
    gateway, authority, phase, secure
) -> None:
    with connected(gateway, authority, secure) as connection:
        said, trickling = _PHASES[phase]
        # First bytes are cut by their deadline while they still say nothing.
        stood = trickle(connection, perf_counter(), said, trickling if said else b"G")
        if not said:
            connection.settimeout(10)
            begun = perf_counter()
            with suppress(ConnectionError):
                connection.recv(100)
            stood += perf_counter() - begun
    assert _LIMIT_S - 0.3 < stood < _LIMIT_S + 1.5


def test_a_connection_with_a_trickling_tls_handshake_is_closed_at_the_limit(
    gateway, authority
) -> None:
    down, up = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client_context().wrap_bio(down, up, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = up.read()
    with socket.create_connection((LOOPBACK, gateway.ports[SECURE]), 10) as connection:
        stood = trickle(connection, perf_counter(), hello[:6], hello[6:60])
    assert _LIMIT_S - 0.3 < stood < _LIMIT_S + 1.5


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_an_idle_persistent_connection_is_closed_at_the_limit(gateway, authority, secure) -> None:
    with connected(gateway, authority, secure) as connection:
        connection.sendall(_KEPT)
        assert connection.recv(1000).startswith(b"HTTP/1.1 404 ")
        begun = perf_counter()
        with suppress(ConnectionError):
            assert connection.recv(1) == b""
    assert _LIMIT_S - 0.3 < perf_counter() - begun < _LIMIT_S + 1.5


class _Flood(BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            self.request.sendall(self.server.greeting)
            while True:
                self.request.sendall(bytes(65536))


@final
class Flooding(ThreadingTCPServer):
    """A server that sends a greeting to every client, and then data without end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, greeting: bytes) -> None:
        super().__init__((LOOPBACK, 0), _Flood)
        self.greeting = greeting
        self.address = f"{LOOPBACK}:{self.server_address[1]}"
        Thread(target=self.serve_forever, args=[0.05]).start()


@pytest.fixture
def flooding() -> Iterator[Callable[[bytes], str]]:
    """Starts the servers. Yields their addresses."""
    servers: list[Flooding] = []

    def start(greeting: bytes) -> str:
        servers.append(Flooding(greeting))
        return servers[-1].address

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sip(connection: socket.socket) -> float:
    """The duration of a connection that is read ten times slower than permitted."""
    begun = perf_counter()
    cut = poll()
    cut.register(connection, 0)
    with suppress(ConnectionError):
        while not cut.poll(0) and perf_counter() - begun < 2 * _MOST_READ_S:
            connection.recv(1)
            sleep(_LIMIT_S / 8)
    return perf_counter() - begun


def start_before(programs: Programs, authority: Authority, upstream: str, website: str) -> Gateway:
    more = f'[website]\nserver = "{website}"\n{_LIMITS}'
    return start(programs, [authority.certify("site.pem", NAME)], upstream, more)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("reader", _READERS)
def test_a_client_that_reads_single_bytes_is_disconnected_at_the_limit(
    programs, authority, flooding, reader, secure
) -> None:
    said, greeting = _READERS[reader]
    server = flooding(greeting)
    gateway = start_before(programs, authority, server, server)
    with connected(gateway, authority, secure) as connection:
        connection.sendall(said)
        assert _LIMIT_S - 0.3 < sip(connection) < _MOST_READ_S


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_tunnel_client_that_reads_single_bytes_is_disconnected_at_the_limit(
    programs, authority, flooding, secure
) -> None:
    gateway = start(programs, [authority.certify("site.pem", NAME)], flooding(b""), _LIMITS)
    with connected(gateway, authority, secure) as connection:
        connection.sendall(b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        session = connection.recv(1000).split()[-1].decode()
        for number in range(20):
            head = f"POST /idle/{session}/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head.encode())
        assert _LIMIT_S - 0.3 < sip(connection) < _MOST_READ_S
