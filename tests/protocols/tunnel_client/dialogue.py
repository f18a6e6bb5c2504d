"""A client's session whose server is played by the test: requests as text, answers as bytes."""

from __future__ import annotations

import re

from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.client import TunnelClient
from gateway.protocols.tunnel_client.interfaces import End
from gateway.protocols.tunnel_client.requests import Requests

_REQUEST = re.compile(rb"POST /(\S+) HTTP/1\.1\r\n(?:\S+: .*\r\n)+\r\n")
AGREED = b"RTMPT-Options: resume=4, hold=250, direct\r\n"
BEHIND_A_PROXY = b"RTMPT-Options: resume=4, hold=250\r\n"


def answer(body: bytes, fields: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


def chunked(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


class Dialogue:
    """``sent``: (link, command, body) of the requests so far, without the session's id."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.now = 100.0
        self.sent: list[tuple[int, str, bytes]] = []
        self.raw: list[bytes] = []
        self.connects: list[int] = []
        self.closes: list[int] = []
        self.received_data = b""
        self.pieces = 0
        self.drains = 0
        self.is_open = False
        self.unacknowledged_bytes = 0
        self.end: End | None = None
        self.cause = ""
        self.client = TunnelClient(limits, Requests("host", "192.0.2.1"), self, self)
        self.client.start(self.now)
        self.connected(0)

    # Links

    def connect_link(self, link: int) -> None:
        self.connects.append(link)

    def unacknowledged_on(self, link: int) -> int:
        return self.unacknowledged_bytes

    def write_link(self, link: int, first: bytes, second: bytes) -> None:
        match = _REQUEST.match(first)
        assert match is not None, first
        self.raw.append(first + second)
        target = match[1].decode().replace("/ID", "")
        self.sent.append((link, target, (first + second)[match.end() :]))

    def close_link(self, link: int) -> None:
        self.closes.append(link)

    # Receiver

    def opened(self) -> None:
        self.is_open = True

    def received(self, data: bytes) -> None:
        self.received_data += data
        self.pieces += 1

    def drained(self) -> None:
        self.drains += 1

    def ended(self, end: End, cause: str) -> None:
        assert self.end is None, "ended twice"
        self.end, self.cause = end, cause

    # The server

    def connected(self, link: int) -> None:
        self.client.connected(link, self.now)

    def open(self, fields: bytes = AGREED) -> Dialogue:
        self.says(answer(b"ID\n", fields))
        assert self.is_open, self.cause
        self.sent.clear()
        return self

    def says(self, data: bytes, link: int = 0) -> None:
        self.client.receive(link, data, self.now)

    def loses(self, link: int = 0, end: End = End.LOST) -> None:
        self.client.lost(link, self.now, end)

    # The user

    def write(self, data: bytes) -> None:
        self.client.write(data, self.now)

    def later(self, seconds: float) -> None:
        """Advance the time; each deadline runs when it expires."""
        until = self.now + seconds
        for _ in range(1000):
            if self.client.deadline > until:
                self.now = until
                return
            self.now = max(self.now, self.client.deadline)
            self.client.expire(self.now)
        raise AssertionError("a deadline that passes without an end")

    def commands(self) -> list[str]:
        """The requests since the last call, as ``send/0``."""
        sent, self.sent[:] = list(self.sent), []
        return [target for _, target, _ in sent]
