"""Media servers that fail while they have sessions, and recover: nginx-rtmp, alone or behind a fault."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Protocol, final

from tests.helpers.interop.faulty import FaultyServer
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import nginx_rtmp, run_nginx, start_nginx

_OTHER_APPLICATION = """
load_module {module};
events {{ worker_connections 1024; }}
rtmp {{ server {{ listen {listen}; application other {{ live on; }} }} }}
"""


class FailingServer(Protocol):
    """``port``: where the gateway connects. ``own_port``: where its publisher does."""

    port: int
    own_port: int

    def fail(self) -> None: ...

    def recover(self) -> None: ...


@final
class KilledServer:
    """nginx; its sessions end with it, the publisher's too."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._nginx, self.port = start_nginx(programs, folder)
        self.own_port = self.port

    def fail(self) -> None:
        """Kill the worker as well, and not first: it would be started again."""
        workers = self._nginx.children
        self._nginx.kill()
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def recover(self) -> None:
        self._nginx, _ = start_nginx(self._programs, self._folder, port=self.port)


@final
class ServerBehindFault:
    """nginx, whose connections are subject to ``fault`` (``faulty``)."""

    def __init__(self, programs: Programs, folder: Path, fault: str) -> None:
        self._fault = fault
        _, self.own_port = start_nginx(programs, folder)
        self._faulty = FaultyServer(programs, self.own_port)
        self.port = self._faulty.port

    def fail(self) -> None:
        self._faulty.set(self._fault, self.own_port)

    def recover(self) -> None:
        self._faulty.set("", self.own_port)


@final
class RefusingServer:
    """nginx, in whose place another nginx accepts new connections, which does not have the application: it
    closes them after their connect. Sessions that live go on.
    """

    def __init__(self, programs: Programs, folder: Path) -> None:
        _, self.own_port = start_nginx(programs, folder)
        _, self._other = run_nginx(programs, _OTHER_APPLICATION, module=nginx_rtmp())
        self._faulty = FaultyServer(programs, self.own_port)
        self.port = self._faulty.port

    def fail(self) -> None:
        self._faulty.set("", self._other)

    def recover(self) -> None:
        self._faulty.set("", self.own_port)
