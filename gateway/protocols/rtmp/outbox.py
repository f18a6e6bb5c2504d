"""A connection's way out: messages to chunks to the wire, and a bounded queue while it takes none.

Rules:

- While not held, a message is written at once. While held, it waits; ``release`` writes what waited,
  in order, until the wire holds again.
- Media that finds no room is refused, and it is for the player to begin again at a keyframe.
- Everything else is owed: when too much of that waits, the connection is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.messages import Message

# Media waiting for one connection. At 8 Mbit/s it is two seconds behind the wire's own buffers: less
# would drop at a single large keyframe, more would only make a slow player see older pictures.
QUEUE_BYTES: Final = 2 * 1024 * 1024
# What a waiting message costs beside its payload, so that empty ones are bounded too.
MESSAGE_BYTES: Final = 256
# Messages that are no media. A stream that comes and goes makes about five each time.
QUEUE_NOTICES: Final = 256


class Wire(Protocol):
    """The connection below."""

    def write(self, data: bytes) -> None:
        """Send, after everything written before."""

    def close(self) -> None:
        """End the connection; what is not sent yet may be lost.

        Called from amid other connections' work: the end must be told after returning, not before.
        """


def _cost_bytes(message: Message) -> int:
    return MESSAGE_BYTES + len(message.payload)


class Outbox:
    """The messages of one connection on their way to ``wire``."""

    __slots__ = ("_closed", "_held", "_notices", "_queue", "_queue_bytes", "_wire", "_writer")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._writer = ChunkWriter()
        self._held = False
        self._closed = False
        self._queue: deque[tuple[Message, bool]] = deque()
        self._queue_bytes = 0
        self._notices = 0

    def send(self, *messages: Message) -> None:
        """Send what the client must get."""
        if not self._held:
            self._write(messages)
        elif self._notices + len(messages) <= QUEUE_NOTICES:
            self._notices += len(messages)
            self._queue.extend((message, False) for message in messages)
        else:
            self.close()

    def offer(self, messages: list[Message]) -> bool:
        """Send media if there is room for all of it, and say whether there was."""
        if not self._held:
            self._write(messages)
            return not self._closed
        waiting_bytes = self._queue_bytes + sum(map(_cost_bytes, messages))
        if waiting_bytes > QUEUE_BYTES:
            return False
        self._queue_bytes = waiting_bytes
        self._queue.extend((message, True) for message in messages)
        return True

    def _write(self, messages: Sequence[Message]) -> None:
        if not self._closed:
            self._wire.write(b"".join(map(self._writer.write, messages)))

    def hold(self) -> None:
        """The wire takes no more for now."""
        self._held = True

    def release(self) -> None:
        """The wire takes bytes again; it may hold once more from within."""
        self._held = False
        while self._queue and not self._held:
            message, is_media = self._queue.popleft()
            if is_media:
                self._queue_bytes -= _cost_bytes(message)
            else:
                self._notices -= 1
            self._write([message])

    def close(self) -> None:
        """Drop what waits, and end the connection."""
        self._queue.clear()
        if not self._closed:
            self._closed = True
            self._wire.close()
