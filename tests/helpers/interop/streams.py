"""An RTMP client's byte stream over each protocol; blocking, for measurements."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol, final

from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.commands import read_command
from gateway.protocols.rtmp.messages import Message
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.rtmp_client import MEDIA_TYPES, Client

WAYS = ("rtmp", "rtmps", "rtmpt", "rtmpts")
_PATIENCE_S = 30.0


class Stream(Protocol):
    """Bytes of RTMP to and from an upstream."""

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes:
        """Wait for the next bytes; b"" at the end."""

    def end(self) -> None:
        """End the stream."""


@final
class Raw:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def receive(self) -> bytes:
        return self._connection.recv(65536)

    def end(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)


@final
class Tunnelled:
    """A tunnel with one request at a time, on one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._number = 0
        self._came = b""
        self._session = self._post("/open/1", b"\x00").decode().strip()

    def send(self, data: bytes) -> None:
        self._came += self._command("send", data)

    def receive(self) -> bytes:
        while not self._came:
            self._came = self._command("idle", b"\x00")
        came, self._came = self._came, b""
        return came

    def end(self) -> None:
        self._command("close", b"\x00")

    def _command(self, name: str, body: bytes) -> bytes:
        answer = self._post(f"/{name}/{self._session}/{self._number}", body)
        self._number += 1
        return answer[1:]

    def _post(self, target: str, body: bytes) -> bytes:
        head = f"POST {target} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
        self._connection.sendall(head.encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._some()
        head_bytes, _, answer = answer.partition(b"\r\n\r\n")
        assert head_bytes.startswith(b"HTTP/1.1 200 "), head_bytes
        length = int(head_bytes.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while len(answer) < length:
            answer += self._some()
        return answer

    def _some(self) -> bytes:
        data = self._connection.recv(65536)
        assert data, "the connection has ended"
        return data


@contextmanager
def connected(
    way: str, port: int, context: ssl.SSLContext, name: str, address: str = LOOPBACK
) -> Iterator[Stream]:
    """A stream from ``address`` to the gateway's ``port``; within TLS its certificate must be valid
    for ``name``."""
    with socket.create_connection((LOOPBACK, port), _PATIENCE_S, (address, 0)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(_PATIENCE_S)
        secure = way in ("rtmps", "rtmpts")
        connection = context.wrap_socket(plain, server_hostname=name) if secure else plain
        with connection:
            yield Tunnelled(connection) if way in ("rtmpt", "rtmpts") else Raw(connection)


@final
class Talk:
    """An RTMP client on a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._client = Client()
        stream.send(self._client.hello())

    def send_first(self, message: Message) -> None:
        """Send ``message`` before the connect."""
        while not self._client.handshaken:
            self._receive()
        self.send(message)

    def start(self, role: str, path: str) -> Value:
        """``publish`` or ``play`` the stream at ``path``: application, slash, name. Returns the status."""
        application, _, name = path.partition("/")
        while not self._client.handshaken:
            self._receive()
        self._ask(self._client.connect(application), b"_result")
        self._ask(self._client.call("createStream", 2.0), b"_result")
        asked = self._client.call(role, 0.0, name, stream_id=1)
        status = read_command(self._ask(asked, b"NetStream."))
        return status.argument(0) if status is not None else None

    def end(self) -> None:
        self._stream.end()

    def send(self, message: Message) -> None:
        self._stream.send(self._client.write(message))

    def media(self) -> list[Message]:
        """Wait for the next audio, video or data."""
        while True:
            found = [each for each in self._client.take_messages() if each.type in MEDIA_TYPES]
            if found:
                return found
            self._receive()

    def _ask(self, question: bytes, answer: bytes) -> Message:
        """Wait for the message that has ``answer``; later data is kept."""
        self._stream.send(question)
        while True:
            for place, message in enumerate(self._client.messages):
                if answer in message.payload:
                    del self._client.messages[: place + 1]
                    return message
            self._receive()

    def _receive(self) -> None:
        data = self._stream.receive()
        assert data, "the stream has ended"
        answer = self._client.receive(data)
        if answer:
            self._stream.send(answer)


def seconds_until_media(
    way: str, port: int, context: ssl.SSLContext, name: str, path: str
) -> float:
    """From the first SYN to the first audio or video of a live stream."""
    begun = perf_counter()
    with connected(way, port, context, name) as stream:
        talk = Talk(stream)
        talk.start("play", path)
        talk.media()
    return perf_counter() - begun
