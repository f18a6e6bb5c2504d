"""A network namespace whose address can be changed under way, as that of a phone that changes networks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import final

AVAILABLE = os.geteuid() == 0 and shutil.which("ip") is not None
_names = count()


@final
class MovingHost:
    """``here``: this side's address. ``inside``: the words before a command that runs in the namespace."""

    def __init__(self, name: str, block: int) -> None:
        self.namespace = name
        self._net = f"10.198.{block}"
        self.here = f"{self._net}.1"
        self.inside = ("ip", "netns", "exec", name)
        self._last = 2

    @property
    def address(self) -> str:
        """Its current address."""
        return f"{self._net}.{self._last}"

    def move(self) -> None:
        """Remove the address, and add another one: connections of the old one are dead, but not ended."""
        old, self._last = self.address, self._last + 1
        device = f"{self.namespace}b"
        _ip("-n", self.namespace, "addr", "del", f"{old}/24", "dev", device)
        _ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", device)


@contextmanager
def moving_host() -> Iterator[MovingHost]:
    name = f"mov{os.getpid() % 100_000}{next(_names)}"
    host = MovingHost(name, os.getpid() % 250)
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("addr", "add", f"{host.here}/24", "dev", f"{name}a")
        _ip("link", "set", f"{name}a", "up")
        _ip("-n", name, "addr", "add", f"{host.address}/24", "dev", f"{name}b")
        for device in (f"{name}b", "lo"):
            _ip("-n", name, "link", "set", device, "up")
        yield host
    finally:
        # Its end in this namespace would outlive the other for a moment.
        _ip("link", "del", f"{name}a")
        _ip("netns", "del", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
