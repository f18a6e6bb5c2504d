"""The running target: the gateway or HAProxy, each one process on a reserved core."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve, frozen

from .contenders import Contender, Program
from .machine import Cores
from .slow_path import RunningPath

_CHECKOUT = Path(__file__).resolve().parents[2]
_START_S = 15.0
_STOP_S = 10.0

_GATEWAY = """\
[[listener]]
address = "{host}:{port}"
{tls}[[upstream]]
servers = ["127.0.0.1:{upstream_port}"]
{settings}[limits]
sessions = 10000
sessions_per_address = 10000
connections = 20000
connections_per_address = 20000
"""

# rtmpt-client has the same tunnel, but needs a server that answers the handshake; the generator does not.
_CLIENT = """\
workers = 1
[[listener]]
address = "127.0.0.1:{port}"
[[upstream]]
servers = ["rtmpt://{server}"]
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
    bind 127.0.0.1:{port}{tls}
    server upstream 127.0.0.1:{upstream_port}
"""


class CannotRun(Exception):
    """Something the benchmark needs is missing or did not start; the text says what."""


@frozen
class RunningTarget:
    """A process that takes sessions on a port, reached by ``path`` if there is one."""

    pid: int
    port: int
    rtmpt: bool
    tls: bool = False
    tunnelled: bool = False
    path: RunningPath | None = None


@frozen
class Bench:
    """The core of the targets and their upstream. ``twistd`` is that of another Python, or None."""

    upstream_port: int
    cores: Cores
    folder: Path
    twistd: str | None


@contextmanager
def running(contender: Contender, bench: Bench) -> Iterator[RunningTarget]:
    """Start the target, and stop it at the end. Raises CannotRun."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        command = _COMMANDS[contender.program](contender, bench, port, Path(folder))
        with _process(command, port, bench.cores, Path(folder)) as pid:
            yield RunningTarget(pid, port, contender.rtmpt, contender.tls, contender.tunnelled)


@contextmanager
def at_the_end_of(
    path: RunningPath, target: RunningTarget, bench: Bench
) -> Iterator[RunningTarget]:
    """The target as its clients reach it by the path: through a tunnel client at its end, if need be."""
    if not target.tunnelled:
        yield evolve(target, path=path)
        return
    port = free_port()
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        config = Path(folder) / "client.toml"
        config.write_text(_CLIENT.format(port=port, server=f"{path.address}:{target.port}"))
        inside = ["ip", "netns", "exec", path.namespace]
        command = [*inside, *_twistd(bench), "--config", str(config)]
        with _process(command, port, bench.cores, Path(folder), path.namespace):
            yield evolve(target, port=port, path=evolve(path, address="127.0.0.1"))


def _gateway(contender: Contender, bench: Bench, port: int, folder: Path) -> list[str]:
    config = folder / "gateway.toml"
    pem = certify(folder) if contender.tls else ""
    text = _GATEWAY.format(
        # All addresses: a slow path has its own.
        host="0.0.0.0",
        port=port,
        upstream_port=bench.upstream_port,
        settings=contender.settings,
        tls=f'tls = true\n[tls]\ncertificates = ["{pem}"]\n' if pem else "",
    )
    config.write_text(text)
    return [*_twistd(bench), "--config", str(config)]


def _twistd(bench: Bench) -> list[str]:
    return [bench.twistd or _find_twistd(), "-n", "--pidfile=", "rtmpt-gateway"]


def _haproxy(contender: Contender, bench: Bench, port: int, folder: Path) -> list[str]:
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise CannotRun("haproxy is not installed: nothing to compare with")
    config = folder / "haproxy.cfg"
    tls = f" ssl crt {certify(folder)}" if contender.tls else ""
    config.write_text(_HAPROXY.format(port=port, upstream_port=bench.upstream_port, tls=tls))
    return [program, "-db", "-f", str(config)]


_COMMANDS = {Program.GATEWAY: _gateway, Program.HAPROXY: _haproxy}


def certify(folder: Path) -> Path:
    """A PEM file with a key, its certificate, and an untrusted root."""
    try:
        import trustme
    except ModuleNotFoundError:
        raise CannotRun("no trustme beside this Python: TLS needs a certificate") from None
    authority = trustme.CA()
    path = folder / "site.pem"
    site = authority.issue_cert("localhost")
    path.write_bytes(site.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    return path


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
def _process(
    command: Sequence[str], port: int, cores: Cores, folder: Path, namespace: str = ""
) -> Iterator[int]:
    name = Path(command[0]).name
    log = folder / "log"
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
        _await_port(name, process, port, namespace)
        yield _working_process(process.pid)
    except Exception:
        print(f"the end of {name}'s log:\n{_tail(log)}", file=sys.stderr)
        raise
    finally:
        _stop(process)


def _working_process(pid: int) -> int:
    """The gateway's only worker, since it runs on one core; the process itself for other programs."""
    give_up_at = time.monotonic() + _START_S
    children = Path(f"/proc/{pid}/task/{pid}/children")
    program = Path(f"/proc/{pid}/cmdline").read_bytes()
    while b"rtmpt-gateway" in program and time.monotonic() < give_up_at:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    return pid


def _await_port(name: str, process: subprocess.Popen[bytes], port: int, namespace: str) -> None:
    give_up_at = time.monotonic() + _START_S
    while time.monotonic() < give_up_at and process.poll() is None:
        if _is_listening(port, namespace):
            return
        time.sleep(0.05)
    raise CannotRun(f"{name} did not start")


def _is_listening(port: int, namespace: str) -> bool:
    if namespace:
        command = ["ip", "netns", "exec", namespace, "ss", "-Hltn", f"sport = :{port}"]
        return bool(subprocess.run(command, capture_output=True).stdout)
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
