"""What it costs that a gateway reaches another one by RTMPT, instead of by plain RTMP.

    python -m tests.bench.chains

The clients speak RTMP with the near gateway, whose media server is the far one. Both gateways are relays or
tunnels of the same records; each has one worker on the core of the targets. The figures are those of one
gateway alone, of two by RTMP, and of two by RTMPT; processor times are of both gateways.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from threading import Thread
from time import monotonic, sleep

from tests.bench.generator import Generator, compile_generator
from tests.bench.machine import Cores, choose_cores
from tests.bench.scenarios import Result, Rounds
from tests.bench.targets import RunningTarget
from tests.bench.workers import Gateway, running

_ROUNDS = 5
_LOAD = {"play": 50, "publish": 50, "records_per_s": 50, "pause_ms": 50}
_TIMES = Rounds(1, warm_s=1.0, measure_s=4.0)
# The schemes by which gateways reach each other; "" is one gateway.
_WAYS = ("", "rtmp", "rtmpt")
_FIGURES = ("down_p50_us", "down_p99_us", "up_p50_us", "up_p99_us")


@contextmanager
def chain(way: str, upstream: int, cores: Cores) -> Iterator[tuple[int, list[Gateway]]]:
    """Yields the port of the near gateway, and all gateways."""
    with ExitStack() as stack:
        server, gateways = f"127.0.0.1:{upstream}", []
        for scheme in ("rtmp", way) if way else ("rtmp",):
            port, gateway = stack.enter_context(running(1, f"{scheme}://{server}", '"low"'))
            gateway.place(cores)
            gateways.append(gateway)
            server = f"127.0.0.1:{port}"
        yield port, gateways


class Sampler(Thread):
    """The share of a core that the gateways use in the middle of a run."""

    def __init__(self, gateways: list[Gateway]) -> None:
        super().__init__()
        self._gateways = gateways
        self.share = 0.0
        self.start()

    def run(self) -> None:
        sleep(_TIMES.warm_s + _TIMES.measure_s / 4)
        before, began = self._processor_s(), monotonic()
        sleep(_TIMES.measure_s / 2)
        self.share = (self._processor_s() - before) / (monotonic() - began)

    def _processor_s(self) -> float:
        return sum(gateway.processor_s() for gateway in self._gateways)


def measure(way: str, generator: Generator, cores: Cores) -> Result:
    with chain(way, generator.upstream_port, cores) as (port, gateways):
        sampler = Sampler(gateways)
        target = RunningTarget(os.getpid(), port, rtmpt=False)
        result = generator.run(target, _LOAD, _TIMES)
        sampler.join()
    return {name: result[name] for name in _FIGURES} | {"processor": 100 * sampler.share}


def main() -> None:
    cores = choose_cores(real_time=False)
    found: dict[str, list[Result]] = {way: [] for way in _WAYS}
    with (
        tempfile.TemporaryDirectory(prefix="rtmpt-bench-") as folder,
        closing(Generator(compile_generator(Path(folder)), cores)) as generator,
    ):
        for _ in range(_ROUNDS):
            for way, results in found.items():
                results.append(measure(way, generator, cores))
    for way, results in found.items():
        figures = {name: median(each[name] for each in results) for name in results[0]}
        title = f"two gateways, {way} between" if way else "one gateway"
        print(f"{title}: {', '.join(f'{name} {value:.0f}' for name, value in figures.items())}")


if __name__ == "__main__":
    main()
