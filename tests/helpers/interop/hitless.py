"""A gateway under systemd whose configuration changes all the time, and clients that notice any loss."""

from __future__ import annotations

import os
import signal
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Final, final

from attrs import frozen

from tests.helpers.interop.as_systemd import Systemd
from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.numbered import NumberedSession, SessionEnded
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.secure import Authority, make_authority
from tests.helpers.interop.tap import Tap

CONFIGURATION: Final = """workers = 2
[[listener]]
address = "systemd:http"
[[listener]]
address = "systemd:https"
tls = true
[tls]
certificates = ["{certificate}"]
[[upstream]]
servers = [{servers}]
[tunnel]
latency = {latency}
[limits]
drain_s = 20.0
silent_session_s = 10.0
sessions_per_address = 5000
connections_per_address = 5000
"""
_FINISH_S: Final = 60.0
_CLIP_S: Final = 30.0
_PLAYER_ENDS_S: Final = 10.0
# What was begun to be opened before is open then.
_OPENED_S: Final = 0.2


@final
class Service:
    """A gateway as systemd runs it, with two workers and ``servers`` as its upstreams.

    Each reload changes the certificate, the list of servers and the latency.
    """

    def __init__(self, programs: Programs, folder: Path, servers: Sequence[int]) -> None:
        self._systemd = Systemd(programs, folder, ("http", "https"))
        self._file = folder / "gateway.toml"
        self._folder = folder
        self._servers = servers
        self._versions = count()
        self.authority: Authority = make_authority(folder)
        self.ports: Mapping[str, int] = self._systemd.ports
        # The prefixes of workers that were killed.
        self.killed: set[str] = set()
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
        """Kill it, and start it again as systemd does."""
        self.program.kill()
        self._start()

    def kill_worker(self) -> None:
        """Kill the worker that was started last, and wait for another."""
        before = self.program.log.count("has been started instead")
        pid = self.program.children[-1]
        self.killed.add(_prefix_of(pid))
        os.kill(pid, signal.SIGKILL)
        until(
            lambda: self.program.log.count("has been started instead") > before,
            "another worker is started",
        )

    def drain(self) -> None:
        """Ask it to end once all sessions have."""
        self.program.send(signal.SIGTERM)

    def _start(self) -> None:
        self.program: Program = self._systemd.start(self._file)
        self._systemd.hears("READY=1")

    def _signal(self, number: int) -> None:
        self.program.send(number)
        self._systemd.hears("RELOADING=1")
        self._systemd.hears("READY=1")

    def _configure(self) -> None:
        version = next(self._versions)
        chosen = self._servers[version % len(self._servers) :]
        text = CONFIGURATION.format(
            certificate=self.authority.certify(f"{version % 2}.pem", "127.0.0.1"),
            servers=", ".join(f'"127.0.0.1:{port}"' for port in chosen),
            latency=0.1 + version % 3 / 10,
        )
        self._file.write_text(text)


