"""The cost of a command that reaches another worker than its session's.

    python -m tests.bench.workers

A gateway of two workers answers polls of sessions that one worker owns, on connections of that worker and
of the other one: one poll at a time, and all sessions at once. The figures are ratios of one run, since
both processes and the clients share the machine; the least of the rounds is the least disturbed.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter

from tests.helpers.interop.echo import echo_server

_CHECKOUT = Path(__file__).resolve().parents[2]
_CONFIGURATION = """workers = 2
[[listener]]
address = "127.0.0.1:{port}"
[[upstream]]
servers = ["127.0.0.1:{upstream}"]
[tunnel]
latency = 0
"""
_SESSIONS = 20
_ROUNDS = 5
_POLLS = 2000
_FLAT_OUT_S = 2.0
_START_S = 30.0


class Client:
    """A connection with one session, of this or of another worker."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.session_id = self.post(b"/open/1").strip()
        self._number = 0

    @property
    def worker(self) -> bytes:
        return self.session_id[:4]

    def post(self, target: bytes) -> bytes:
        self.socket.sendall(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0" % target)
        return self.socket.recv(65536).partition(b"\r\n\r\n")[2]


class Poller:
    """Polls a session on a connection."""

    def __init__(self, session: Client, connection: Client, numbers: dict[bytes, int]) -> None:
        self._session_id = session.session_id
        self._numbers = numbers
        self.socket = connection.socket

    def send(self) -> None:
        number = self._numbers[self._session_id]
        self._numbers[self._session_id] = number + 1
        target = b"/idle/%b/%d" % (self._session_id, number)
        self.socket.sendall(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0" % target)


class Gateway:
    """The processor time of both workers."""

    def __init__(self, pid: int) -> None:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._schedules = [Path(f"/proc/{child}/schedstat") for child in children]

    def processor_s(self) -> float:
        return sum(int(each.read_text().split()[0]) for each in self._schedules) / 1e9


@contextmanager
def running() -> Iterator[tuple[int, Gateway]]:
    """Yields the port of a gateway of two workers."""
    with echo_server() as upstream, tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        file = Path(folder, "gateway.toml")
        file.write_text(_CONFIGURATION.format(port=port, upstream=upstream))
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["-n", "--pidfile=", "rtmpt-gateway", "--config", str(file)]
        environment = os.environ | {"PYTHONPATH": str(_CHECKOUT)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            _await_open(port)
            yield port, Gateway(process.pid)
        finally:
            process.terminate()
            process.wait()


def _await_open(port: int) -> None:
    """Wait until both workers accept clients."""
    give_up_at = monotonic() + _START_S
    seen = set()
    while monotonic() < give_up_at:
        try:
            clients = [Client(port) for _ in range(20)]
        except OSError:
            continue
        seen |= {client.worker for client in clients}
        for client in clients:
            client.socket.close()
        if len(seen) == 2:
            return
    raise SystemExit("the gateway did not start")


def one_at_a_time(pollers: Sequence[Poller], gateway: Gateway) -> tuple[float, float]:
    """Median latency and processor time of a poll, in seconds."""
    times = []
    before = gateway.processor_s()
    for number in range(_POLLS):
        poller = pollers[number % len(pollers)]
        began = perf_counter()
        poller.send()
        poller.socket.recv(65536)
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
                key.data.socket.recv(65536)
                key.data.send()
                polls += 1
        took = monotonic() - began
        for poller in pollers:
            poller.socket.recv(65536)
    return took * len(pollers) / polls, (gateway.processor_s() - before) / polls


def main() -> None:
    with running() as (port, gateway):
        clients = [Client(port) for _ in range(4 * _SESSIONS)]
        workers = sorted({client.worker for client in clients})
        own, other = (
            [client for client in clients if client.worker == worker][:_SESSIONS]
            for worker in workers
        )
        numbers = dict.fromkeys((client.session_id for client in clients), 0)
        right = [Poller(each, each, numbers) for each in own]
        wrong = [Poller(*each, numbers) for each in zip(own, other, strict=True)]
        for name, measure in (("one at a time", one_at_a_time), ("flat out", flat_out)):
            rounds = [(measure(right, gateway), measure(wrong, gateway)) for _ in range(_ROUNDS)]
            for index, what in enumerate(("latency", "processor")):
                at_own, at_other = (min(each[side][index] for each in rounds) for side in (0, 1))
                print(
                    f"{name}, {what}: {at_own * 1e6:.0f} us at its own worker, {at_other * 1e6:.0f}"
                    f" us at the other, ratio {at_other / at_own:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
