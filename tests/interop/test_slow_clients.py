"""Clients that are slow on purpose: each is cut at a limit, and a running stream does not notice them."""

from __future__ import annotations

import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter, sleep

import pytest

from tests.interop.programs import Programs, needs
from tests.interop.secure import PLAIN, SECURE, Authority, Gateway, make_authority, start
from tests.interop.servers import LOOPBACK
from tests.interop.streams import Tunnelled

NAME = "a.example"
_LIMIT_S = 2.0
_LIMITS = f"""
[limits]
first_bytes_s = {_LIMIT_S}
tls_handshake_s = {_LIMIT_S}
head_s = {_LIMIT_S}
body_s = {_LIMIT_S}
connections_per_address = 5000
"""
_CONNECTIONS = 1000
# Ours, slowhttptest's and the gateway's are children of this process, and its limit is theirs.
_DESCRIPTORS = 4 * _CONNECTIONS
_ATTACK_S = 4
# What is said in one piece before the bytes begin to trickle, and what they are.
_PHASES = {
    "first bytes": (b"", b"GE"),
    "head": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: " + b"x" * 60),
    "body": (b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n", b"x" * 60),
}
# slowhttptest: -H slowloris, -B slow body, -X slow read, -R Apache Range.
_ATTACKS = {
    "slow head": ("-H", "-i", "1"),
    "slow body": ("-B", "-i", "1", "-s", "8192"),
    "slow read": ("-X", "-w", "1", "-y", "2", "-n", "1", "-z", "1", "-k", "3"),
    "range": ("-R", "-a", "1", "-b", "3000"),
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


class Ticker:
    """An upstream that tells its only session the time, a hundred times a second."""

    def __init__(self) -> None:
        self._listening = socket.create_server((LOOPBACK, 0))
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self.server = f"{LOOPBACK}:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *cause: object) -> None:
        self._stop.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        with suppress(OSError):
            connection, _ = self._listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                while not self._stop.is_set():
                    connection.sendall(b"%.9f;" % perf_counter())
                    sleep(0.01)


def latencies(stream: Tunnelled, seconds: float) -> list[float]:
    """How long each tick takes from the upstream to an RTMPT client."""
    until = perf_counter() + seconds
    late: list[float] = []
    rest = b""
    while perf_counter() < until:
        *ticks, rest = (rest + stream.receive()).split(b";")
        now = perf_counter()
        late += [now - float(tick) for tick in ticks]
    return late


@contextmanager
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        pytest.skip(f"{_DESCRIPTORS} open files are not allowed here (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _DESCRIPTORS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_slow_clients_do_not_slow_a_stream_down(
    programs: Programs, authority: Authority
) -> None:
    needs("slowhttptest")
    with many_descriptors(), Ticker() as ticker:
        site = [authority.certify("site.pem", NAME)]
        gateway = start(programs, site, ticker.server, "[limits]\nconnections_per_address = 5000\n")
        port = gateway.ports[PLAIN]
        with socket.create_connection((LOOPBACK, port), 10) as connection:
            stream = Tunnelled(connection)
            latencies(stream, 0.5)
            alone = median(latencies(stream, 2))
            attacked = {name: attack(programs, stream, port, name) for name in _ATTACKS}
            alone = max(alone, median(latencies(stream, 1)))
        assert gateway.program.running
    told = {name: f"{seconds * 1000:.2f} ms" for name, seconds in attacked.items()}
    print(f"alone {alone * 1000:.2f} ms", told)
    # The scheduler of a busy machine alone makes differences of some tenths of a millisecond.
    assert max(attacked.values()) <= 2 * alone + 0.0005, told


def attack(programs: Programs, stream: Tunnelled, port: int, name: str) -> float:
    """The median latency while slowhttptest does what it does."""
    words = ("-c", str(_CONNECTIONS), "-r", str(_CONNECTIONS), "-l", str(_ATTACK_S), "-p", "2")
    url = ("-u", f"http://{LOOPBACK}:{port}/")
    attacker = programs.start("slowhttptest", *_ATTACKS[name], *words, *url)
    found = latencies(stream, _ATTACK_S - 1)
    attacker.stop()
    return median(found)


def trickle(connection: socket.socket, begun: float, said: bytes, trickling: bytes) -> float:
    """How long a connection stands on which bytes come ten times slower than they may."""
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


@pytest.fixture
def gateway(programs: Programs, authority: Authority) -> Gateway:
    return start(programs, [authority.certify("site.pem", NAME)], f"{LOOPBACK}:1", _LIMITS)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("phase", _PHASES)
def test_bytes_that_trickle_are_cut_at_the_limit(gateway, authority, phase, secure) -> None:
    connection = socket.create_connection(
        (LOOPBACK, gateway.ports[SECURE if secure else PLAIN]), 10
    )
    if secure:
        connection = authority.client_context().wrap_socket(connection, server_hostname=NAME)
    with connection:
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


def test_a_handshake_that_trickles_is_cut_at_the_limit(gateway, authority) -> None:
    down, up = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client_context().wrap_bio(down, up, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = up.read()
    with socket.create_connection((LOOPBACK, gateway.ports[SECURE]), 10) as connection:
        stood = trickle(connection, perf_counter(), hello[:6], hello[6:60])
    assert _LIMIT_S - 0.3 < stood < _LIMIT_S + 1.5
