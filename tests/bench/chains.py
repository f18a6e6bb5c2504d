"""What it costs that a gateway reaches another one by RTMPT, instead of by plain RTMP.

    python -m tests.bench.chains

The clients speak RTMP with the near gateway, whose media server is the far one; each has one worker. First,
one session at a time sends a record, and waits for it to come back from a server that echoes: the times of
the least disturbed round. Then a load of many sessions: the processor time of all gateways, the median of
the rounds.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from tests.bench.generator import Generator, compile_generator
from tests.bench.machine import Cores, choose_cores
from tests.bench.running_gateway import Gateway, running
from tests.bench.scenarios import Rounds
from tests.bench.targets import RunningTarget
from tests.helpers.interop.echo import echo_server

_ROUNDS = 5
_RECORDS = 400
_RECORD_BYTES = 2500
# Longer than a record takes, so that each one finds the chain idle.
_PAUSE_S = 0.005
_LOAD = {"play": 50, "publish": 50, "records_per_s": 50, "pause_ms": 50}
_TIMES = Rounds(1, warm_s=1.0, measure_s=4.0)
# The schemes by which gateways reach each other; "" is one gateway.
_WAYS = {"": "one gateway", "rtmp": "two, by RTMP", "rtmpt": "two, by RTMPT"}


@contextmanager
def chain(way: str, upstream: int, cores: Cores | None) -> Iterator[tuple[int, list[Gateway]]]:
    """Yields the port of the near gateway, and all gateways, which share a core if ``cores`` are given."""
    with ExitStack() as stack:
        server, gateways = f"127.0.0.1:{upstream}", []
        for scheme in ("rtmp", way) if way else ("rtmp",):
            port, gateway = stack.enter_context(running(1, f"{scheme}://{server}", '"low"'))
            if cores is not None:
                gateway.place(cores)
            gateways.append(gateway)
            server = f"127.0.0.1:{port}"
        yield port, gateways


def round_trips(port: int) -> tuple[float, float]:
    """Median and 99th percentile of the time that a record takes to come back, in seconds."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as session:
        session.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The beginning of a handshake.
        for record in (b"\x03" + bytes(1536), *[bytes(_RECORD_BYTES)] * _RECORDS):
            began = perf_counter()
            session.sendall(record)
            left = len(record)
            while left:
                left -= len(session.recv(left))
            times.append(perf_counter() - began)
            sleep(_PAUSE_S)
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


def compare_round_trips() -> None:
    with echo_server() as upstream, ExitStack() as stack:
        ports = {way: stack.enter_context(chain(way, upstream, None))[0] for way in _WAYS}
        found = {way: [round_trips(port) for port in [ports[way]] * _ROUNDS] for way in _WAYS}
    for way, rounds in found.items():
        middle, tail = (1e6 * min(each[index] for each in rounds) for index in (0, 1))
        print(
            f"{_WAYS[way]}: round trip {middle:.0f} us, 99th percentile {tail:.0f} us", flush=True
        )


def compare_processors() -> None:
    cores = choose_cores(real_time=False)
    with (
        tempfile.TemporaryDirectory(prefix="rtmpt-bench-") as folder,
        closing(Generator(compile_generator(Path(folder)), cores)) as generator,
    ):
        for way, name in _WAYS.items():
            shares = [processor_share(way, generator, cores) for _ in range(_ROUNDS)]
            print(f"{name}: processor {100 * median(shares):.0f} % of a core", flush=True)


def processor_share(way: str, generator: Generator, cores: Cores) -> float:
    """The processor time of all gateways in a second of a run; opening and draining are included."""
    with chain(way, generator.upstream_port, cores) as (port, gateways):
        before = sum(gateway.processor_s() for gateway in gateways)
        result = generator.run(RunningTarget(os.getpid(), port, rtmpt=False), _LOAD, _TIMES)
        used_s = sum(gateway.processor_s() for gateway in gateways) - before
    return used_s / (result["wall_s"] + _TIMES.warm_s)


def main() -> None:
    compare_round_trips()
    compare_processors()


if __name__ == "__main__":
    main()
