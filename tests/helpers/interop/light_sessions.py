"""Hundreds of live RTMP sessions in one thread: they read no media, and note when it arrives."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar, cast, final

from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.rtmp_client import KEYFRAME, Client, video

_Result = TypeVar("_Result")
_PERIOD_S = 0.1
# Of linux/sched.h.
_CLONE_NEWNET = 0x40000000
_GIVES_UP_S = 30.0
# That are opened at the same time.
_OPENING = 10


class SessionFailed(Exception):
    """The server has not begun to play in time."""


class LightSession(asyncio.Protocol):
    """One session; ``role`` is "play" or "publish". ``gap_s``: the longest time without media so far.
    ``received``: the last bytes. ``frame``: what is published each time.
    """

    def __init__(self, role: str, path: str, frame: bytes = KEYFRAME) -> None:
        self._role = role
        self._frame = frame
        self._application, _, self._name = path.partition("/")
        self._client = Client()
        self._asked = ""
        self._transport: Any = None
        self._sent = 0
        # Set when media may come, and at the end.
        self.answered = asyncio.Event()
        self.media_at = 0.0
        self.gap_s = 0.0
        self.received = b""
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._transport.write(self._client.hello())

    def data_received(self, data: bytes) -> None:
        if self.has_begun:
            self.received = data
            self._note_media()
            return
        self._transport.write(self._client.receive(data))
        if not self._asked and self._client.handshaken:
            self._ask("connect", self._client.connect(self._application))
        for message in self._client.take_messages():
            self._go_on(message.payload)

    def connection_lost(self, _: Exception | None) -> None:
        self.has_ended = True
        self.answered.set()

    @property
    def has_begun(self) -> bool:
        """Whether the server has begun to play, or to take what is published."""
        return self.media_at > 0.0

    def send_media(self) -> None:
        self._sent += 1
        self._transport.write(self._client.write(video(self._frame, 100 * self._sent)))

    def close(self) -> None:
        """Abort the connection. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._transport.abort)

    def _go_on(self, answer: bytes) -> None:
        if b"_result" in answer and self._asked == "connect":
            self._ask("createStream", self._client.call("createStream", 2.0))
        elif b"_result" in answer and self._asked == "createStream":
            self._ask(self._role, self._client.call(self._role, 0.0, self._name, stream_id=1))
        elif b".Start" in answer and self._asked == self._role:
            self.media_at = monotonic()
            self.answered.set()

    def _ask(self, name: str, question: bytes) -> None:
        self._asked = name
        self._transport.write(question)

    def _note_media(self) -> None:
        now = monotonic()
        self.gap_s = max(self.gap_s, now - self.media_at)
        self.media_at = now


def _enter(namespace: str) -> None:
    """Move this thread to a network namespace: its new sockets are there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", namespace).open() as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")


def forget_gaps(sessions: Iterable[LightSession]) -> None:
    for session in sessions:
        session.gap_s = 0.0


def longest_gap_s(sessions: Iterable[LightSession]) -> float:
    """The longest time without media of any of these since ``forget_gaps``."""
    now = monotonic()
    return max(max(session.gap_s, now - session.media_at) for session in sessions)


@final
class LightSessions:
    """Runs the sessions until it is left. Publishers send a key frame ten times a second, with
    ``frame_bytes`` more than the least. ``namespace``: the name of the network that they are in.
    """

    def __init__(self, frame_bytes: int = 0, namespace: str = "") -> None:
        self._namespace = namespace
        self._frame = KEYFRAME + bytes(frame_bytes)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run)
        self._all: list[LightSession] = []

    def __enter__(self) -> LightSessions:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(
        self, port: int, path: str, host: str = LOOPBACK, mark: bytes = b""
    ) -> LightSession:
        """Publish until the end. ``mark``: the end of each frame, by which players know the server."""
        session = self._call(self._open("publish", port, path, host=host, mark=mark))
        asyncio.run_coroutine_threadsafe(self._send(session), self._loop)
        return session

    def play(
        self, port: int, path: str, patience_s: float = _GIVES_UP_S, host: str = LOOPBACK
    ) -> LightSession:
        """Begin to play. Raises SessionFailed if the connection ends before, or the time."""
        return self._call(self._open("play", port, path, patience_s, host))

    def play_many(
        self, number: int, port: int, path: str, host: str = LOOPBACK
    ) -> list[LightSession]:
        """Begin to play so many times, several at a time. Raises SessionFailed if one fails."""
        return self._call(self._open_many(number, port, path, host))

    def _run(self) -> None:
        if self._namespace:
            _enter(self._namespace)
        self._loop.run_forever()

    def _call(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _open(
        self,
        role: str,
        port: int,
        path: str,
        patience_s: float = _GIVES_UP_S,
        host: str = LOOPBACK,
        mark: bytes = b"",
    ) -> LightSession:
        _, protocol = await self._loop.create_connection(
            lambda: LightSession(role, path, self._frame + mark), host, port
        )
        session = cast(LightSession, protocol)
        self._all.append(session)
        with suppress(TimeoutError):
            await asyncio.wait_for(session.answered.wait(), patience_s)
        if not session.has_begun:
            session.close()
            raise SessionFailed
        return session

    async def _open_many(self, number: int, port: int, path: str, host: str) -> list[LightSession]:
        places = asyncio.Semaphore(_OPENING)

        async def open_one() -> LightSession:
            async with places:
                return await self._open("play", port, path, host=host)

        return await asyncio.gather(*(open_one() for _ in range(number)))

    async def _send(self, session: LightSession) -> None:
        while not session.has_ended:
            session.send_media()
            await asyncio.sleep(_PERIOD_S)

    async def _end(self) -> None:
        for session in self._all:
            session.close()
        # The connections and the publishers' tasks end.
        await asyncio.sleep(2 * _PERIOD_S)
