"""A minimal RTMPT server in front of an RTMP server, as old ones are: it holds nothing and repeats nothing.

It takes one command at a time, with the next number; any other number gets 404 and ends the session. A
session whose commands come on two connections at the same time, or pipelined, has broken the rules; so has
one whose connection sends a command before the last one is answered. ``faults`` has the causes.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from itertools import count
from threading import Lock, Thread
from typing import final

from tests.helpers.interop.servers import LOOPBACK

_REQUEST = re.compile(rb"POST /(\w+)/(\w+)(?:/(\d+))? HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_RECEIVE_BYTES = 65536
# One step up after ten empty answers in a row (PROTOCOL.md, Interval byte).
_INTERVALS = b"\x01\x03\x05\x09\x11\x21"
_STEP = 10


class _Refused(Exception):
    """Answered with 404."""


class _Session:
    def __init__(self, port: int) -> None:
        self.upstream = socket.create_connection((LOOPBACK, port))
        self.upstream.setblocking(False)
        self.next = 0
        self.empty = 0
        self.in_use = Lock()

    def answer(self) -> bytes:
        try:
            data = self.upstream.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            self.empty += 1
            step = min(self.empty // _STEP, len(_INTERVALS) - 1)
            return _INTERVALS[step : step + 1]
        if not data:
            raise _Refused
        self.empty = 0
        return _INTERVALS[:1] + data

    def send(self, data: bytes) -> None:
        self.upstream.setblocking(True)
        self.upstream.sendall(data)
        self.upstream.setblocking(False)


@final
class StrictTunnel:
    """``commands``: the number of each kind of command. ``closes_after``: a connection is closed after so
    many answers.
    """

    def __init__(self, port: int, closes_after: int = 1 << 30) -> None:
        self._server = port
        self._closes_after = closes_after
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listening.getsockname()[1]
        self.commands: dict[bytes, int] = {}
        self.faults: list[str] = []
        self.connections: list[socket.socket] = []
        self._sessions: dict[bytes, _Session] = {}
        self._ids = count(1)
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        for each in self.connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for session in self._sessions.values():
            session.upstream.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections.append(connection)
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ConnectionError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for left in reversed(range(self._closes_after)):
                word, name, number, body = self._request(connection)
                try:
                    answer = self._execute(word, name, number, body)
                    status = b"200 OK"
                except _Refused:
                    answer, status = b"", b"404 Not Found"
                if self._is_readable(connection):
                    self.faults.append("a command before the last one was answered")
                field = b"" if left else b"Connection: close\r\n"
                connection.sendall(
                    b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b"
                    % (status, field, len(answer), answer)
                )

    @staticmethod
    def _request(connection: socket.socket) -> tuple[bytes, bytes, int, bytes]:
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        match = _REQUEST.match(head)
        assert match is not None, head
        while length is not None and len(body) < int(length[1]):
            body += _some(connection)
        return match[1], match[2], int(match[3] or 0), body

    def _execute(self, word: bytes, name: bytes, number: int, body: bytes) -> bytes:
        self.commands[word] = self.commands.get(word, 0) + 1
        if word == b"open":
            name = b"session%d" % next(self._ids)
            self._sessions[name] = _Session(self._server)
            return name + b"\n"
        session = self._sessions.get(name)
        if session is None:
            raise _Refused
        if not session.in_use.acquire(blocking=False):
            self.faults.append("two commands at a time")
            raise _Refused
        try:
            return self._take(session, name, word, number, body)
        except _Refused:
            self._sessions.pop(name).upstream.close()
            raise
        finally:
            session.in_use.release()

    def _take(self, session: _Session, name: bytes, word: bytes, number: int, body: bytes) -> bytes:
        if number != session.next:
            self.faults.append(f"number {number} instead of {session.next}")
            raise _Refused
        session.next += 1
        if word == b"close":
            self._sessions.pop(name).upstream.close()
            return b"\x00"
        if word == b"send":
            session.send(body)
        return session.answer()

    @staticmethod
    def _is_readable(connection: socket.socket) -> bool:
        with suppress(BlockingIOError):
            return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(_RECEIVE_BYTES)
    if not data:
        raise ConnectionError
    return data
