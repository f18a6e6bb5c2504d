"""A gateway of several workers that runs in front of a given server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from tests.bench.machine import Cores
from tests.bench.targets import certify, free_port

_CHECKOUT = Path(__file__).resolve().parents[2]
_CONFIGURATION = """workers = {workers}
[[listener]]
address = "127.0.0.1:{port}"
{tls}[[upstream]]
servers = ["{server}"]
[tunnel]
latency = {latency}
"""
_START_S = 30.0


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
def running(
    workers: int, server: str, latency: str = "0", tls: bool = False
) -> Iterator[tuple[int, Gateway]]:
    """Yields the port of a gateway of that many workers, in front of ``server``. ``tls``: whether it takes
    TLS beside plain connections.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        file, log = folder / "gateway.toml", folder / "log"
        pem = f'tls = true\n[tls]\ncertificates = ["{certify(folder)}"]\n' if tls else ""
        file.write_text(
            _CONFIGURATION.format(
                workers=workers, port=port, server=server, latency=latency, tls=pem
            )
        )
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["-n", "--pidfile=", "rtmpt-gateway", "--config", str(file)]
        environment = os.environ | {"PYTHONPATH": str(_CHECKOUT)}
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
