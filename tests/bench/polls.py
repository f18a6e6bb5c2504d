"""Polls of sessions, and what they cost: one at a time, and of all sessions without pause."""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Sequence
from statistics import median
from time import monotonic, perf_counter

from tests.bench.running_gateway import Gateway

_POLLS = 2000
_FLAT_OUT_S = 2.0


class Connection:
    """A connection, of this or of another worker; in TLS if ``tls`` is given."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)


def unverified_tls() -> ssl.SSLContext:
    """TLS of a client that does not verify the certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client(Connection):
    """A connection that began with the open of a session."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(port, tls)
        self.session_id = self.post(b"/open/1").strip()

    @property
    def worker(self) -> bytes:
        return self.session_id[:4]

    def post(self, target: bytes) -> bytes:
        self.socket.sendall(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0" % target)
        return self.socket.recv(65536).partition(b"\r\n\r\n")[2]


class Poller:
    """Polls a session on a connection. ``field``: of the head of each poll."""

    def __init__(
        self,
        session_id: bytes,
        connection: Connection,
        numbers: dict[bytes, int],
        field: bytes = b"",
    ) -> None:
        self._field = field
        self.session_id = session_id
        self._numbers = numbers
        self.socket = connection.socket

    def send(self) -> None:
        number = self._numbers[self.session_id]
        self._numbers[self.session_id] = number + 1
        target = b"/idle/%b/%d" % (self.session_id, number)
        self.socket.sendall(
            b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: 1\r\n\r\n\0" % (target, self._field)
        )

    def receive(self) -> None:
        """Take the whole answer."""
        answer = self.socket.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        left = length - len(body)
        while left:
            left -= len(self.socket.recv(left))


def one_at_a_time(pollers: Sequence[Poller], gateway: Gateway) -> tuple[float, float]:
    """Median latency and processor time of a poll, in seconds."""
    times = []
    before = gateway.processor_s()
    for number in range(_POLLS):
        poller = pollers[number % len(pollers)]
        began = perf_counter()
        poller.send()
        poller.receive()
        times.append(perf_counter() - began)
    return median(times), (gateway.processor_s() - before) / _POLLS


def flat_out(pollers: Sequence[Poller], gateway: Gateway) -> tuple[float, float]:
    """Time between two polls of a session, and processor time of a poll, in seconds."""
    before, polls = gateway.processor_s(), 0
    with selectors.DefaultSelector() as selector:
        for poller in pollers:
            selector.register(poller.socket, selectors.EVENT_READ, poller)
            poller.send()
        began = monotonic()
        end = began + _FLAT_OUT_S
        while monotonic() < end:
            for key, _ in selector.select():
                key.data.receive()
                key.data.send()
                polls += 1
        took = monotonic() - began
        for poller in pollers:
            poller.receive()
    return took * len(pollers) / polls, (gateway.processor_s() - before) / polls
