"""Reader of a chunk stream that is passed on: step by step, with the header of each chunk.

Only the payloads of commands and of control messages are read. All others, such as media and shared
objects, are skipped, and may have any size.
"""

from __future__ import annotations

from typing import Final, final

from attrs import frozen

from gateway.protocols.rtmp.chunks import (
    BASIC_HEADER_BYTES,
    EXTENDED,
    INCOMPLETE,
    ChunkLimits,
    ChunkReader,
    chunk_stream_id,
)
from gateway.protocols.rtmp.commands import COMMAND_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType

_LIMITS: Final = ChunkLimits(message_bytes=COMMAND_BYTES, assembling_bytes=2 * COMMAND_BYTES)
_READ: Final = frozenset(
    {
        *(MessageType.SET_CHUNK_SIZE, MessageType.ABORT, MessageType.ACKNOWLEDGEMENT),
        *(MessageType.USER_CONTROL, MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE),
        *(MessageType.SET_PEER_BANDWIDTH, MessageType.COMMAND, MessageType.COMMAND_AMF3),
    }
)
_SKIPPED: Final = frozenset(range(256)) - _READ
# The formats of a header with length and type, and of one without fields.
_LENGTHENED: Final = 1
_SAME: Final = 3


@frozen
class ChunkHeader:
    """The header of a chunk. ``begins``: whether a message begins with it.

    ``field`` is the timestamp field, and ``extended`` whether it has four bytes; those of format 3 are as
    before. ``length`` and ``type`` are the message's, ``payload_bytes`` the chunk's.
    """

    chunk_stream_id: int
    format: int
    begins: bool
    field: int
    extended: bool
    length: int
    type: int
    payload_bytes: int

    def with_length(self, header: bytes, length: int) -> bytes:
        """``header``, the bytes of this header of a message, with another length.

        One that inherits its length becomes one of format 1, which does not.
        """
        basic, fields = _parts(header)
        if self.format <= _LENGTHENED:
            return basic + fields[:3] + length.to_bytes(3, "big") + fields[6:]
        field = EXTENDED if self.extended else self.field
        return b"".join(
            (
                *(_with_format(basic, _LENGTHENED), field.to_bytes(3, "big")),
                *(length.to_bytes(3, "big"), bytes([self.type]), self._extension()),
            )
        )

    def continuation(self, header: bytes) -> bytes:
        """The header of each further chunk of the message that begins with ``header``."""
        basic, _ = _parts(header)
        return _with_format(basic, _SAME) + self._extension()

    def _extension(self) -> bytes:
        return self.field.to_bytes(4, "big") if self.extended else b""


@final
class ChunkScanner(ChunkReader):
    """``header`` and ``message``: what the last step has completed, or None."""

    __slots__ = ("_completed", "header", "message")

    def __init__(self) -> None:
        super().__init__(_LIMITS, _SKIPPED)
        self._completed: list[Message] = []
        self.header: ChunkHeader | None = None
        self.message: Message | None = None

    def begin(self, size_bytes: int, now: float) -> None:
        """So many bytes have arrived: they permit some more chunks (``ChunkLimits``)."""
        self._give_credit(size_bytes, now)

    def step(self, data: bytes, at: int) -> int | None:
        """Read the header, or the part of a payload, at ``at``. Returns where it ends.

        Returns None if no step can be made: ``data`` from ``at`` on must then be given again with more.
        Raises RTMPError.
        """
        self.header = self.message = None
        stream = self._current
        if stream is None:
            end = self._read_header(data, at)
            if end == INCOMPLETE:
                return None
            self.charge(1)
            self.header = self._header(data, at)
            return end
        if at == len(data) and self._chunk_left:
            return None
        end = min(at + self._chunk_left, len(data))
        self._take_body(stream, data, at, end)
        if not self._chunk_left:
            self._end_chunk(stream, self._completed)
            self.message = self._completed.pop() if self._completed else None
        return end

    def is_unfinished(self, chunk_stream_id: int) -> bool:
        """Whether a message has begun there and is not complete."""
        stream = self._streams.get(chunk_stream_id)
        return stream is not None and stream.unfinished

    def _header(self, data: bytes, at: int) -> ChunkHeader | None:
        stream = self._current
        if stream is None:
            return None
        return ChunkHeader(
            chunk_stream_id(data, at),
            data[at] >> 6,
            not stream.received,
            stream.field,
            stream.extended,
            stream.length,
            stream.type,
            self._chunk_left,
        )


def _parts(header: bytes) -> tuple[bytes, bytes]:
    """The basic header, and the fields behind it."""
    size = BASIC_HEADER_BYTES.get(header[0] & 63, 1)
    return header[:size], header[size:]


def _with_format(basic: bytes, chunk_format: int) -> bytes:
    return bytes([basic[0] & 63 | chunk_format << 6]) + basic[1:]
