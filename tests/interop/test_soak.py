"""Reloads, upgrades and upstream restarts, with clients that cut and vanish: nothing grows or is lost.

python -m tests.interop.test_soak SECONDS     the same for longer
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import pytest
from attrs import frozen

from tests.helpers.interop.echo import EchoServer
from tests.helpers.interop.hitless import Habits, Load, Service
from tests.helpers.interop.programs import Programs

_CI_S = 60.0
_SHORTEST_PAUSE_S = 5.0
# A sixtieth of the time passes between two reloads, so that leaks of workers show too.
_RELOADS = 60
_UPGRADE_EVERY = 6
# Sessions of vanished clients are ended by then, and with them the last workers of earlier reloads.
_QUIET_S = 30.0
_PAUSE_S = 0.25
_HABITS = {
    Habits(keeps=True, steps=10_000, pause_s=_PAUSE_S): 40,
    Habits(keeps=True, pause_s=_PAUSE_S): 40,
    Habits(keeps=True, cuts=True, pause_s=_PAUSE_S): 10,
    Habits(keeps=True, vanishes=True, pause_s=_PAUSE_S): 10,
    Habits(keeps=True, tls=True, pause_s=_PAUSE_S): 10,
    Habits(keeps=False, pause_s=_PAUSE_S): 10,
}
# By clients, by their vanishing, and by a restarted server in two ways.
_EXPECTED_ENDS = {
    "closed by the client",
    "nothing more from the client",
    "closed by the media server",
    "media server connection lost",
}
# Memory that the allocator keeps for later is not a leak.
_MORE_MEMORY = 1.3
# The descriptors of the connections between two workers, which stay open: one each way for commands, and
# one each way for the connections that are passed on.
_PEERS = 8


@frozen
class Figures:
    """Of the supervisor and its children."""

    processes: int
    zombies: int
    mib: int
    descriptors: int

    @classmethod
    def of(cls, root: int) -> Figures:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
        pids = [root, *map(int, children)]
        kib = descriptors = zombies = 0
        for pid in pids:
            # It may end meanwhile.
            with suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{pid}/status").read_text()
                zombies += "State:\tZ" in status
                kib += int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0
                descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(len(pids), zombies, kib // 1024, descriptors)

    def allows(self, after: Figures) -> bool:
        """Whether nothing has grown since."""
        return (
            after.processes == self.processes
            and not after.zombies
            and after.mib <= self.mib * _MORE_MEMORY
            and after.descriptors <= self.descriptors + _PEERS
        )

    def __str__(self) -> str:
        return (
            f"{self.processes} processes, {self.zombies} zombies, {self.mib} MiB, "
            f"{self.descriptors} descriptors"
        )


def soak(programs: Programs, folder: Path, seconds: float, say: Callable[[str], object]) -> None:
    """Raises AssertionError if something was lost or has grown."""
    with ExitStack() as stack:
        echoes = [stack.enter_context(closing(EchoServer())) for _ in range(2)]
        servers = [echo.port for echo in echoes]
        service = stack.enter_context(closing(Service(programs, folder, servers)))
        before = Figures.of(service.program.pid)
        say(f"at first: {before}")
        load = Load(service, _HABITS)
        _change(service, echoes[0], seconds, lambda: say(f"{load.sessions}: {_figures(service)}"))
        say(
            f"connections cut by a restarted server: {echoes[0].cuts}; ends of sessions: {_ends(service)}"
        )
        load.finish(echoes[0].cuts)
        end = monotonic() + _QUIET_S
        while not before.allows(after := _figures(service)) and monotonic() < end:
            sleep(0.5)
        say(f"at the end: {after}; {load.sessions}, slowest open {load.slowest_open_s:.3f} s")
        assert before.allows(after)


def _change(
    service: Service, server: EchoServer, seconds: float, report: Callable[[], object]
) -> None:
    """Reload, upgrade, and restart a server, again and again for so long."""
    end = monotonic() + seconds
    for number in count(1):
        sleep(max(_SHORTEST_PAUSE_S, seconds / _RELOADS))
        if monotonic() > end:
            return
        if number % _UPGRADE_EVERY == 0:
            service.upgrade()
        else:
            service.reload()
        if number % 2 == 0:
            server.restart()
        report()


def _figures(service: Service) -> Figures:
    return Figures.of(service.program.pid)


def _ends(service: Service) -> Counter[str]:
    """How many sessions have ended for which reason, as the gateway has logged it."""
    return Counter(re.findall(r"ended: (.+?) after ", service.program.log))


@pytest.mark.soak
def test_nothing_grows_and_nothing_is_lost(programs: Programs, tmp_path: Path) -> None:
    soak(programs, tmp_path, _CI_S, print)


def _main(seconds: float) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        programs = Programs(folder)
        try:
            soak(programs, folder, seconds, lambda line: print(line, flush=True))
        finally:
            programs.stop()


if __name__ == "__main__":
    _main(float(sys.argv[1]))
