"""One fuzzed target: what atheris calls, and the figures at its end.

Inputs become long in three ways: each seed is also there in repetition (``LONG_SEED_BYTES``), the length of
inputs is not limited to that of the seeds, and one input in 64 is also tried as its own repetition of
``MOST_BYTES``, which shows what takes quadratic time. Code that atheris has instrumented is slower, so slow
inputs are measured again in another process, and the slowest one at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.measurement import MOST_BYTES, MOST_MEMORY_BYTES, MOST_S, cpu_s
from tests.fuzz.target import Target

# Of libFuzzer. Inputs can be long from the beginning, and are not replaced by shorter ones that reach the
# same. The last two are limits on the process, and on one allocation.
OPTIONS = (
    f"-max_len={MOST_BYTES}",
    "-len_control=0",
    "-reduce_inputs=0",
    "-rss_limit_mb=1024",
    f"-malloc_limit_mb={MOST_MEMORY_BYTES >> 20}",
)
# Instrumented code takes up to 25 times as long. An input that takes longer than this is measured again in
# another process, and then one that takes longer than it by as much as times vary.
_SUSPICIOUS_S = 5 * MOST_S
_VARIATION = 1.5
_REPEATED = 64
# Several of the pieces in which a stream arrives, and of most messages. Longer ones cost more runs than
# they find.
LONG_SEED_BYTES = 8 * 1024


def measure_elsewhere(name: str, data: bytes) -> bool:
    """Measure an input without atheris, and print its figures. Returns whether it is within the bounds.

    If it is not, a file is left with it.
    """
    file = Path(f"slowest-{name}")
    file.write_bytes(data)
    command = [sys.executable, "-m", "tests.fuzz", name, str(file)]
    is_within_bounds = subprocess.run(command, check=False).returncode == 0
    if is_within_bounds:
        file.unlink()
    return is_within_bounds


class Fuzzing:
    """Makes at least ``runs`` runs of a target, with at least ``size_bytes`` of input in all.

    ``measure_again``: as ``measure_elsewhere``.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        runs: int,
        size_bytes: int = 0,
        measure_again: Callable[[str, bytes], bool] = measure_elsewhere,
    ) -> None:
        self._name = name
        self._target = target
        self._wanted_runs = runs
        self._wanted_bytes = size_bytes
        self._runs = self._bytes = 0
        self._measure_again = measure_again
        self._slowest, self._slowest_s = b"", 0.0
        self._suspicious_s = _SUSPICIOUS_S
        self._started = time.monotonic()

    def take(self, data: bytes) -> None:
        """An input from atheris. After the last one, the process ends."""
        self.run(data)
        if self.is_complete:
            # Neither an exception nor sys.exit ends atheris without a finding.
            os._exit(self._report())

    def run(self, data: bytes) -> None:
        """Run the target with ``data``, and sometimes with its repetition. Raises on a finding."""
        self._try(data)
        if data and self._runs % _REPEATED == 0:
            self._try(self._target.repeat(data, MOST_BYTES))

    @property
    def is_complete(self) -> bool:
        return self._runs >= self._wanted_runs and self._bytes >= self._wanted_bytes

    def _try(self, data: bytes) -> None:
        self._runs += 1
        self._bytes += len(data)
        seconds = cpu_s(self._target.run, data)
        if seconds > self._slowest_s:
            # Once more: garbage collection, or another program, can have taken the time.
            seconds = min(seconds, cpu_s(self._target.run, data))
        if seconds > self._slowest_s:
            self._slowest, self._slowest_s = data, seconds
        if seconds > self._suspicious_s:
            self._suspicious_s = _VARIATION * seconds
            if not self._measure_again(self._name, data):
                raise AssertionError(f"too much time or memory for {len(data)} bytes")

    def _report(self) -> int:
        """Print the figures. Returns the exit status."""
        rate = self._runs / (time.monotonic() - self._started)
        print(
            f"{self._name}: {self._runs} runs, {self._bytes} bytes, {rate:.0f} a second", flush=True
        )
        return 0 if self._measure_again(self._name, self._slowest) else 1
