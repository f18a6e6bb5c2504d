"""A gateway of two workers in front of an echo server."""

from __future__ import annotations

import json
import signal
import urllib.request
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK, start_gateway

# Sessions wait, unused, for reloads and upgrades, which take longer than 10 s on a busy machine.
_CONFIGURATION = """workers = 2
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["127.0.0.1:{upstream}"]
[admin]
address = "127.0.0.1:0"
[limits]
sessions = {sessions}
drain_s = 3.0
unused_session_s = 120.0
silent_session_s = 120.0
"""

FORWARDED = 'rtmpt_gateway_forwarded_commands_total{outcome="forwarded"}'
TAKEN = 'rtmpt_gateway_offered_connections_total{outcome="taken"}'


class Gateway:
    """A gateway of two workers, in front of an echo server. ``more``: as in ``configure``."""

    def __init__(self, programs: Programs, folder: Path, upstream: int, more: str = "") -> None:
        self._upstream = upstream
        self.file = folder / "gateway.toml"
        self.configure(more=more)
        self.program, self.port = start_gateway(programs, "--config", str(self.file))
        self.admin = int(self.program.says(f"admin server on {LOOPBACK}:"))
        self.await_workers()

    def configure(self, sessions: int = 100, more: str = "") -> None:
        """``more``: of the section [limits], and what may follow that."""
        text = _CONFIGURATION.format(upstream=self._upstream, sessions=sessions)
        self.file.write_text(text + more)

    def await_workers(self, active: int = 2, retiring: int = 0) -> None:
        until(
            lambda: self.states() == (active, retiring),
            f"{active} active workers and {retiring} retiring",
        )

    def states(self) -> tuple[int, int]:
        figures = self.metrics()
        return (
            int(figures.get('rtmpt_gateway_workers{state="active"}', 0)),
            int(figures.get('rtmpt_gateway_workers{state="retiring"}', 0)),
        )

    def metrics(self) -> dict[str, float]:
        lines = self.get("/metrics").splitlines()
        pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return {name: float(value) for name, _, value in pairs}

    def total(self, name: str) -> float:
        return sum(
            value for series, value in self.metrics().items() if series.partition("{")[0] == name
        )

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def sessions(self) -> list[Any]:
        found: list[Any] = json.loads(self.get("/sessions?limit=1000"))["sessions"]
        return found

    def change_configuration(self) -> None:
        """With the same configuration, a reload replaces no worker."""
        with self.file.open("a") as file:
            file.write("# changed\n")

    def reload(self) -> None:
        before = self.program.log.count("reloaded configuration")
        self.change_configuration()
        self.program.send(signal.SIGHUP)
        until(lambda: self.program.log.count("reloaded configuration") > before, "it has reloaded")

    def change(self, method: str, path: str) -> None:
        with closing(HTTPConnection("127.0.0.1", self.admin, timeout=20)) as connection:
            connection.request(method, path)
            assert connection.getresponse().status == 200

    def post_reload(self) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        with closing(HTTPConnection("127.0.0.1", self.admin, timeout=20)) as connection:
            connection.request("POST", "/reload")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    @property
    def worker_pids(self) -> list[int]:
        return self.program.children
