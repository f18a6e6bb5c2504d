"""What a route by application or stream costs: at the connect, and after it.

    python -m tests.bench.routes

One gateway relays RTMP to a server, for clients of four addresses: without a route, by a route that reads
the connect, by one that rewrites it, and by one that reads the stream. A connect takes from C0 to its
answer, and a publish from C0 to the server's status. Then records of 2,500 bytes go to the server and
back, one at a time: the server echoes all that follows a publish. The ways take turns after each connect
and after a few records, so that a busy machine disturbs all of them alike; the figures are medians.
"""

from __future__ import annotations

import socket
import socketserver
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter

from attrs import Factory, define

from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.secure import start_configured
from tests.helpers.rtmp_client import Client

_CONFIGURATION = """workers = 1
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["127.0.0.1:{port}"]
[[route]]
client = "127.0.0.2"
application = "live"
upstream = "1"
[[route]]
client = "127.0.0.3"
application = "live"
upstream = "1"
[route.rewrite]
tc_url = "rtmp://other.example.org/live"
[[route]]
client = "127.0.0.4"
stream = "*"
upstream = "1"
"""
_WAYS = {
    "no route": "127.0.0.1",
    "application": "127.0.0.2",
    "rewritten": "127.0.0.3",
    "stream": "127.0.0.4",
}
_PUBLISHED = b"NetStream.Publish.Start"
_CONNECTS = 200
_TURNS = 300
_RECORDS_A_TURN = 20
_RECORD = bytes(2500)


@define
class _Figures:
    """Of one way, in seconds. ``processor_s``: of the worker for a record, by turn."""

    connect_s: list[float] = Factory(list)
    publish_s: list[float] = Factory(list)
    record_s: list[float] = Factory(list)
    processor_s: list[float] = Factory(list)


class _Server(socketserver.BaseRequestHandler):
    """A media server that echoes what follows a publish."""

    def handle(self) -> None:
        connection: socket.socket = self.request
        self._has_published = False
        handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
        media_server = ServerConnection(self, StreamTable(), handshake)
        while data := connection.recv(65536):
            if self._has_published:
                connection.sendall(data)
            else:
                media_server.receive(data, perf_counter())

    def write(self, data: bytes) -> None:
        self._has_published |= _PUBLISHED in data
        self.request.sendall(data)

    def close(self, cause: str) -> None:
        raise AssertionError(cause)


@contextmanager
def _media_server() -> Iterator[int]:
    """Yields its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Server) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class _Client:
    """A client of the gateway, from the address of a way."""

    def __init__(self, port: int, address: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10.0, (address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def publish(self) -> tuple[float, float]:
        """Begin to publish; how long it took to the answer to the connect, and to the status."""
        client = Client()
        began = perf_counter()
        self.socket.sendall(client.hello())
        while not client.handshaken:
            self.socket.sendall(client.receive(self.socket.recv(65536)))
        self._ask(client, client.connect("live"), b"_result")
        connected_s = perf_counter() - began
        self._ask(client, client.call("createStream", 2.0), b"_result")
        self._ask(client, client.call("publish", 3.0, "camera", stream_id=1), _PUBLISHED)
        return connected_s, perf_counter() - began

    def _ask(self, client: Client, question: bytes, answer: bytes) -> None:
        """Wait for the message that has ``answer``."""
        client.messages.clear()
        self.socket.sendall(question)
        while not any(answer in message.payload for message in client.messages):
            data = self.socket.recv(65536)
            assert data, "the gateway has closed the connection"
            client.receive(data)

    def exchange(self) -> float:
        """Send a record, and receive it."""
        began = perf_counter()
        self.socket.sendall(_RECORD)
        self._receive(len(_RECORD))
        return perf_counter() - began

    def _receive(self, least: int) -> int:
        received = 0
        while received < least:
            data = self.socket.recv(65536)
            assert data, "the gateway has closed the connection"
            received += len(data)
        return received


def _measure(port: int, worker: int) -> dict[str, _Figures]:
    figures = {way: _Figures() for way in _WAYS}
    for _ in range(_CONNECTS):
        for way, address in _WAYS.items():
            client = _Client(port, address)
            connect_s, publish_s = client.publish()
            figures[way].connect_s.append(connect_s)
            figures[way].publish_s.append(publish_s)
            client.socket.close()
    clients = {way: _Client(port, address) for way, address in _WAYS.items()}
    for client in clients.values():
        client.publish()
    for _ in range(_TURNS):
        for way, client in clients.items():
            before = _processor_s(worker)
            figures[way].record_s += [client.exchange() for _ in range(_RECORDS_A_TURN)]
            used_s = _processor_s(worker) - before
            figures[way].processor_s.append(used_s / _RECORDS_A_TURN)
    return figures


def _processor_s(pid: int) -> float:
    """The processor time of a process, which the kernel's scheduler counts in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def main() -> None:
    programs = Programs(Path(tempfile.mkdtemp()))
    try:
        with _media_server() as server:
            gateway = start_configured(programs, _CONFIGURATION.format(port=server), 1)
            (worker,) = gateway.program.children
            figures = _measure(gateway.ports[0], worker)
    finally:
        programs.stop()
    plain = figures["no route"]
    for way, found in figures.items():
        connect_ms, publish_ms = median(found.connect_s) * 1e3, median(found.publish_s) * 1e3
        more_connect_ms = connect_ms - median(plain.connect_s) * 1e3
        more_publish_ms = publish_ms - median(plain.publish_s) * 1e3
        record_us, processor_us = median(found.record_s) * 1e6, median(found.processor_s) * 1e6
        record = median(found.record_s) / median(plain.record_s)
        processor = median(found.processor_s) / median(plain.processor_s)
        print(
            f"{way}: connect {connect_ms:.2f} ms ({more_connect_ms:+.2f});"
            f" publish {publish_ms:.2f} ms ({more_publish_ms:+.2f}); record {record_us:.1f} us"
            f" ({record:.3f}); processor {processor_us:.1f} us a record ({processor:.3f})"
        )


if __name__ == "__main__":
    main()
