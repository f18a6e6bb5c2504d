"""Starts the gateway as systemd does: a socket, a runtime directory, notifications and restrictions."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Final, final

from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import ROOT

# What systemd does between fork and exec: descriptor 3, and the variables with this process's id. And
# NoNewPrivileges= and MemoryDenyWriteExecute= (prctl(2)), and an empty CapabilityBoundingSet=.
_LAUNCHER: Final = """
import ctypes, os, sys
descriptor, *command = sys.argv[1:]
os.dup2(int(descriptor), 3, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
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
    """A substitute for systemd, whose socket stays open while gateways start and stop."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self._programs = programs
        self._runtime = folder / "run"
        self._runtime.mkdir()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(20)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self.listening.getsockname()[1]

    def start(self, configuration: Path) -> Program:
        """Start the gateway; its listener is ``systemd:http``."""
        return self._programs.start(
            *(sys.executable, "-c", _LAUNCHER, str(self.listening.fileno())),
            *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
            *("--nodaemon", "--pidfile=", "rtmpt-gateway", "--config", str(configuration)),
            environment={
                "PYTHONPATH": str(ROOT),
                "NOTIFY_SOCKET": str(self._notify.getsockname()),
                "RUNTIME_DIRECTORY": str(self._runtime),
            },
            pass_fds=[self.listening.fileno()],
        )

    def hears(self, state: str) -> str:
        """Wait for a notification with ``state``, and return all of its lines."""
        while True:
            told = self._notify.recv(4096).decode()
            if told.split("\n")[0] == state:
                return told

    def close(self) -> None:
        self._notify.close()
        self.listening.close()
