"""The machine: its cores, limits and load, and its description in a report."""

from __future__ import annotations

import datetime
import os
import platform
import resource
from pathlib import Path

from attrs import frozen

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Two sockets a session in the generator and in the target, three thousand sessions, and some.
_NEEDED_FILES = 8192


@frozen
class Cores:
    """The cores of the generator and of the target; and whether both run with priority."""

    load: int
    target: int
    real_time: bool = False

    @property
    def shared(self) -> bool:
        return self.load == self.target

    def place_load(self, pid: int) -> None:
        self._place(pid, self.load)

    def place_target(self, pid: int) -> None:
        self._place(pid, self.target)

    def _place(self, pid: int, core: int) -> None:
        os.sched_setaffinity(pid, {core})
        if self.real_time:
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


def choose_cores(real_time: bool) -> Cores:
    """The first core, which gets most interrupts, for the generator; the last for the target."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1], real_time)


def raise_open_files() -> bool:
    """Raise the open-file limit of this process and its children. Returns whether it is sufficient."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most >= _NEEDED_FILES


def busy_s() -> float:
    """Processor time that the whole machine has spent, in seconds, including time taken by a host."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _wait, irq, softirq, stolen = ticks[:8]
    return (user + nice + system + irq + softirq + stolen) / _TICKS_PER_S


def processor_s(pid: int) -> float:
    """Processor time that a process has spent, in seconds."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS_PER_S


def memory_kib(pid: int) -> int:
    """A process's memory (PSS: what it shares, counted in shares), in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise OSError(f"no Pss in /proc/{pid}/smaps_rollup")


def description() -> str:
    """One line about the machine, for the comparison of figures."""
    return (
        f"{datetime.date.today().isoformat()}, {_processor_model()}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def _processor_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
