"""What the gateway says of a session is true: a known delay shows in its own latency, and in no other.

Client and media server are played by the test, over real sockets, each delay where it is in real life: in
the client, in a proxy between it and the gateway, in the media server. A busy machine delays a little more
than it is asked to; so whoever delays measures how long it was. The figures are those that operators get
from the admin server.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from select import select
from statistics import median
from threading import Thread
from time import perf_counter, sleep
from typing import Any, final

import pytest

from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import UserControl, user_control
from tests.interop.programs import Programs, until
from tests.interop.relay import Link, Relay
from tests.interop.servers import LOOPBACK
from tests.interop.watched import WatchedGateway, start_watched_gateway

# Idles are held for longer than anything here takes, so that the media server finds one whenever it speaks.
_CONFIGURATION = """
[tunnel]
latency = 4.0
[telemetry]
media = true
[[upstream]]
servers = ["{server}"]
"""
_ROUNDS = 20
_TRUE_WITHIN = 0.1
_HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)
_READ_BYTES = 1 << 20
_PATIENCE_S = 30.0


@final
class MediaServer:
    """An RTMP server that the test speaks for; ``receive_bytes`` is what its kernel takes unread."""

    def __init__(self, receive_bytes: int | None = None) -> None:
        self._listening = socket.socket()
        if receive_bytes:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._listening.bind((LOOPBACK, 0))
        # One connection can wait to be accepted, and no more.
        self._listening.listen(0)
        self._listening.settimeout(_PATIENCE_S)
        self.name = f"{LOOPBACK}:{self._listening.getsockname()[1]}"
        self.connection = socket.socket()

    def accept(self) -> None:
        """Take the next connection, and speak on that from now on."""
        self.connection.close()
        self.connection, _ = self._listening.accept()
        self.connection.settimeout(_PATIENCE_S)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fill(self) -> socket.socket:
        """Have somebody wait to be accepted, so that whoever comes next is not heard."""
        return socket.create_connection(self._listening.getsockname(), _PATIENCE_S)

    def says(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hears(self, count: int) -> None:
        """Read so many bytes."""
        while count:
            data = self.connection.recv(min(count, _READ_BYTES))
            assert data, "the gateway has hung up"
            count -= len(data)

    def close(self) -> None:
        self.connection.close()
        self._listening.close()


@final
class Client:
    """A tunnel's client with one connection, which asks, and takes the answer when the test says so."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), _PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number = 0
        self._session = ""

    def open(self) -> None:
        self._post("/open/1", b"\0")
        self._session = self.answer().decode().strip()

    def idle(self) -> None:
        self._command("idle", b"\0")

    def send(self, body: bytes) -> None:
        self._command("send", body)

    def answer(self) -> bytes:
        """The answer's body."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._some()
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        while len(body) < length:
            body += self._some()
        return body

    @property
    def is_answered(self) -> bool:
        return bool(select([self.socket], [], [], 0)[0])

    def close(self) -> None:
        self.socket.close()

    def _command(self, name: str, body: bytes) -> None:
        self._post(f"/{name}/{self._session}/{self._number}", body)
        self._number += 1

    def _post(self, target: str, body: bytes) -> None:
        head = f"POST {target} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def _some(self) -> bytes:
        data = self.socket.recv(_READ_BYTES)
        assert data, "the connection has ended"
        return data


@final
class Path:
    """One session from end to end, and the gateway in the middle."""

    def __init__(
        self,
        gateway: WatchedGateway,
        server: MediaServer,
        client: Client,
        proxies: Sequence[Proxy] = (),
    ) -> None:
        self.gateway = gateway
        self.server = server
        self.client = client
        self.proxies = proxies

    def open(self) -> None:
        self.client.open()
        self.server.accept()

    def shake_hands(self) -> None:
        """As much RTMP as must be, for the gateway to read the pings."""
        self.client.send(_HANDSHAKE)
        self.client.answer()
        self.server.hears(len(_HANDSHAKE))
        self.poll(_HANDSHAKE)

    def poll(self, said: bytes) -> None:
        """Poll, and get what the media server says while the poll is held."""
        self.client.idle()
        self.is_in("holding")
        self.server.says(said)
        while len(self.client.answer()) - 1 < len(said):
            self.client.idle()

    def is_in(self, state: str) -> None:
        """Wait until the session is in ``state``."""
        until(lambda: self.figures["state"] == state, f"the session is {state}")

    @property
    def figures(self) -> dict[str, Any]:
        (session,) = self.gateway.sessions()
        return session


@contextmanager
def path(programs: Programs, server: MediaServer, proxy_s: float | None = None) -> Iterator[Path]:
    """A client, a gateway and ``server``; between the first two a proxy, if it is to delay by so much."""
    with closing(server):
        gateway = start_watched_gateway(programs, _CONFIGURATION.format(server=server.name))
        if proxy_s is None:
            with closing(Client(gateway.port)) as client:
                yield Path(gateway, server, client)
            return
        relay = Relay(gateway.port, lambda *sides: Proxy(*sides, proxy_s))
        with closing(relay), closing(Client(relay.port)) as client:
            yield Path(gateway, server, client, relay.links)


@final
class Proxy(Link):
    """Keeps each request, and each answer, for half of ``round_trip_s``; ``delays_s`` are how long it took
    from an answer in to the next request out."""

    def __init__(self, client: socket.socket, server: socket.socket, round_trip_s: float) -> None:
        super().__init__(client, server)
        self._one_way_s = round_trip_s / 2
        self._answered_at = 0.0
        self.delays_s: list[float] = []

    def from_client(self, data: bytes) -> None:
        sleep(self._one_way_s)
        if self._answered_at:
            self.delays_s.append(perf_counter() - self._answered_at)
        self.server.sendall(data)

    def from_server(self, data: bytes) -> None:
        self._answered_at = perf_counter()
        sleep(self._one_way_s)
        self.client.sendall(data)


def delay(seconds: float) -> float:
    """Let so much time pass, if there is any left; how long it was."""
    began = perf_counter()
    sleep(max(0.0, seconds))
    return perf_counter() - began


def about(seconds: float) -> Any:
    return pytest.approx(seconds, rel=_TRUE_WITHIN)


def others(figures: dict[str, Any], *known: str) -> dict[str, float]:
    """The 95th percentiles of all latencies but the ``known`` ones, and those that have one value only."""
    found = {name: value["p95_s"] for name, value in figures["latencies"].items()}
    found["upstream_connect"] = figures["upstream_connect_s"]
    found["round_trip"] = figures["tcp"]["round_trip_s"]
    return {name: value for name, value in found.items() if name not in known}


def assert_in_no_other(seconds: float, figures: dict[str, Any], *known: str) -> None:
    rest = others(figures, *known)
    assert max(rest.values()) < _TRUE_WITHIN * seconds, rest


# --- The client ---


def test_a_client_that_waits_between_polls(programs: Programs) -> None:
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        delays_s = []
        for _ in range(_ROUNDS):
            end_to_end.poll(b"data")
            delays_s.append(delay(0.2))
        figures = end_to_end.figures
    assert figures["latencies"]["poll_gap"]["p50_s"] == about(median(delays_s))
    assert figures["latencies"]["downstream_wait"]["count"] == _ROUNDS
    assert_in_no_other(0.2, figures, "poll_gap")


# --- A proxy ---


def test_a_proxy_that_delays(programs: Programs) -> None:
    with path(programs, MediaServer(), proxy_s=0.1) as end_to_end:
        end_to_end.open()
        end_to_end.shake_hands()
        up, down = ChunkWriter(), ChunkWriter()
        for number in range(_ROUNDS):
            end_to_end.poll(down.write(user_control(UserControl.PING_REQUEST, number)))
            end_to_end.client.send(up.write(user_control(UserControl.PING_RESPONSE, number)))
            end_to_end.client.answer()
        figures = end_to_end.figures
        delay_s = median(end_to_end.proxies[0].delays_s)
    assert figures["latencies"]["poll_gap"]["p50_s"] == about(delay_s)
    assert figures["latencies"]["ping_client"]["p50_s"] == about(delay_s)
    assert figures["latencies"]["ping_client"]["count"] == _ROUNDS
    assert_in_no_other(0.1, figures, "poll_gap", "ping_client")


# --- The media server ---


def test_a_media_server_that_answers_late(programs: Programs) -> None:
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        end_to_end.shake_hands()
        up, down = ChunkWriter(), ChunkWriter()
        delays_s = []
        for number in range(_ROUNDS):
            ping = up.write(user_control(UserControl.PING_REQUEST, number))
            end_to_end.client.send(ping)
            end_to_end.client.answer()
            end_to_end.server.hears(len(ping))
            heard_at = perf_counter()
            end_to_end.client.idle()
            end_to_end.is_in("holding")
            delay(0.15 - (perf_counter() - heard_at))
            delays_s.append(perf_counter() - heard_at)
            end_to_end.server.says(down.write(user_control(UserControl.PING_RESPONSE, number)))
            end_to_end.client.answer()
        figures = end_to_end.figures
    assert figures["latencies"]["ping_upstream"]["p50_s"] == about(median(delays_s))
    assert figures["latencies"]["ping_upstream"]["count"] == _ROUNDS
    assert_in_no_other(0.15, figures, "ping_upstream")


def test_a_media_server_that_takes_data_late(programs: Programs) -> None:
    body = bytes(256 * 1024)
    with path(programs, MediaServer(receive_bytes=16 * 1024)) as end_to_end:
        end_to_end.open()
        client = end_to_end.client
        sent = 0
        while True:
            client.send(body)
            began = perf_counter()
            sent += len(body)
            until(
                lambda: client.is_answered or end_to_end.figures["state"] == "keeping",
                "the send is answered, or kept",
            )
            if not client.is_answered:
                break
            client.answer()
        delay(0.6 - (perf_counter() - began))
        reader = Thread(target=end_to_end.server.hears, args=(sent,))
        reader.start()
        client.answer()
        delay_s = perf_counter() - began
        reader.join()
        figures = end_to_end.figures
    assert delay_s >= 0.6
    found = figures["latencies"]["upstream_delay"]
    assert found["last_s"] == about(delay_s)
    # It is the middle of the bucket that the last one is in.
    assert found["max_s"] == about(found["last_s"])
    assert found["p50_s"] == 0.0
    assert_in_no_other(delay_s, figures, "upstream_delay")


def test_a_media_server_that_takes_connections_late(programs: Programs) -> None:
    """Its queue is full: the gateway's kernel is not heard, and knocks again after a second."""
    with path(programs, MediaServer()) as end_to_end, end_to_end.server.fill():
        opening = Thread(target=end_to_end.client.open)
        began = perf_counter()
        opening.start()
        delay(0.5)
        end_to_end.server.accept()
        opening.join()
        delay_s = perf_counter() - began
        end_to_end.server.accept()
        for _ in range(_ROUNDS):
            end_to_end.poll(b"data")
        figures = end_to_end.figures
        metrics = end_to_end.gateway.get("/metrics")
    assert delay_s >= 0.5
    assert figures["upstream_connect_s"] == about(delay_s)
    assert 'upstream_connect_seconds_count{protocol="rtmpt"} 1' in metrics
    assert_in_no_other(delay_s, figures, "upstream_connect")
