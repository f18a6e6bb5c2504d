"""What two workers do more than one, and what it costs that a command reaches the wrong one.

    python -m tests.bench.workers

First, gateways of one and of two workers answer polls, and send what the media server writes without pause.
The load takes the most of one core, so all workers share the other one, where they always have something to
do. The figure is what is done in a second of their processor time: if it is the same with two workers as
with one, two workers on two cores do twice the work.

Then a gateway of two workers answers polls of sessions that one worker owns, on connections of that worker
and of the other one: one poll at a time, and all sessions at once. The figures are ratios of one run; the
least of the rounds is the least disturbed.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from threading import Thread
from time import monotonic, perf_counter, sleep

from tests.bench.generator import Generator, compile_generator
from tests.bench.machine import Cores, choose_cores
from tests.bench.scenarios import Rounds
from tests.bench.targets import RunningTarget
from tests.helpers.interop.echo import echo_server

_CHECKOUT = Path(__file__).resolve().parents[2]
_CONFIGURATION = """workers = {workers}
[[listener]]
address = "127.0.0.1:{port}"
[[upstream]]
servers = ["{server}"]
[tunnel]
latency = {latency}
"""
_SESSIONS = 20
_ROUNDS = 5
_POLLS = 2000
# Clients that never sleep, so that the workers always have something to do.
_POLLING = {"quiet": 200, "pause_ms": 0, "spin": 1}
_SENDING = {"flood_down": 20, "pause_ms": 50}
_LOAD = Rounds(1, warm_s=1.0, measure_s=4.0)
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

    def receive(self) -> None:
        """Take the whole answer."""
        answer = self.socket.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        left = length - len(body)
        while left:
            left -= len(self.socket.recv(left))


class Gateway:
    """The processor time of its workers."""

    def __init__(self, pid: int) -> None:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._pids = [int(child) for child in children]
        self._schedules = [Path(f"/proc/{child}/schedstat") for child in children]

    def place(self, cores: Cores) -> None:
        """Have all workers run on the core that is for what is measured."""
        for pid in self._pids:
            cores.place_target(pid)

    def processor_s(self) -> float:
        return sum(int(each.read_text().split()[0]) for each in self._schedules) / 1e9


@contextmanager
def running(workers: int, server: str, latency: str = "0") -> Iterator[tuple[int, Gateway]]:
    """Yields the port of a gateway of that many workers, in front of ``server``."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        file = Path(folder, "gateway.toml")
        file.write_text(
            _CONFIGURATION.format(workers=workers, port=port, server=server, latency=latency)
        )
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["-n", "--pidfile=", "rtmpt-gateway", "--config", str(file)]
        environment = os.environ | {"PYTHONPATH": str(_CHECKOUT)}
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output)
        try:
            _await_ready(log)
            yield port, Gateway(process.pid)
        finally:
            process.terminate()
            process.wait()


def _await_ready(log: Path) -> None:
    """Wait until all workers accept clients."""
    give_up_at = monotonic() + _START_S
    while b"ready: " not in log.read_bytes():
        if monotonic() > give_up_at:
            raise SystemExit(f"the gateway did not start:\n{log.read_text()}")
        sleep(0.05)


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


class Sampler(Thread):
    """Measures the processor time that the workers use in each second of a part of a run."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self.share = 0.0
        self.start()

    def run(self) -> None:
        sleep(_LOAD.warm_s + _LOAD.measure_s / 4)
        before, began = self._gateway.processor_s(), monotonic()
        sleep(_LOAD.measure_s / 2)
        self.share = (self._gateway.processor_s() - before) / (monotonic() - began)


def compare_numbers(generator: Generator, cores: Cores) -> None:
    """Print what workers do in a second of their processor time, with one of them and with two."""
    for name, load, of in (
        ("polls", _POLLING, "answers"),
        ("records of 2,500 bytes", _SENDING, "records"),
    ):
        found: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(_ROUNDS):
            for workers, done in found.items():
                with running(workers, f"127.0.0.1:{generator.upstream_port}") as (port, gateway):
                    gateway.place(cores)
                    sampler = Sampler(gateway)
                    result = generator.run(
                        RunningTarget(os.getpid(), port, rtmpt=True), load, _LOAD
                    )
                    sampler.join()
                    done.append(result[of] / result["wall_s"] / sampler.share)
                    print(
                        f"  {name}, workers {workers}: {result[of] / result['wall_s']:,.0f} a second with "
                        f"{100 * sampler.share:.0f} % of a core",
                        flush=True,
                    )
        one, two = median(found[1]), median(found[2])
        print(
            f"{name}: {one:,.0f} a processor second with one worker, {two:,.0f} with two:"
            f" two cores do {2 * two / one:.2f} times the work of one",
            flush=True,
        )


def main() -> None:
    cores = choose_cores(real_time=False)
    with (
        tempfile.TemporaryDirectory(prefix="rtmpt-bench-") as folder,
        closing(Generator(compile_generator(Path(folder)), cores)) as generator,
    ):
        compare_numbers(generator, cores)
    with echo_server() as upstream, running(2, f"127.0.0.1:{upstream}") as (port, gateway):
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
