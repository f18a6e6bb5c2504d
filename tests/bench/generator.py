"""The load generator (load/*.c): compiled into a temporary folder, run once a measurement."""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .machine import Cores, busy_s, memory_kib, processor_s
from .scenarios import Result, Rounds
from .targets import CannotRun, RunningTarget

_SOURCES = Path(__file__).resolve().parent / "load"
# Opening, warming, draining and closing have limits of their own; this one is for a hung generator.
_SPARE_S = 120.0


class DataDamaged(Exception):
    """A run failed: records were lost, doubled, reordered or changed, or a session was refused."""


def compile_generator(folder: Path) -> Path:
    """Compile; raises CannotRun if there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotRun("no gcc, and the load generator is a C program")
    program = folder / "load"
    sources = [str(source) for source in sorted(_SOURCES.glob("*.c"))]
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-o", str(program), *sources, "-lssl", "-lcrypto"],
        capture_output=True,
        text=True,
    )
    if "openssl/" in done.stderr:
        raise CannotRun("no OpenSSL to compile the load generator with (Debian: libssl-dev)")
    if done.returncode != 0:
        raise CannotRun(f"the load generator does not compile:\n{done.stderr}")
    return program


class Generator:
    """Runs loads against targets; owns the listening socket of the upstream that they relay to."""

    def __init__(self, program: Path, cores: Cores) -> None:
        self._program = program
        self._cores = cores
        # Kept open between runs, so that the upstream never looks dead.
        self._upstream = socket.socket()
        self._upstream.bind(("127.0.0.1", 0))
        self._upstream.listen(4096)
        self._upstream.setblocking(False)

    @property
    def upstream_port(self) -> int:
        port: int = self._upstream.getsockname()[1]
        return port

    def close(self) -> None:
        self._upstream.close()

    def run(self, target: RunningTarget, load: Mapping[str, int], rounds: Rounds) -> Result:
        """One run; adds ``foreign``, the share of a core that other processes used meanwhile."""
        busy, own, of_target = busy_s(), _children_s(), processor_s(target.pid)
        process = self._start(target, _timed(load, rounds))
        result = _finish(process, rounds.warm_s + rounds.measure_s + _SPARE_S)
        ours = _children_s() - own + processor_s(target.pid) - of_target
        # What carries a slow path is work of ours, and its latencies are of another size.
        foreign_s = 0.0 if target.path else max(0.0, busy_s() - busy - ours)
        return result | {"foreign": foreign_s / (rounds.warm_s + rounds.measure_s)}

    def memory(self, target: RunningTarget, load: Mapping[str, int], rounds: Rounds) -> Result:
        """The target's memory for each session when all sessions are open."""
        self.run(target, {**load, "quiet": 10}, Rounds(1, 0.0, 0.5))
        before_kib = memory_kib(target.pid)
        process = self._start(target, _timed(load, rounds) | {"hold": 1})
        assert process.stdout is not None
        if process.stdout.readline() == "ready\n":
            after_kib = memory_kib(target.pid)
            _finish(process, _SPARE_S, "go on\n")
            return {"kib_per_session": (after_kib - before_kib) / load["quiet"]}
        raise DataDamaged(_complaint(process))

    def ceiling(self, load: Mapping[str, int], rounds: Rounds) -> Result:
        """The same load on a minimal server: the maximum of the generator."""
        with self._stub() as stub:
            return self.run(stub, {**load, "bare": 1}, rounds)

    @contextmanager
    def _stub(self) -> Iterator[RunningTarget]:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(4096)
            listening.setblocking(False)
            port = listening.getsockname()[1]
            process = subprocess.Popen(
                [self._program, "stub", str(listening.fileno())], pass_fds=[listening.fileno()]
            )
        self._cores.place_target(process.pid)
        try:
            yield RunningTarget(process.pid, port, rtmpt=True)
        finally:
            process.kill()
            process.wait()

    def _start(self, target: RunningTarget, load: Mapping[str, int]) -> subprocess.Popen[str]:
        options: dict[str, object] = {
            **load,
            "rtmpt": int(target.rtmpt),
            "tls": int(target.tls),
            "port": target.port,
            "pid": target.pid,
            "upstream_fd": self._upstream.fileno(),
        }
        path = target.path
        inside = ["ip", "netns", "exec", path.namespace] if path is not None else []
        if path is not None:
            options["host"] = path.address
        process = subprocess.Popen(
            [*inside, self._program, *(f"{name}={value}" for name, value in options.items())],
            pass_fds=[self._upstream.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._cores.place_load(process.pid)
        return process


def _timed(load: Mapping[str, int], rounds: Rounds) -> dict[str, int]:
    return {
        **load,
        "warm_ms": round(rounds.warm_s * 1000),
        "measure_ms": round(rounds.measure_s * 1000),
    }


def _finish(process: subprocess.Popen[str], limit_s: float, line: str = "") -> dict[str, float]:
    try:
        output, complaint = process.communicate(line, timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise DataDamaged("the load generator hangs") from None
    if process.returncode != 0:
        status = f"the load generator ended with status {process.returncode}"
        raise DataDamaged(complaint.strip() or status)
    return {name: float(value) for name, value in map(str.split, output.splitlines())}


def _complaint(process: subprocess.Popen[str]) -> str:
    stream: IO[str] | None = process.stderr
    assert stream is not None
    return stream.read().strip()


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
