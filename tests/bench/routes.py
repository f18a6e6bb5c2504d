"""What a route by application costs: at the connect, and after it.

    python -m tests.bench.routes

One gateway relays RTMP to an echoing server, for clients of three addresses: without a route, by a route
that reads the connect, and by one that rewrites it. A connect takes from C0 to the server's answer.
Then records of 2,500 bytes go to the server and back, one at a time. The ways take turns after each connect
and after a few records, so that a busy machine disturbs all of them alike; the figures are medians.
"""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from attrs import Factory, define

from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, HANDSHAKE_BYTES
from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.secure import start_configured

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
"""
_WAYS = {"no route": "127.0.0.1", "application": "127.0.0.2", "rewritten": "127.0.0.3"}
_CONNECTS = 200
_TURNS = 300
_RECORDS_A_TURN = 20
_RECORD = bytes(2500)


@define
class _Figures:
    """Of one way, in seconds. ``processor_s``: of the worker for a record, by turn."""

    connect_s: list[float] = Factory(list)
    record_s: list[float] = Factory(list)
    processor_s: list[float] = Factory(list)


class _Client:
    """A client of the gateway, from the address of a way."""

    def __init__(self, port: int, address: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10.0, (address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writer = ChunkWriter()

    def connect(self) -> float:
        """Handshake and connect; how long they took until the first byte of the answer."""
        asked = Command("connect", 1.0, {"app": "live", "tcUrl": "rtmp://a/live"}).message()
        first = b"\x03" + os.urandom(BLOCK_BYTES)
        began = perf_counter()
        self.socket.sendall(first)
        received = self._receive(1 + BLOCK_BYTES)
        self.socket.sendall(first[1:] + self._writer.write(asked))
        self._receive(HANDSHAKE_BYTES + 1 - received)
        seconds = perf_counter() - began
        # So that the gateway needs to translate no more.
        self.socket.sendall(self._writer.write(Command("createStream", 2.0).message()))
        self._drain()
        return seconds

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

    def _drain(self) -> None:
        self.socket.settimeout(0.02)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            self.socket.settimeout(10.0)


def _measure(port: int, worker: int) -> dict[str, _Figures]:
    figures = {way: _Figures() for way in _WAYS}
    for _ in range(_CONNECTS):
        for way, address in _WAYS.items():
            client = _Client(port, address)
            figures[way].connect_s.append(client.connect())
            client.socket.close()
    clients = {way: _Client(port, address) for way, address in _WAYS.items()}
    for client in clients.values():
        client.connect()
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
        with echo_server() as server:
            gateway = start_configured(programs, _CONFIGURATION.format(port=server), 1)
            (worker,) = gateway.program.children
            figures = _measure(gateway.ports[0], worker)
    finally:
        programs.stop()
    plain = figures["no route"]
    for way, found in figures.items():
        connect_ms = median(found.connect_s) * 1e3
        more_ms = connect_ms - median(plain.connect_s) * 1e3
        record_us, processor_us = median(found.record_s) * 1e6, median(found.processor_s) * 1e6
        record = median(found.record_s) / median(plain.record_s)
        processor = median(found.processor_s) / median(plain.processor_s)
        print(
            f"{way}: connect {connect_ms:.2f} ms ({more_ms:+.2f}); record {record_us:.1f} us"
            f" ({record:.3f}); processor {processor_us:.1f} us a record ({processor:.3f})"
        )


if __name__ == "__main__":
    main()
