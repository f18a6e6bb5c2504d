"""What two workers do more than one, and what it costs that a command reaches the wrong one.

    python -m tests.bench.workers

First, gateways of one and of two workers answer polls, and send what the media server writes without pause.
The load takes the most of one core, so all workers share the other one, where they always have something to
do. The figure is what is done in a second of their processor time: if it is the same with two workers as
with one, two workers on two cores do twice the work.

Then a gateway of two workers answers polls of sessions that one worker owns: one poll at a time, and all
sessions at once. They come on connections of that worker; on connections of the other one, which began
with another session's open, so that their polls are forwarded; and on connections that the other one has
accepted and passed on, because they began with a poll. Last, each poll has a connection of its own, which
is passed on unless the poll says that it will be closed. The figures are ratios of one run; the least of
the rounds is the least disturbed.
"""

from __future__ import annotations

import os
import selectors
import signal
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
_SINGLE_POLLS = 400
# Until the other worker has offered all connections.
_STOP_S = 0.5
_START_S = 30.0


class Connection:
    """A connection, of this or of another worker."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Client(Connection):
    """A connection that began with the open of a session."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
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
        session: Client,
        connection: Connection,
        numbers: dict[bytes, int],
        field: bytes = b"",
    ) -> None:
        self._field = field
        self._session_id = session.session_id
        self._numbers = numbers
        self.socket = connection.socket

    def send(self) -> None:
        number = self._numbers[self._session_id]
        self._numbers[self._session_id] = number + 1
        target = b"/idle/%b/%d" % (self._session_id, number)
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

    def stop(self, worker: int, *, on: bool) -> None:
        """Have a worker accept no connections meanwhile."""
        os.kill(self._pids[worker], signal.SIGSTOP if on else signal.SIGCONT)

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


def passed_on(
    port: int, gateway: Gateway, own: Sequence[Client], numbers: dict[bytes, int]
) -> list[Poller]:
    """Pollers on connections that the worker which does not own their sessions has accepted."""
    gateway.stop(0, on=True)
    pollers = [Poller(client, Connection(port), numbers) for client in own]
    for poller in pollers:
        poller.send()
    sleep(_STOP_S)
    gateway.stop(0, on=False)
    for poller in pollers:
        poller.receive()
    return pollers


def sessions_of(port: int, gateway: Gateway, worker: int) -> list[Client]:
    """Clients of one worker."""
    gateway.stop(1 - worker, on=True)
    clients = [Client(port) for _ in range(_SESSIONS)]
    gateway.stop(1 - worker, on=False)
    return clients


def compare_workers(port: int, gateway: Gateway) -> None:
    """Print what polls cost at their own worker, forwarded, and on connections that were passed on."""
    own, other = (sessions_of(port, gateway, worker) for worker in (0, 1))
    # A worker that has its share of connections takes none from others.
    other += sessions_of(port, gateway, 1)
    if {client.worker for client in own} & {client.worker for client in other}:
        raise SystemExit("a stopped worker has accepted connections")
    numbers = dict.fromkeys((client.session_id for client in own), 0)
    kinds = {
        "at its own worker": [Poller(each, each, numbers) for each in own],
        "forwarded": [Poller(*each, numbers) for each in zip(own, other, strict=False)],
        "passed on": passed_on(port, gateway, own, numbers),
    }
    for name, measure in (("one at a time", one_at_a_time), ("flat out", flat_out)):
        rounds = [
            {kind: measure(pollers, gateway) for kind, pollers in kinds.items()}
            for _ in range(_ROUNDS)
        ]
        for index, what in enumerate(("latency", "processor")):
            least = {kind: min(each[kind][index] for each in rounds) for kind in kinds}
            print(f"{name}, {what}: " + _compared(least), flush=True)
    compare_single_polls(port, gateway, own[0], numbers)


def compare_single_polls(
    port: int, gateway: Gateway, session: Client, numbers: dict[bytes, int]
) -> None:
    """Print what polls on connections of their own cost; the other worker accepts half of these."""
    fields = {"forwarded": b"Connection: close\r\n", "passed on": b""}
    rounds = [
        {
            kind: single_polls(port, gateway, session, numbers, field)
            for kind, field in fields.items()
        }
        for _ in range(2 * _ROUNDS)
    ]
    for index, what in enumerate(("latency", "processor")):
        least = {kind: min(each[kind][index] for each in rounds) for kind in fields}
        print(f"a connection for each poll, {what}: " + _compared(least), flush=True)


def single_polls(
    port: int, gateway: Gateway, session: Client, numbers: dict[bytes, int], field: bytes
) -> tuple[float, float]:
    """Median time and processor time of a poll with its connection, in seconds."""
    times = []
    before = gateway.processor_s()
    for _ in range(_SINGLE_POLLS):
        began = perf_counter()
        connection = Connection(port)
        poller = Poller(session, connection, numbers, field)
        poller.send()
        poller.receive()
        connection.socket.close()
        times.append(perf_counter() - began)
    return median(times), (gateway.processor_s() - before) / len(times)


def _compared(least_s: dict[str, float]) -> str:
    """The figures, and their ratios to the first one."""
    first = next(iter(least_s.values()))
    return ", ".join(
        f"{value * 1e6:.0f} us {kind} (ratio {value / first:.2f})"
        for kind, value in least_s.items()
    )


def main() -> None:
    cores = choose_cores(real_time=False)
    with (
        tempfile.TemporaryDirectory(prefix="rtmpt-bench-") as folder,
        closing(Generator(compile_generator(Path(folder)), cores)) as generator,
    ):
        compare_numbers(generator, cores)
    with echo_server() as upstream, running(2, f"127.0.0.1:{upstream}") as (port, gateway):
        compare_workers(port, gateway)


if __name__ == "__main__":
    main()
