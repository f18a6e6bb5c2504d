"""One session whose client and media server are played by the test, over real sockets.

Each delay is where it occurs in practice: in the client, in a proxy between client and gateway, or in the
media server. The gateway between them is a real one.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from select import select
from time import perf_counter, sleep
from typing import Any, final

from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.relay import Link, Relay
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

# Idles are held for longer than anything here takes, so that the media server finds one whenever it speaks.
_CONFIGURATION = """
[tunnel]
latency = 4.0
[telemetry]
media = true
[[upstream]]
servers = ["{server}"]
"""
HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)
_READ_BYTES = 1 << 20
_PATIENCE_S = 30.0


@final
class MediaServer:
    """An RTMP server that the test plays; ``receive_bytes`` is its kernel's receive buffer."""

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
        """Accept the next connection, and use it from now on."""
        self.connection.close()
        self.connection, _ = self._listening.accept()
        self.connection.settimeout(_PATIENCE_S)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fill(self) -> socket.socket:
        """Fill the accept queue, so that the next connect gets no answer."""
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
    """A tunnel's client with one connection, which reads an answer when the test calls ``answer``."""

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
        """Exchange the RTMP that the gateway needs to read the pings."""
        self.client.send(HANDSHAKE)
        self.client.answer()
        self.server.hears(len(HANDSHAKE))
        self.poll(HANDSHAKE)

    def poll(self, said: bytes) -> None:
        """Poll, and read the data that the media server sends while the poll is held."""
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
    """A client, a gateway and ``server``; with ``proxy_s``, a proxy that delays is before the gateway."""
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
