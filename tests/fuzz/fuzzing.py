"""One fuzzed target: what atheris calls, and the figures at its end.

One input in 64 is also tried as its own repetition of 64 KiB, which shows what takes quadratic time. Code
that atheris has instrumented is slower, so the slowest input is measured again in another process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.measurement import MOST_BYTES, MOST_MEMORY_BYTES, MOST_S, cpu_s

# Of libFuzzer. The second and third are limits on the process, and on one allocation.
OPTIONS = (
    f"-max_len={MOST_BYTES}",
    "-rss_limit_mb=1024",
    f"-malloc_limit_mb={MOST_MEMORY_BYTES >> 20}",
)
# Instrumented code takes twice as long, and more beside other programs.
_INSTRUMENTED = 5
_REPEATED = 64


class Fuzzing:
    """Makes ``runs`` runs of a target."""

    def __init__(self, name: str, run: Callable[[bytes], None], runs: int) -> None:
        self._name = name
        self._run = run
        self._wanted = runs
        self._runs = self._bytes = 0
        self._slowest, self._slowest_s = b"", 0.0
        self._started = time.monotonic()

    def take(self, data: bytes) -> None:
        """An input from atheris. After the last one, the process ends."""
        self._try(data)
        if data and self._runs % _REPEATED == 0:
            self._try((data * (MOST_BYTES // len(data) + 1))[:MOST_BYTES])
        if self._runs >= self._wanted:
            # Neither an exception nor sys.exit ends atheris without a finding.
            os._exit(self._report())

    def _try(self, data: bytes) -> None:
        self._runs += 1
        self._bytes += len(data)
        seconds = cpu_s(self._run, data)
        if seconds > self._slowest_s:
            # Once more: garbage collection, or another program, can have taken the time.
            seconds = min(seconds, cpu_s(self._run, data))
        if seconds > self._slowest_s:
            self._slowest, self._slowest_s = data, seconds
        if seconds > MOST_S * _INSTRUMENTED:
            raise AssertionError(f"{seconds:.3f} s for {len(data)} bytes")

    def _report(self) -> int:
        """Print the figures. Returns the exit status."""
        rate = self._runs / (time.monotonic() - self._started)
        print(
            f"{self._name}: {self._runs} runs, {self._bytes} bytes, {rate:.0f} a second", flush=True
        )
        slowest = Path(f"slowest-{self._name}")
        slowest.write_bytes(self._slowest)
        command = [sys.executable, "-m", "tests.fuzz", self._name, str(slowest)]
        status = subprocess.run(command, check=False).returncode
        if not status:
            slowest.unlink()
        return status
