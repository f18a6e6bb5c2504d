"""The send queue of a connection: messages are cut into chunks, and queued while the transport is full.

Rules:

- While the transport accepts data, messages are written immediately, large ones chunk by chunk. While it
  does not (``hold``), messages are queued; ``release`` continues with the queue, in order. The queue
  holds the relayed messages themselves, so that a payload is in memory once for all players.
- Media that exceeds the queue is refused; the player resumes at a later keyframe.
- All other messages must be delivered: when too much of them is queued, the connection is closed.
- Queued messages, and the buffers of transports that are full, count in ``memory`` for all connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.memory import MESSAGE_BYTES, ServerMemory
from gateway.protocols.rtmp.messages import Message

# Media waiting for one connection. At 8 Mbit/s it is two seconds behind the wire's own buffers: less
# would drop at a single large keyframe, more would only make a slow player see older pictures.
QUEUE_BYTES: Final = 2 * 1024 * 1024
# Messages that are no media. A stream that comes and goes makes about five each time.
QUEUE_NOTICES: Final = 256
# Their payloads: a status with the longest path has 4 KiB, an ordinary one 150 bytes.
QUEUE_NOTICE_BYTES: Final = 128 * 1024
# Larger messages are written chunk by chunk: each write is a copy for one player.
AT_ONCE_BYTES: Final = 64 * 1024


class Wire(Protocol):
    """The transport of the connection."""

    def write(self, data: bytes) -> None:
        """Send ``data`` after all data written before."""

    def close(self, cause: str) -> None:
        """Abort the connection; unsent data may be lost.

        Called while other connections are processed: the loss must be reported after this call returns.
        """


def _payload_bytes(messages: Sequence[Message]) -> int:
    return sum(len(each.payload) for each in messages)


class Outbox:
    """The send queue of one connection, written to ``wire``."""

    __slots__ = (
        *("_chunks", "_closed", "_held", "_memory", "_notice_bytes", "_notices", "_queue"),
        *("_queue_bytes", "_wire", "_writer"),
    )

    def __init__(self, wire: Wire, memory: ServerMemory) -> None:
        self._wire = wire
        self._memory = memory
        self._writer = ChunkWriter()
        self._held = False
        self._closed = False
        # The remaining chunks of the first message in the queue, once its first chunk is written.
        self._chunks: Iterator[bytes] | None = None
        self._queue: deque[tuple[Message, bool]] = deque()
        self._queue_bytes = 0
        self._notices = self._notice_bytes = 0

    def send(self, *messages: Message) -> None:
        """Send short messages that must be delivered."""
        if not self._held:
            self._write(messages)
        elif not self._put_notices(messages):
            self.close("the client reads too slowly: too many messages other than media are queued")

    def _put_notices(self, messages: tuple[Message, ...]) -> bool:
        size_bytes = self._notice_bytes + _payload_bytes(messages)
        if self._notices + len(messages) > QUEUE_NOTICES or size_bytes > QUEUE_NOTICE_BYTES:
            return False
        if not self._count_waiting(messages):
            return False
        self._notices += len(messages)
        self._notice_bytes = size_bytes
        self._queue.extend((message, False) for message in messages)
        return True

    def has_room(self, message: Message, others: int, others_bytes: int) -> bool:
        """Whether ``offer`` takes ``message`` and so many others before it, of so many bytes together."""
        if not self._held:
            return True
        cost_bytes = len(message.payload) + others_bytes + MESSAGE_BYTES * (others + 1)
        return self._queue_bytes + cost_bytes <= QUEUE_BYTES and self._memory.has_room(
            message.payload, others_bytes + MESSAGE_BYTES * others
        )

    def offer(self, messages: list[Message]) -> bool:
        """Send or queue media, all messages or none. Returns whether they were accepted."""
        if self._closed:
            return False
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
        """Queue media, all messages or none. Returns whether they were queued."""
        if not self._count_waiting(messages):
            return False
        self._queue_bytes += _payload_bytes(messages) + MESSAGE_BYTES * len(messages)
        self._queue.extend((message, True) for message in messages)
        return True

    def _count_waiting(self, messages: Sequence[Message]) -> bool:
        for at, message in enumerate(messages):
            if not self._memory.wait(message.payload):
                for each in messages[:at]:
                    self._memory.waited(each.payload)
                return False
        return True

    def _write(self, messages: Sequence[Message]) -> None:
        if not self._closed:
            self._wire.write(b"".join(map(self._writer.write, messages)))

    @property
    def is_waiting(self) -> bool:
        """Whether messages are queued."""
        return bool(self._queue)

    @property
    def queued_bytes(self) -> int:
        """The size of the queued messages, without what the transport has."""
        return self._queue_bytes + self._notice_bytes

    def hold(self) -> None:
        """The transport's buffer is full."""
        if not self._held and not self._closed:
            self._held = True
            self._memory.stall(self)

    def release(self) -> None:
        """The transport's buffer has drained; it can fill up again during this call."""
        self._end_hold()
        self._write_waiting()

    def _end_hold(self) -> None:
        if self._held:
            self._held = False
            self._memory.stalled_no_more(self)

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
        """Account for a message that has left the queue."""
        self._memory.waited(message.payload)
        if is_media:
            self._queue_bytes -= MESSAGE_BYTES + len(message.payload)
        else:
            self._notices -= 1
            self._notice_bytes -= len(message.payload)

    def clear(self) -> None:
        """Discard the queue, and ignore all later messages."""
        self._closed = True
        self._end_hold()
        self._chunks = None
        while self._queue:
            self._forget(*self._queue.popleft())

    def close(self, cause: str) -> None:
        """Discard the queue and close the connection."""
        if not self._closed:
            self.clear()
            self._wire.close(cause)
