"""What a scrape of thousands of sessions costs the records of other tunnels.

    python -m tests.bench.scrape [SESSIONS]

A gateway of one worker has that many sessions that poll seldom (5,000 if not said), and twenty viewers. In
turns, nobody scrapes, /metrics is scraped every five seconds, and /metrics/sessions with the series of all
sessions is. Supervisor and worker share a core, and the load has the other one.
"""

from __future__ import annotations

import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter

from attrs import evolve

from .contenders import RTMPT
from .generator import Generator, compile_generator
from .machine import choose_cores, description, raise_open_files
from .scenarios import Rounds
from .targets import Bench, free_port, running

_SESSIONS = 5000
_EVERY_S = 5.0
_ROUNDS = 3
_ROUND = Rounds(1, warm_s=2.0, measure_s=16.0)
_SETTINGS = """[tunnel]
latency = 4
[telemetry]
session_series = {sessions}
[admin]
address = "127.0.0.1:{port}"
"""
_PATHS = ("", "/metrics", "/metrics/sessions")


@contextmanager
def scraping(url: str) -> Iterator[list[float]]:
    """Yields the seconds that each scrape has taken."""
    took: list[float] = []
    over = Event()

    def scrape() -> None:
        while not over.wait(_EVERY_S):
            began = perf_counter()
            with urllib.request.urlopen(url, timeout=60) as answer:
                answer.read()
            took.append(perf_counter() - began)

    scraper = Thread(target=scrape)
    if url:
        scraper.start()
    yield took
    over.set()
    if url:
        scraper.join()


def main(sessions: int) -> None:
    raise_open_files()
    print(f"{description()}, {sessions} sessions", flush=True)
    cores = choose_cores(real_time=False)
    load = {"quiet": sessions, "play": 20, "records_per_s": 50, "pause_ms": 50}
    with tempfile.TemporaryDirectory(prefix="rtmpt-bench-") as folder:
        generator = Generator(compile_generator(Path(folder)), cores)
        with closing(generator):
            bench = Bench(generator.upstream_port, cores, Path(folder), None)
            found: dict[str, list[float]] = {path: [] for path in _PATHS}
            for _ in range(_ROUNDS):
                for path, latencies in found.items():
                    latencies.append(_measure(generator, bench, load, path))
    without = median(found[""])
    for path, latencies in found.items():
        p99 = median(latencies)
        print(f"{path or 'none'}: p99 {p99:.2f} ms, {p99 - without:+.2f} ms", flush=True)


def _measure(generator: Generator, bench: Bench, load: dict[str, int], path: str) -> float:
    """The 99th percentile of the viewers' latency, in milliseconds."""
    port = free_port()
    settings = _SETTINGS.format(sessions=load["quiet"] + load["play"], port=port)
    with (
        running(evolve(RTMPT, settings=settings), bench) as target,
        scraping(f"http://127.0.0.1:{port}{path}" if path else "") as took,
    ):
        result = generator.run(target, load, _ROUND)
    longest = f", longest scrape {max(took):.2f} s" if took else ""
    print(
        f"  {path or 'none'}: p50 {result['down_p50_us'] / 1000:.2f} ms, "
        f"p99 {result['down_p99_us'] / 1000:.2f} ms{longest}, foreign {result['foreign']:.2f}",
        flush=True,
    )
    return result["down_p99_us"] / 1000


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _SESSIONS)
