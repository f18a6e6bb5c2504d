"""Servers in the test's event loop, on ports of the system: RTMP, RTMPT, and those that are neither."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from gateway.errors import RTMPError
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import ServerConnection

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPBACK = "127.0.0.1"
_HEAD = re.compile(rb"POST (\S+) HTTP/1.1\r\n.*?Content-Length: (\d+)\r\n", re.DOTALL)


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server whose connections are served by ``handler``, and closed when it returns."""

    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            # The task of a connection has nobody to tell.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


class _Answers:
    """The transport of a server in memory: what it has written and nobody has taken."""

    def __init__(self) -> None:
        self._written = b""

    def write(self, data: bytes) -> None:
        self._written += data

    def close(self, cause: str) -> None:
        raise AssertionError(cause)

    def take(self) -> bytes:
        taken, self._written = self._written, b""
        return taken


def rtmp_in_memory() -> tuple[ServerConnection, _Answers]:
    """The embedded origin's side of one connection, and what it writes."""
    answers = _Answers()
    handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
    return ServerConnection(answers, StreamTable(), handshake), answers


async def rtmp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The embedded origin."""
    server, answers = rtmp_in_memory()
    while data := await reader.read(65536):
        with suppress(RTMPError):
            server.receive(data, 0.0)
        writer.write(answers.take())


class Tunnel:
    """An RTMPT server with one session, in front of the embedded origin.

    ``hold_s``: how long an idle without data waits. ``cut_after_s``: after which time waiting requests are
    cut. ``closes``: whether each answer ends its connection. ``commands``: all that were received.
    """

    def __init__(
        self, hold_s: float = 0.05, cut_after_s: float | None = None, closes: bool = False
    ) -> None:
        self._server, self._answers = rtmp_in_memory()
        self._hold_s = hold_s
        self._cut_after_s = cut_after_s
        self._closes = closes
        self.commands: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = _HEAD.match(await reader.readuntil(b"\r\n\r\n"))
            assert head is not None
            body = await reader.readexactly(int(head[2]))
            answer = await self._obey(head[1].decode(), body)
            if answer is None:
                return
            writer.write(_response(answer, self._closes))
            if self._closes:
                return

    async def _obey(self, target: str, body: bytes) -> bytes | None:
        """The body of the answer; None to cut the connection."""
        self.commands.append(target)
        command = target.split("/")[1]
        if command == "open":
            return b"session\n"
        if command == "send":
            self._server.receive(body, 0.0)
        data = self._answers.take()
        if command == "idle" and not data:
            await asyncio.sleep(min(self._hold_s, self._cut_after_s or self._hold_s))
            if self._cut_after_s is not None:
                return None
        return b"\x01" + data


def _response(body: bytes, closes: bool) -> bytes:
    connection = "close" if closes else "keep-alive"
    head = f"HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def saying(answer: bytes, *, then_wait: bool = True) -> Handler:
    """A server that answers the first bytes with ``answer``, and waits or closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer)
        while then_wait and await reader.read(65536):
            pass

    return handler


def page(status: str, *fields: str) -> bytes:
    """A web server's response."""
    head = "\r\n".join((f"HTTP/1.1 {status}", *fields, "Content-Length: 6", "", ""))
    return head.encode() + b"<html>"