def _prefix_of(pid: int) -> str:
    """The prefix of the session ids of the worker with this process id: the name of its socket."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        # It may have been closed meanwhile.
        with suppress(FileNotFoundError):
            own.add(str(descriptor.readlink()))
    for line in Path("/proc/net/unix").read_text().splitlines():
        fields = line.split()
        if f"socket:[{fields[6]}]" in own and len(fields) > 7:
            return Path(fields[7]).name
    raise AssertionError(f"process {pid} is not a worker")


@frozen
class Habits:
    """``keeps``: whether its connection is kept for the next command. ``steps``: those of a session.
    ``cuts``: whether it cuts its connection in every fourth step. ``vanishes``: whether it leaves its
    sessions without ending them.
    """

    keeps: bool
    steps: int = 20
    pause_s: float = 0.05
    tls: bool = False
    cuts: bool = False
    vanishes: bool = False


@final
class Client(Thread):
    """Sessions one after another, until it is told to stop."""

    def __init__(self, load: Load, habits: Habits) -> None:
        super().__init__(daemon=True)
        self._load = load
        self._habits = habits
        self._port = load.service.ports["https" if habits.tls else "http"]
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self._load.over.is_set():
                self._run_session()
        except BaseException as failure:
            self.failure = failure

    def _run_session(self) -> None:
        habits = self._habits
        tls = self._load.tls if habits.tls else None
        try:
            session = NumberedSession(self._port, habits.keeps, tls=tls)
        except OSError:
            if not self._load.service.killed:
                raise
            self._load.note("reset opens")
            return
        session.repeats = lambda: bool(self._load.service.killed)
        self._load.opened(session)
        try:
            self._use(session)
        except (SessionEnded, OSError, HTTPException) as failure:
            self._load.lost(session, failure)
        else:
            self._load.note("vanished" if habits.vanishes else "finished")

    def _use(self, session: NumberedSession) -> None:
        for number in range(self._habits.steps):
            session.step(self._habits.cuts and number % 4 == 3)
            if self._load.over.wait(self._habits.pause_s):
                break
        if self._habits.vanishes:
            session.drop()
        else:
            session.finish()


@final
class Load:
    """Clients: ``habits`` says how many have which."""

    def __init__(self, service: Service, habits: Mapping[Habits, int]) -> None:
        self.service = service
        self.over = Event()
        self.tls: ssl.SSLContext = service.authority.client_context()
        self.slowest_open_s = 0.0
        # What became of sessions: finished, vanished, killed with their worker, cut by their server.
        self.sessions: Counter[str] = Counter()
        self._lock = Lock()
        self._clients = [
            Client(self, each) for each, number in habits.items() for _ in range(number)
        ]

    def opened(self, session: NumberedSession) -> None:
        with self._lock:
            self.slowest_open_s = max(self.slowest_open_s, session.opened_in_s)

    def note(self, fate: str) -> None:
        with self._lock:
            self.sessions[fate] += 1

    def lost(self, session: NumberedSession, failure: Exception) -> None:
        """A session has ended before its time. Raises ``failure`` if nothing was doubled or reordered."""
        session.drop()
        assert session.sent.startswith(session.received)
        if session.worker in self.service.killed:
            self.note("killed")
        elif isinstance(failure, SessionEnded):
            self.note("cut")
        else:
            raise failure

    def open_no_more(self) -> None:
        """Have all sessions end."""
        self.over.set()
        sleep(_OPENED_S)

    def finish(self, upstream_cuts: int = 0) -> None:
        """All sessions end in order, and none has lost a byte, except as many as servers have cut."""
        self.open_no_more()
        end = monotonic() + _FINISH_S
        for client in self._clients:
            client.join(max(0.0, end - monotonic()))
            assert client.failure is None, client.failure
            assert not client.is_alive()
        assert self.sessions["cut"] <= upstream_cuts, (self.sessions, upstream_cuts)


@final
class MediaLoop(Thread):
    """ffmpeg publishes a clip and another plays it, again and again until ``over``. ``tap``: in front of
    the server.

    ``lost``: how often one of them ended before its time.
    """

    def __init__(
        self,
        programs: Programs,
        port: int,
        tap: Tap,
        name: str,
        clip: Path,
        packets: list[Packet],
        over: Event,
    ) -> None:
        super().__init__(daemon=True)
        self._programs = programs
        self._port = port
        self._tap = tap
        self._name = name
        self._clip = clip
        self._packets = packets
        self._over = over
        self.played = self.lost = 0
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for number in count():
                if self._over.is_set():
                    break
                self._play(f"{self._name}-{number}")
        except BaseException as failure:
            self.failure = failure

    def _play(self, stream: str) -> None:
        source = url("rtmpt", self._port, f"live/{stream}")
        player = FFmpegPlayer(self._programs, source)
        until(lambda: self._tap.plays(stream) or not player.program.running, f"{stream} is played")
        publisher = publish(self._programs, self._clip, source)
        status = publisher.ends(_CLIP_S)
        is_whole = self._ends(player.program) and status == 0
        got = player.packets()
        assert got == self._packets[: len(got)]
        if is_whole and len(self._packets) - len(got) <= LOST_BY_FFMPEG:
            self.played += 1
        else:
            self.lost += 1

    @staticmethod
    def _ends(player: Program) -> bool:
        """Whether it ends in order soon. The player of a publisher that was cut waits for another."""
        end = monotonic() + _PLAYER_ENDS_S
        while player.running and monotonic() < end:
            sleep(0.1)
        if player.running:
            player.kill()
            return False
        return player.ends(1) == 0
