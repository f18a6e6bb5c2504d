"""What is measured: the gateway and HAProxy, each one process on the core that is kept for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from .machine import Cores

_CHECKOUT = Path(__file__).resolve().parents[2]
_START_S = 15.0
_STOP_S = 10.0

_GATEWAY = """\
[[listener]]
address = "127.0.0.1:{port}"
[[upstream]]
servers = ["127.0.0.1:{upstream_port}"]
{settings}[limits]
sessions = 10000
sessions_per_address = 10000
connections = 20000
connections_per_address = 20000
"""

_HAPROXY = """\
global
    nbthread 1
    maxconn 5000
defaults
    mode tcp
    timeout connect 3s
    timeout client 60s
    timeout server 60s
listen bench
    bind 127.0.0.1:{port}
    server upstream 127.0.0.1:{upstream_port}
"""


class CannotRun(Exception):
    """Something the benchmark needs is missing or did not start; the text says what."""


@frozen
class RunningTarget:
    """A process that takes sessions on a port."""

    name: str
    rtmpt: bool
    pid: int
    port: int


@contextmanager
def gateway(
    settings: str, upstream_port: int, cores: Cores, folder: Path, twistd: str | None
) -> Iterator[RunningTarget]:
    port = free_port()
    config = folder / "gateway.toml"
    config.write_text(_GATEWAY.format(port=port, upstream_port=upstream_port, settings=settings))
    program = twistd or _find_twistd()
    command = [program, "-n", "--pidfile=", "rtmpt-gateway", "--config", str(config)]
    with _running("gateway", command, port, cores, folder) as pid:
        yield RunningTarget("gateway", True, pid, port)


@contextmanager
def haproxy(upstream_port: int, cores: Cores, folder: Path) -> Iterator[RunningTarget]:
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise CannotRun("haproxy is not installed: nothing to compare with")
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, upstream_port=upstream_port))
    with _running("haproxy", [program, "-db", "-f", str(config)], port, cores, folder) as pid:
        yield RunningTarget("haproxy", False, pid, port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _find_twistd() -> str:
    beside = Path(sys.executable).with_name("twistd")
    found = str(beside) if beside.exists() else shutil.which("twistd")
    if found is None:
        raise CannotRun("no twistd beside this Python: install the gateway's dependencies first")
    return found


@contextmanager
def _running(
    name: str, command: Sequence[str], port: int, cores: Cores, folder: Path
) -> Iterator[int]:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=_CHECKOUT,
            # This checkout's gateway, whether one is installed or not.
            env=os.environ | {"PYTHONPATH": str(_CHECKOUT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    cores.place_target(process.pid)
    try:
        _await_port(name, process, port)
        yield process.pid
    except Exception:
        print(f"the end of {name}'s log:\n{_tail(log)}", file=sys.stderr)
        raise
    finally:
        _stop(process)


def _await_port(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    give_up_at = time.monotonic() + _START_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise CannotRun(f"{name} did not start")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
