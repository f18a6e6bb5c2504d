"""Writer of the RTMP chunk stream: splits messages into chunks with the shortest possible headers.

The format is described at the head of ``chunks``. Messages are not interleaved: the chunks of a message are
contiguous, in the order of the calls.

Rules: format 0 is used for the first message of a chunk stream, for another message stream, and if the
timestamp goes back or jumps; otherwise the header has only what differs from the last message. A message
never begins with format 3 directly after format 0, which readers interpret in two ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from gateway.protocols.rtmp.chunks import EXTENDED, FIRST_CHUNK_SIZE, HEADER_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType, read_figure

# The chunk streams by message type: those of Flash Media Server, which all clients accept. Separate ones
# for audio and video keep their headers short.
_CONTROL_CHUNK_STREAM: Final = 2
_COMMAND_CHUNK_STREAM: Final = 3
_CHUNK_STREAMS: Final = {
    MessageType.AUDIO: 4,
    MessageType.DATA: 5,
    MessageType.DATA_AMF3: 5,
    MessageType.VIDEO: 6,
    MessageType.AGGREGATE: 7,
    MessageType.COMMAND: _COMMAND_CHUNK_STREAM,
    MessageType.COMMAND_AMF3: _COMMAND_CHUNK_STREAM,
}


def chunk_stream_for(message_type: int) -> int:
    """The default chunk stream for a message type."""
    if message_type <= MessageType.SET_PEER_BANDWIDTH:
        return _CONTROL_CHUNK_STREAM
    return _CHUNK_STREAMS.get(message_type, 8)  # type: ignore[call-overload, no-any-return]


@frozen
class _Header:
    """The last header of a chunk stream; ``delta`` is None after format 0."""

    stream_id: int
    timestamp: int
    type: int
    length: int
    delta: int | None


class ChunkWriter:
    """Encodes messages. A set chunk size message takes effect after it, as it does at the reader.

    ``chunk_size``: what the reader expects at first.
    """

    __slots__ = ("_chunk_size", "_last")

    def __init__(self, chunk_size: int = FIRST_CHUNK_SIZE) -> None:
        self._chunk_size = chunk_size
        self._last: dict[int, _Header] = {}

    def write(self, message: Message, chunk_stream_id: int | None = None) -> bytes:
        """The chunks of ``message``, joined. Messages must be sent in the order of the calls."""
        size = self._chunk_size
        first, between = self._begin(message, chunk_stream_id)
        if len(message.payload) <= size:
            return first + message.payload
        return b"".join(_cut(message.payload, first, between, size))

    def chunks(self, message: Message) -> Iterator[bytes]:
        """The chunks of ``message``. All of them must be sent before the next message."""
        size = self._chunk_size
        return _cut(message.payload, *self._begin(message), size)

    def _begin(self, message: Message, chunk_stream_id: int | None = None) -> tuple[bytes, bytes]:
        """The header of the first chunk of ``message``, and that of each other one."""
        if chunk_stream_id is None:
            chunk_stream_id = chunk_stream_for(message.type)
        delta = self._delta(message, chunk_stream_id)
        chunk_format = self._format(message, chunk_stream_id, delta)
        self._last[chunk_stream_id] = _Header(
            message.stream_id, message.timestamp, message.type, len(message.payload), delta
        )
        if message.type == MessageType.SET_CHUNK_SIZE:
            self._chunk_size = read_figure(message)
        between = _write_basic_header(chunk_stream_id, 3)
        if delta is None and message.timestamp >= EXTENDED:
            between += message.timestamp.to_bytes(4, "big")
        return _write_header(message, chunk_stream_id, chunk_format, delta), between

    def _delta(self, message: Message, chunk_stream_id: int) -> int | None:
        """By how much ``message`` is later than the one before, or None if it needs format 0."""
        last = self._last.get(chunk_stream_id)
        if last is None or last.stream_id != message.stream_id:
            return None
        delta = message.timestamp - last.timestamp
        return delta if 0 <= delta < EXTENDED else None

    def _format(self, message: Message, chunk_stream_id: int, delta: int | None) -> int:
        if delta is None:
            return 0
        last = self._last[chunk_stream_id]
        if (last.type, last.length) != (message.type, len(message.payload)):
            return 1
        return 3 if last.delta == delta else 2


def _cut(payload: bytes, first: bytes, between: bytes, size: int) -> Iterator[bytes]:
    yield first + payload[:size]
    for at in range(size, len(payload), size):
        yield between + payload[at : at + size]


def _write_basic_header(chunk_stream_id: int, chunk_format: int) -> bytes:
    top = chunk_format << 6
    if chunk_stream_id < 64:
        return bytes([top | chunk_stream_id])
    if chunk_stream_id < 64 + 256:
        return bytes([top, chunk_stream_id - 64])
    return bytes([top | 1]) + (chunk_stream_id - 64).to_bytes(2, "little")


def _write_header(
    message: Message, chunk_stream_id: int, chunk_format: int, delta: int | None
) -> bytes:
    basic = _write_basic_header(chunk_stream_id, chunk_format)
    time = message.timestamp if delta is None else delta
    fields = min(time, EXTENDED).to_bytes(3, "big")
    fields += len(message.payload).to_bytes(3, "big") + bytes([message.type])
    fields += message.stream_id.to_bytes(4, "little")
    extension = time.to_bytes(4, "big") if time >= EXTENDED else b""
    return basic + fields[: HEADER_BYTES[chunk_format]] + extension
