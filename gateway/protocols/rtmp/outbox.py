"""A connection's way out: messages to chunks to the wire, and a bounded queue while it takes none.

Rules:

- While not held, a message is written at once; a large one chunk by chunk, until the wire holds. While
  held, messages wait; ``release`` goes on, in order, until the wire holds again. What waits is the message
  as it was relayed, so that its payload is in memory once for all players.
- Media that finds no room is refused, and it is for the player to begin again at a keyframe.
- Everything else is owed: when too much of that waits, the connection is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.memory import MESSAGE_BYTES, ServerMemory
from gateway.protocols.rtmp.messages import Message

# Media waiting for one connection. At 8 Mbit/s it is two seconds behind the wire's own buffers: less
# would drop at a single large keyframe, more would only make a slow player see older pictures.
QUEUE_BYTES: Final = 2 * 1024 * 1024
# Messages that are no media. A stream that comes and goes makes about five each time.
QUEUE_NOTICES: Final = 256
# What is written at once; more is a copy for each player, and is written chunk by chunk.
AT_ONCE_BYTES: Final = 64 * 1024


class Wire(Protocol):
    """The connection below."""

    def write(self, data: bytes) -> None:
        """Send, after everything written before."""

    def close(self, cause: str) -> None:
        """End the connection; what is not sent yet may be lost.

        Called from amid other connections' work: the end must be told after returning, not before.
        """


def _payload_bytes(messages: list[Message]) -> int:
    return sum(len(each.payload) for each in messages)


class Outbox:
    """The messages of one connection on their way to ``wire``."""

    __slots__ = (
        *("_chunks", "_closed", "_held", "_memory", "_notices", "_queue", "_queue_bytes"),
        *("_wire", "_writer"),
    )

    def __init__(self, wire: Wire, memory: ServerMemory) -> None:
        self._wire = wire
        self._memory = memory
        self._writer = ChunkWriter()
        self._held = False
        self._closed = False
        # The first message's chunks that are not written yet, once it has begun.
        self._chunks: Iterator[bytes] | None = None
        self._queue: deque[tuple[Message, bool]] = deque()
        self._queue_bytes = 0
        self._notices = 0

    def send(self, *messages: Message) -> None:
        """Send what the client must get; short messages."""
        if not self._held:
            self._write(messages)
        elif self._notices + len(messages) <= QUEUE_NOTICES:
            self._notices += len(messages)
            self._queue.extend((message, False) for message in messages)
        else:
            self.close("too many messages that are no media wait for this client")

    def offer(self, messages: list[Message]) -> bool:
        """Send media if there is room for all of it, and say whether there was."""
        size_bytes = _payload_bytes(messages)
        if self._held:
            cost_bytes = size_bytes + MESSAGE_BYTES * len(messages)
            return self._queue_bytes + cost_bytes <= QUEUE_BYTES and self._put(messages)
        if size_bytes <= AT_ONCE_BYTES:
            self._write(messages)
        elif not self._put(messages):
            return False
        else:
            self._write_waiting()
        return not self._closed

    def _put(self, messages: list[Message]) -> bool:
        """Have media wait; all of it or nothing."""
        for at, message in enumerate(messages):
            if not self._memory.wait(message.payload):
                for each in messages[:at]:
                    self._memory.waited(each.payload)
                return False
        self._queue_bytes += _payload_bytes(messages) + MESSAGE_BYTES * len(messages)
        self._queue.extend((message, True) for message in messages)
        return True

    def _write(self, messages: tuple[Message, ...] | list[Message]) -> None:
        if not self._closed:
            self._wire.write(b"".join(map(self._writer.write, messages)))

    def hold(self) -> None:
        """The wire takes no more for now."""
        self._held = True

    def release(self) -> None:
        """The wire takes bytes again; it may hold once more from within."""
        self._held = False
        self._write_waiting()

    def _write_waiting(self) -> None:
        while self._queue and not self._held:
            if self._chunks is None:
                self._chunks = self._writer.chunks(self._queue[0][0])
            chunk = next(self._chunks, None)
            if chunk is not None:
                self._wire.write(chunk)
            else:
                self._chunks = None
                self._forget(*self._queue.popleft())

    def _forget(self, message: Message, is_media: bool) -> None:
        """A message that waited does so no more."""
        if is_media:
            self._memory.waited(message.payload)
            self._queue_bytes -= MESSAGE_BYTES + len(message.payload)
        else:
            self._notices -= 1

    def clear(self) -> None:
        """Drop what waits: nothing is written any more."""
        self._closed = True
        self._chunks = None
        while self._queue:
            self._forget(*self._queue.popleft())

    def close(self, cause: str) -> None:
        """Drop what waits, and end the connection."""
        if not self._closed:
            self.clear()
            self._wire.close(cause)
