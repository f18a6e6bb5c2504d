"""What two workers do more than one.

    python -m tests.bench.workers

Gateways of one and of two workers answer polls, and send what the media server writes without pause. The
load takes the most of one core, so all workers share the other one, where they always have something to do.
The figure is what is done in a second of their processor time: if it is the same with two workers as with
one, two workers on two cores do twice the work.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from threading import Thread
from time import monotonic, sleep

from tests.bench.generator import Generator, compile_generator
from tests.bench.machine import Cores, choose_cores
from tests.bench.running_gateway import Gateway, running
from tests.bench.scenarios import Rounds
from tests.bench.targets import RunningTarget

_ROUNDS = 5
# Clients that never sleep, so that the workers always have something to do.
_POLLING = {"quiet": 200, "pause_ms": 0, "spin": 1}
_SENDING = {"flood_down": 20, "pause_ms": 50}
_LOAD = Rounds(1, warm_s=1.0, measure_s=4.0)


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


if __name__ == "__main__":
    main()
