"""RTMPT sessions that send numbered bytes to an echo server, and check what comes back."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from time import monotonic

_GIVES_UP_S = 15.0


class SessionEnded(Exception):
    """The gateway does not know the session."""


class NumberedSession:
    """``keeps``: whether its commands use one connection; otherwise each opens a new one.

    ``other_port``: where every other command goes; 0 for none. ``tls``: for a port with TLS. ``announces``:
    whether the requests of connections with one command say that these will be closed.
    """

    def __init__(
        self,
        port: int,
        keeps: bool,
        other_port: int = 0,
        tls: ssl.SSLContext | None = None,
        announces: bool = False,
    ) -> None:
        self._ports = port, other_port or port
        self._keeps = keeps
        self._headers = {"Connection": "close"} if announces else {}
        self._tls = tls
        self._connection: http.client.HTTPConnection | None = None
        self._number = 0
        # Whether a command whose connection is lost is repeated.
        self.repeats: Callable[[], bool] = lambda: False
        self.sent = bytearray()
        self.received = bytearray()
        began = monotonic()
        self.id = self._post("/open/1", b"\0").decode().strip()
        self.opened_in_s = monotonic() - began

    @property
    def worker(self) -> str:
        """The prefix of the worker that owns it."""
        return self.id[:4]

    def move(self, port: int) -> None:
        """Send all further commands there."""
        self.drop()
        self._ports = port, port

    def step(self, cuts: bool = False) -> None:
        """Send the next numbers, and take what has come back.

        With ``cuts``, the connection is cut in between, and the commands are repeated on another one.
        """
        data = b"%08d " % self._number * 3
        self.received += self._command("send", data, cuts)[1:]
        self.sent += data
        self.received += self._command("idle", b"\0", cuts)[1:]

    def poll(self) -> None:
        """Send an idle, which the gateway answers when its hold is over, or data arrives."""
        self.received += self._command("idle", b"\0")[1:]

    def finish(self) -> None:
        """Read the remaining bytes, and check that all have come back once and in order."""
        end = monotonic() + _GIVES_UP_S
        while len(self.received) < len(self.sent) and monotonic() < end:
            self.poll()
        assert self.received == self.sent
        self._command("close", b"\0")
        self.drop()

    def drop(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _command(self, name: str, body: bytes, cuts: bool = False) -> bytes:
        target = f"/{name}/{self.id}/{self._number}"
        try:
            if cuts:
                self._request(target, body)
                self.drop()
            answer = self._post(target, body)
        except OSError:
            if not self.repeats():
                raise
            self.drop()
            answer = self._post(target, body)
        self._number += 1
        return answer

    def _post(self, target: str, body: bytes) -> bytes:
        response = self._request(target, body).getresponse()
        answer = response.read()
        if not self._keeps or response.status != 200:
            self.drop()
        if response.status != 200:
            raise SessionEnded(f"{target}: {response.status}")
        return answer

    def _request(self, target: str, body: bytes) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = self._connect(self._ports[self._number % 2])
        self._connection.request("POST", target, body, self._headers)
        return self._connection

    def _connect(self, port: int) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=self._tls)
