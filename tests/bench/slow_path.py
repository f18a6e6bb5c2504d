"""A slow, lossy network path to a network namespace, for kernels that have no netem.

    python -m tests.bench.slow_path --delay 0.05 --loss 0.01 [COMMAND...]

makes a namespace joined to this one by two TUN devices, prints this side's address, carries packets
between the two until it is ended, and removes all of it. Each packet is delayed by ``--delay`` seconds, and
lost with probability ``--loss``; ``--rate`` bounds the bits a second of each direction. A command is run in
the namespace, and its status returned. Needs root and iproute2.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from .machine import Cores

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x1, 0x1000
_PACKET_BYTES = 65536
# What waits for a bounded rate, as a router's buffer: more is dropped.
_QUEUE_S = 0.5
_LONGEST_WAIT_S = 0.05
_START_S = 5.0


@frozen
class SlowPath:
    """Seconds one way, the share of packets that are lost, and bits a second (0: as many as come)."""

    delay_s: float = 0.05
    loss: float = 0.01
    rate: float = 0.0


@frozen
class RunningPath:
    """``namespace`` is reached by the path; ``address`` is that of this side."""

    namespace: str
    address: str


class _Direction:
    """The packets of one direction that are under way."""

    def __init__(self, out: int, path: SlowPath, chance: random.Random) -> None:
        self._out = out
        self._path = path
        self._chance = chance
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._free_at = 0.0

    @property
    def next_at(self) -> float | None:
        return self._under_way[0][0] if self._under_way else None

    def take(self, packet: bytes, now: float) -> None:
        if self._chance.random() < self._path.loss:
            return
        starts_at = now
        if self._path.rate:
            starts_at = max(now, self._free_at)
            if starts_at - now > _QUEUE_S:
                return
            self._free_at = starts_at = starts_at + len(packet) * 8 / self._path.rate
        self._under_way.append((starts_at + self._path.delay_s, packet))

    def deliver(self, now: float) -> None:
        while self._under_way and self._under_way[0][0] <= now:
            # A far side that is down loses packets, as a wire does.
            try:
                os.write(self._out, self._under_way.popleft()[1])
            except OSError:
                continue


def can_run() -> bool:
    """Whether this machine allows a path: root, TUN devices, network namespaces and iproute2."""
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists() or shutil.which("ip") is None:
        return False
    name = f"try{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return False
    return subprocess.run(["ip", "netns", "del", name], capture_output=True).returncode == 0


@contextmanager
def running_path(path: SlowPath, seed: int, cores: Cores) -> Iterator[RunningPath]:
    """Make the path, carry packets in a process of its own, and remove it at the end."""
    name = f"slow{os.getpid()}"
    words = [f"--delay={path.delay_s}", f"--loss={path.loss}", f"--rate={path.rate}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.slow_path", *words, f"--seed={seed}", f"--name={name}"],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    cores.place_load(process.pid)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise OSError("the slow path could not be made")
        yield RunningPath(name, address)
    finally:
        process.terminate()
        process.wait(_START_S)


def _open_tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return fd


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _carry(
    near: int, far: int, path: SlowPath, seed: int, child: subprocess.Popen[bytes] | None
) -> None:
    chance = random.Random(seed)
    ways = {near: _Direction(far, path, chance), far: _Direction(near, path, chance)}
    poll = select.epoll()
    for fd in ways:
        poll.register(fd, select.EPOLLIN)
    while child is None or child.poll() is None:
        now = time.monotonic()
        next_at = min((way.next_at for way in ways.values() if way.next_at), default=now + 1)
        for fd, _ in poll.poll(max(0.0, min(next_at - now, _LONGEST_WAIT_S))):
            _read_all(fd, ways[fd])
        now = time.monotonic()
        for way in ways.values():
            way.deliver(now)


def _read_all(fd: int, way: _Direction) -> None:
    while True:
        try:
            packet = os.read(fd, _PACKET_BYTES)
        except BlockingIOError:
            return
        way.take(packet, time.monotonic())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.slow_path",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default=f"slow{os.getpid()}", help="of the namespace")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    path = SlowPath(options.delay, options.loss, options.rate)
    # Two addresses of 10.0.0.0/8 that no other path of this machine has, as process ids differ.
    block = os.getpid() & 0x3FFF
    far, near = (f"10.{200 + (block >> 8) % 50}.{block & 0xFF}.{last}" for last in (1, 2))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    return _run(path, options, far, near)


def _run(path: SlowPath, options: argparse.Namespace, far: str, near: str) -> int:
    name = options.name
    outer, inner = f"{name[:13]}a", f"{name[:13]}b"
    fds = _open_tun(outer), _open_tun(inner)
    _ip("netns", "add", name)
    child = None
    try:
        _ip("link", "set", inner, "netns", name)
        _ip("addr", "add", far, "peer", near, "dev", outer)
        _ip("link", "set", outer, "up")
        _ip("-n", name, "addr", "add", near, "peer", far, "dev", inner)
        for device in (inner, "lo"):
            _ip("-n", name, "link", "set", device, "up")
        if options.command:
            child = subprocess.Popen(["ip", "netns", "exec", name, *options.command])
        print(far, flush=True)
        _carry(*fds, path, options.seed, child)
        return child.returncode if child else 0
    finally:
        if child and child.poll() is None:
            child.terminate()
            child.wait()
        _ip("netns", "del", name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
