"""RTMPT sessions that send numbered bytes to an echo server, and check what comes back."""

from __future__ import annotations

import http.client
from time import monotonic

_GIVES_UP_S = 15.0


class SessionEnded(Exception):
    """The gateway does not know the session."""


class NumberedSession:
    """``keeps``: whether its commands use one connection; otherwise each opens a new one."""

    def __init__(self, port: int, keeps: bool) -> None:
        self._port = port
        self._keeps = keeps
        self._connection: http.client.HTTPConnection | None = None
        self._number = 0
        self.sent = bytearray()
        self.received = bytearray()
        began = monotonic()
        self.id = self._post("/open/1", b"\0").decode().strip()
        self.opened_in_s = monotonic() - began

    @property
    def worker(self) -> str:
        """The prefix of the worker that owns it."""
        return self.id[:4]

    def step(self) -> None:
        """Send the next numbers, and read the echoed bytes."""
        data = b"%08d " % self._number * 3
        self.received += self._command("send", data)[1:]
        self.sent += data
        self.received += self._command("idle", b"\0")[1:]

    def finish(self) -> None:
        """Read the remaining bytes, and check that all have come back once and in order."""
        end = monotonic() + _GIVES_UP_S
        while len(self.received) < len(self.sent) and monotonic() < end:
            self.received += self._command("idle", b"\0")[1:]
        assert self.received == self.sent
        self._command("close", b"\0")
        self.drop()

    def drop(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _command(self, name: str, body: bytes) -> bytes:
        answer = self._post(f"/{name}/{self.id}/{self._number}", body)
        self._number += 1
        return answer

    def _post(self, target: str, body: bytes) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        self._connection.request("POST", target, body)
        response = self._connection.getresponse()
        answer = response.read()
        if not self._keeps or response.status != 200:
            self.drop()
        if response.status != 200:
            raise SessionEnded(f"{target}: {response.status}")
        return answer
