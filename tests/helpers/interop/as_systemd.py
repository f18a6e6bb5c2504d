"""Starts the gateway as systemd does: sockets, a runtime directory, notifications and restrictions."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import ROOT

# What systemd does between fork and exec: descriptors from 3 on, and variables with this process's id. And
# NoNewPrivileges= and MemoryDenyWriteExecute= (prctl(2)), and an empty CapabilityBoundingSet=.
_LAUNCHER: Final = """
import ctypes, fcntl, os, sys
descriptors, names, *command = sys.argv[1:]
copies = [fcntl.fcntl(int(each), fcntl.F_DUPFD_CLOEXEC, 100) for each in descriptors.split(",")]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(copies)), "LISTEN_FDNAMES": names}
prctl = ctypes.CDLL(None, use_errno=True).prctl
NO_NEW_PRIVS, CAPBSET_DROP, MDWE = 38, 24, 65
assert prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
if os.geteuid() == 0:
    for capability in range(41):
        prctl(CAPBSET_DROP, capability, 0, 0, 0)
# Known to Linux from 6.3 on.
prctl(MDWE, 1, 0, 0, 0)
os.execv(command[0], command)
"""


@final
class Systemd:
    """The sockets, one for each of ``names``, stay open while gateways come and go."""

    def __init__(self, programs: Programs, folder: Path, names: Sequence[str] = ("http",)) -> None:
        self._programs = programs
        self._runtime = folder / "run"
        self._runtime.mkdir()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(20)
        self._listening = {
            name: socket.create_server(("127.0.0.1", 0), backlog=1024) for name in names
        }
        self.ports: dict[str, int] = {
            name: each.getsockname()[1] for name, each in self._listening.items()
        }

    @property
    def port(self) -> int:
        """Of the first socket."""
        return next(iter(self.ports.values()))

    def start(self, configuration: Path) -> Program:
        """Start the gateway; its listeners are ``systemd:NAME``."""
        descriptors = [each.fileno() for each in self._listening.values()]
        return self._programs.start(
            *(sys.executable, "-c", _LAUNCHER),
            *(",".join(map(str, descriptors)), ":".join(self._listening)),
            *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
            *("--nodaemon", "--pidfile=", "rtmpt-gateway", "--config", str(configuration)),
            environment={
                "PYTHONPATH": str(ROOT),
                "NOTIFY_SOCKET": str(self._notify.getsockname()),
                "RUNTIME_DIRECTORY": str(self._runtime),
            },
            pass_fds=descriptors,
        )

    def hears(self, state: str) -> str:
        """Wait for a notification with ``state``, and return all of its lines."""
        while True:
            told = self._notify.recv(4096).decode()
            if told.split("\n")[0] == state:
                return told

    def close(self) -> None:
        self._notify.close()
        for each in self._listening.values():
            each.close()
