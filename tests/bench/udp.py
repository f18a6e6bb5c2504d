"""What relaying a datagram costs, against nginx's stream module.

    python -m tests.bench.udp

Datagrams of 1,200 bytes go to an echoing server and back, directly, through nginx, and through the gateway
with one worker. The ways take turns after a few datagrams, so that a busy machine disturbs all of them
alike; the figures are medians over the turns.

- *round trip*: one datagram at a time, of one client.
- *processor*: the relay's processor time for a datagram and its echo, with 16 in flight. A core relays at
  most two datagrams in that time, so its reciprocal is the rate at which the relay is the limit.
- *new client*: from a client's first datagram to its echo.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

from attrs import Factory, define

from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK, port_said, run_gateway

_GATEWAY = """workers = 1
[[listener]]
address = "127.0.0.1:0"
[[udp]]
address = "127.0.0.1:0"
server = "127.0.0.1:{server}"
sessions_per_address = 1000
"""
_NGINX = """load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
stream {{
    server {{ listen 127.0.0.1:{port} udp; proxy_pass 127.0.0.1:{server}; }}
}}
"""
_DATAGRAM = bytes(1200)
_CLIENTS = (1, 100)
_TURNS = 150
_TRIPS_A_TURN = 20
_BURSTS_A_TURN = 10
_IN_FLIGHT = 16


@define
class _Figures:
    """Of one way, in seconds: of each round trip and new client, and the processor time by turn."""

    trip_s: list[float] = Factory(list)
    new_s: list[float] = Factory(list)
    processor_s: list[float] = Factory(list)


@define
class _Way:
    """``relay``: the process id of the relay; 0 for none."""

    port: int
    relay: int
    clients: list[socket.socket] = Factory(list)
    figures: _Figures = Factory(_Figures)

    def open(self) -> float:
        """A new client; how long its first datagram takes to come back."""
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((LOOPBACK, self.port))
        client.settimeout(10.0)
        began = perf_counter()
        _exchange(client, 1)
        seconds = perf_counter() - began
        # An address that repeats its datagram is not proven.
        client.send(b"proof")
        client.recv(2048)
        self.clients.append(client)
        return seconds

    def turn(self, number: int) -> None:
        first = self.clients[0]
        for _ in range(_TRIPS_A_TURN):
            began = perf_counter()
            _exchange(first, 1)
            self.figures.trip_s.append(perf_counter() - began)
        before = self._processor_s()
        for burst in range(_BURSTS_A_TURN):
            client = self.clients[(number * _BURSTS_A_TURN + burst) % len(self.clients)]
            _exchange(client, _IN_FLIGHT)
        used_s = self._processor_s() - before
        self.figures.processor_s.append(used_s / _BURSTS_A_TURN / _IN_FLIGHT)

    def _processor_s(self) -> float:
        """The relay's processor time, which the kernel's scheduler counts in nanoseconds."""
        if not self.relay:
            return 0.0
        return int(Path(f"/proc/{self.relay}/schedstat").read_text().split()[0]) / 1e9


def _exchange(client: socket.socket, number: int) -> None:
    for _ in range(number):
        client.send(_DATAGRAM)
    for _ in range(number):
        client.recv(2048)


def _echo(server: socket.socket) -> None:
    buffer = bytearray(2048)
    view = memoryview(buffer)
    while True:
        size, client = server.recvfrom_into(buffer)
        server.sendto(view[:size], client)


@contextmanager
def _echo_server() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK, 0))
        process = multiprocessing.Process(target=_echo, args=(server,))
        process.start()
        try:
            yield server.getsockname()[1]
        finally:
            process.kill()
            process.join()


def _start_gateway(programs: Programs, server: int) -> _Way:
    file = programs.new_folder("configuration") / "gateway.toml"
    file.write_text(_GATEWAY.format(server=server))
    gateway = run_gateway(programs, "--config", str(file))
    gateway.says("ready: ")
    (worker,) = gateway.children
    return _Way(port_said(gateway, f"receiving datagrams on {LOOPBACK}:"), worker)


def _start_nginx(programs: Programs, server: int) -> _Way:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    folder = programs.new_folder("nginx")
    (folder / "nginx.conf").write_text(_NGINX.format(port=port, server=server))
    options = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")
    nginx = programs.start("nginx", *options)
    until((folder / "nginx.pid").exists, "nginx has read its configuration")
    return _Way(port, nginx.pid)


def _measure(ways: dict[str, _Way], clients: int) -> None:
    for way in ways.values():
        way.figures = _Figures()
    for _ in range(clients - len(ways["direct"].clients)):
        for way in ways.values():
            way.figures.new_s.append(way.open())
    for number in range(_TURNS):
        for way in ways.values():
            way.turn(number)


def _show(ways: dict[str, _Way], clients: int) -> None:
    nginx = ways["nginx"].figures
    direct_s = median(ways["direct"].figures.trip_s)
    for name, way in ways.items():
        found = way.figures
        trip_s, new_s = median(found.trip_s), median(found.new_s)
        processor_s, of_nginx_s = median(found.processor_s), median(nginx.processor_s)
        print(
            f"{clients} clients, {name}: round trip {trip_s * 1e6:.1f} us"
            f" (+{(trip_s - direct_s) * 1e6:.1f}; {trip_s / median(nginx.trip_s):.2f} of nginx);"
            f" new client {new_s * 1e6:.0f} us; processor {processor_s * 1e6:.1f} us"
            f" ({processor_s / of_nginx_s:.2f} of nginx)"
            + (f", {2 / processor_s:,.0f} datagrams a second and core" if processor_s else "")
        )


def main() -> None:
    programs = Programs(Path(tempfile.mkdtemp()))
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    try:
        with _echo_server() as server:
            ways = {
                "direct": _Way(server, 0),
                "nginx": _start_nginx(programs, server),
                "gateway": _start_gateway(programs, server),
            }
            for clients in _CLIENTS:
                _measure(ways, clients)
                _show(ways, clients)
    finally:
        programs.stop()


if __name__ == "__main__":
    main()
