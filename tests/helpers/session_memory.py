"""The memory that a worker allocates for each RTMPT session, with a client that polls as FFmpeg does.

Run as a program, since a worker changes its process's limits and logging: prints the bytes for each session
that Python has allocated. The upstream connections wait in the accept queue of a listening socket.
"""

from __future__ import annotations

import gc
import socket
import tempfile
import tracemalloc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogPublisher

from gateway.configuration import loading
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.workers.place import Place
from gateway.workers.shared_counts import SharedCounts, make_memory
from gateway.workers.worker import Worker
from tests.helpers.turning import Turning

_LOOPBACK = "127.0.0.1"
# What is allocated once, at the first sessions, is not measured. The accept queue has room for all where
# net.core.somaxconn is 128.
_FIRST = 20
_SESSIONS = 100
_CONFIGURATION = """[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["127.0.0.1:{port}"]
[limits]
sessions_per_address = 120
connections_per_address = 120
"""
_REQUEST = (
    b"POST /%b HTTP/1.1\r\nUser-Agent: Lavf/60.16.100\r\nAccept: */*\r\nConnection: keep-alive\r\n"
    b"Host: 127.0.0.1\r\nContent-Type: application/x-fcs\r\nContent-Length: %d\r\n\r\n%b"
)


class Client:
    """The client of a session. Its socket exists before it connects, and so before anything is measured."""

    def __init__(self, turning: Turning) -> None:
        self._turning = turning
        self._socket = socket.socket()

    def open(self, address: Any) -> None:
        """Open a session, send C0 and C1, and poll; the idle is held."""
        self._socket.connect(address)
        session_id = self._answer_to(b"open/1", b"\0").strip()
        self._answer_to(b"send/%b/1" % session_id, b"\x03" + bytes(1536))
        self._request(b"idle/%b/2" % session_id, b"\0")

    def _answer_to(self, target: bytes, body: bytes) -> bytes:
        self._request(target, body)
        response = bytearray()
        self._turning.until(lambda: self._receives(response))
        return bytes(response.partition(b"\r\n\r\n")[2])

    def _request(self, target: bytes, body: bytes) -> None:
        self._socket.sendall(_REQUEST % (target, len(body), body))
        self._turning.settle()

    def _receives(self, response: bytearray) -> bool:
        try:
            response += self._socket.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True


def start_worker(turning: Turning, folder: str, listening: socket.socket, port: int) -> Worker:
    """A worker that accepts connections on ``listening``, with a media server on ``port``."""
    configuration = loading.from_text("gateway.toml", _CONFIGURATION.format(port=port))
    place = Place("00", 0, folder, (listening.fileno(),), SharedCounts(make_memory(), 0))
    threshold = LevelFilter(LogPublisher(), "warn")
    worker = Worker(configuration, turning.reactor, place, threshold)
    worker.bind()
    started: list[object] = []
    Deferred.fromCoroutine(worker.start()).addBoth(started.append)
    turning.until(lambda: started)
    assert started == [None]
    return worker


def session_bytes(folder: str) -> int:
    """The bytes that Python allocates for each session."""
    turning = Turning()
    clients = [Client(turning) for _ in range(_FIRST + _SESSIONS)]
    listening = socket.create_server((_LOOPBACK, 0))
    upstream = socket.create_server((_LOOPBACK, 0), backlog=len(clients))
    worker = start_worker(turning, folder, listening, upstream.getsockname()[1])
    address = listening.getsockname()
    tracemalloc.start()
    for client in clients[:_FIRST]:
        client.open(address)
    before = _allocated_bytes()
    for client in clients[_FIRST:]:
        client.open(address)
    taken = _allocated_bytes() - before
    assert worker.sessions_by_protocol() == {"rtmpt": len(clients)}
    return taken // _SESSIONS


def _allocated_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(session_bytes(folder))
