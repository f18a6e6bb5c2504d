"""Reloads, upgrades and killed supervisors under load: no session is cut, no open refused, no byte lost.

python -m tests.interop.test_hitless SECONDS     the same for longer, with memory, descriptors and processes
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic, sleep

import pytest

from tests.helpers.interop.as_systemd import Systemd
from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession
from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import start_gateway
from tests.interop.conftest import Upstream

_CONFIGURATION = """workers = 2
[[listener]]
address = "{listener}"
[[upstream]]
servers = [{servers}]
[tunnel]
latency = {latency}
[limits]
drain_s = 5.0
sessions_per_address = 5000
connections_per_address = 5000
"""
_STEP_PAUSE_S = 0.05
_LONGEST_OPEN_S = 0.5


class Client(Thread):
    """A client that runs sessions of several steps one after another, until it is stopped."""

    def __init__(self, port: int, keeps: bool, over: Event, steps: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._keeps = keeps
        self._over = over
        self._steps = steps
        self.sessions = 0
        self.slowest_open_s = 0.0
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._run_session()
        except BaseException as failure:
            self.failure = failure

    def _run_session(self) -> None:
        session = NumberedSession(self._port, self._keeps)
        self.slowest_open_s = max(self.slowest_open_s, session.opened_in_s)
        for _ in range(self._steps):
            session.step()
            if self._over.wait(_STEP_PAUSE_S):
                break
        session.finish()
        self.sessions += 1


class Load:
    """Clients with persistent connections, long sessions, or a new connection for each command."""

    def __init__(self, port: int, kept: int, new: int) -> None:
        self._over = Event()
        self.clients = [
            *(Client(port, True, self._over, 10_000) for _ in range(kept // 2)),
            *(Client(port, True, self._over, 20) for _ in range(kept - kept // 2)),
            *(Client(port, False, self._over, 20) for _ in range(new)),
        ]

    def finish(self) -> None:
        """End all sessions in order; none may have lost a byte."""
        self._over.set()
        for client in self.clients:
            client.join(60)
            assert client.failure is None, client.failure
            assert not client.is_alive()

    @property
    def slowest_open_s(self) -> float:
        return max(client.slowest_open_s for client in self.clients)


class Service:
    """A gateway as systemd runs it, whose configuration changes with every reload."""

    def __init__(self, programs: Programs, folder: Path, upstreams: list[int]) -> None:
        self._systemd = Systemd(programs, folder)
        self._file = folder / "gateway.toml"
        self._upstreams = upstreams
        self._versions = count()
        self.port = self._systemd.port
        self._configure()
        self._start()

    def close(self) -> None:
        self._systemd.close()

    def reload(self) -> None:
        self._configure()
        self._signal(signal.SIGHUP)

    def upgrade(self) -> None:
        self._configure()
        self._signal(signal.SIGUSR2)

    def kill_supervisor(self) -> None:
        self.program.kill()
        self._start()

    def _start(self) -> None:
        self.program = self._systemd.start(self._file)
        self._systemd.hears("READY=1")

    def _signal(self, number: int) -> None:
        self.program.send(number)
        self._systemd.hears("RELOADING=1")
        self._systemd.hears("READY=1")

    def _configure(self) -> None:
        version = next(self._versions)
        # Other servers, in another order, and another latency each time.
        chosen = self._upstreams[version % 2 :]
        text = _CONFIGURATION.format(
            listener="systemd:http",
            servers=", ".join(f'"127.0.0.1:{port}"' for port in chosen),
            latency=0.1 + version % 3 / 10,
        )
        self._file.write_text(text)


@pytest.fixture
def echoes() -> Iterator[list[int]]:
    with echo_server() as one, echo_server() as other:
        yield [one, other]


@pytest.mark.alone
def test_no_session_or_byte_is_lost_during_reloads_an_upgrade_and_a_killed_supervisor(
    programs: Programs, tmp_path: Path, echoes: list[int]
) -> None:
    with closing(Service(programs, tmp_path, echoes)) as service:
        load = Load(service.port, kept=40, new=10)
        sleep(0.5)
        for change in (service.reload, service.reload, service.upgrade, service.reload):
            change()
            sleep(0.3)
        assert load.slowest_open_s < _LONGEST_OPEN_S
        # Clients wait in the socket until its successor has started.
        service.kill_supervisor()
        sleep(0.3)
        service.reload()
        load.finish()
        assert sum(client.sessions for client in load.clients) > len(load.clients)
    for log in tmp_path.rglob("log"):
        assert "Traceback" not in log.read_text()


def test_media_of_ffmpeg_is_exact_during_reloads_and_an_upgrade(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    file = tmp_path / "gateway.toml"
    server = f'"{nginx.server}"'
    file.write_text(_CONFIGURATION.format(listener="127.0.0.1:0", servers=server, latency='"low"'))
    gateway, port = start_gateway(programs, "--config", str(file))
    source = url("rtmpt", port, stream)
    player = FFmpegPlayer(programs, source)
    nginx.tap.players(1)
    publisher = publish(programs, clip, source)
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
        before = gateway.log.count("reloaded configuration")
        with file.open("a") as configuration:
            configuration.write("# changed\n")
        gateway.send(number)
        _until_reloaded(gateway, before)
    assert publisher.ends(30) == 0
    assert player.program.ends(20) == 0
    got = player.packets()
    assert got == packets[: len(got)]
    assert len(packets) - len(got) <= LOST_BY_FFMPEG


def _until_reloaded(gateway: Program, before: int) -> None:
    end = monotonic() + 30
    while gateway.log.count("reloaded configuration") == before:
        assert monotonic() < end
        sleep(0.05)


# The long form


def processes_of(root: int) -> list[int]:
    """The process and its children."""
    found = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [root, *map(int, found)]


def figures_of(pids: list[int]) -> str:
    kib = descriptors = zombies = 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        zombies += "State:\tZ" in status
        kib += int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0
        descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    mib = kib // 1024
    return f"{len(pids)} processes, {zombies} zombies, {mib} MiB, {descriptors} descriptors"


def soak(seconds: float) -> None:
    """Reload every five seconds under load, upgrade every minute, and print figures every ten seconds."""
    end = monotonic() + seconds
    with TemporaryDirectory() as folder, echo_server() as one, echo_server() as other:
        programs = Programs(Path(folder))
        try:
            with closing(Service(programs, Path(folder), [one, other])) as service:
                load = Load(service.port, kept=100, new=20)
                for number in count(1):
                    if monotonic() > end:
                        break
                    sleep(5)
                    service.upgrade() if number % 12 == 0 else service.reload()
                    if number % 2 == 0:
                        print(figures_of(processes_of(service.program.pid)), flush=True)
                load.finish()
                sleep(3)
                print("at the end:", figures_of(processes_of(service.program.pid)), flush=True)
                done = sum(client.sessions for client in load.clients)
                print(f"{done} sessions, slowest open {load.slowest_open_s:.3f} s", flush=True)
        finally:
            programs.stop()


if __name__ == "__main__":
    soak(float(sys.argv[1]))
