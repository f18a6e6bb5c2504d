"""A gateway with an admin server, and its figures."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from attrs import frozen

from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.servers import LOOPBACK, port_said, start_gateway

_CONFIGURATION = f"""
[[listener]]
address = "{LOOPBACK}:0"
[admin]
address = "{LOOPBACK}:0"
"""
# A UDP listener, whose metrics exist only with one.
UDP = f'[[udp]]\naddress = "{LOOPBACK}:0"\nserver = "{LOOPBACK}:1935"\n'
_ANSWER_S = 30.0


@frozen
class WatchedGateway:
    """A running gateway; ``port`` is for its clients, ``admin_port`` for its operator."""

    program: Program
    port: int
    admin_port: int

    def get(self, path: str) -> str:
        with urlopen(f"http://{LOOPBACK}:{self.admin_port}{path}", timeout=_ANSWER_S) as answer:
            text: str = answer.read().decode()
        return text

    def change(self, method: str, path: str) -> None:
        """Send a request that changes the gateway's state."""
        request = Request(f"http://{LOOPBACK}:{self.admin_port}{path}", method=method)
        urlopen(request, timeout=_ANSWER_S).close()

    @property
    def is_ready(self) -> bool:
        try:
            return self.get("/readyz") == "ready\n"
        except HTTPError:
            return False

    def sessions(self) -> list[dict[str, Any]]:
        """All active sessions, with their figures."""
        found: list[dict[str, Any]] = json.loads(self.get("/sessions"))["sessions"]
        return found


def start_watched_gateway(programs: Programs, more: str = "", workers: int = 1) -> WatchedGateway:
    """Start a gateway with ``more`` in its configuration; by default with the embedded origin."""
    file = programs.new_folder("configuration") / "gateway.toml"
    file.write_text(f"workers = {workers}\n{_CONFIGURATION}{more}")
    program, port = start_gateway(programs, "--config", str(file))
    gateway = WatchedGateway(program, port, port_said(program, f"admin server on {LOOPBACK}:"))
    until(lambda: gateway.is_ready, "the gateway is ready")
    return gateway
