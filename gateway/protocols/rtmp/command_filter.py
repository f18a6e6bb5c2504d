"""Filter of a client's chunk stream: each command is kept until it is passed, or another takes its place.

Data messages are kept too, because nginx-rtmp and SRS process a command in them as a command. All other
messages pass as they come. From the first chunk of a command to its decision, everything is kept, within a
limit, so the order of the chunks does not change.

The filter and the server must agree on where messages begin and end; else a client could hide a command.
Therefore the filter is stricter than its base, and makes ambiguous chunks explicit:

- Aborts, aggregates, shared objects, and a command within an unfinished one are errors. nginx-rtmp ignores
  aborts, and processes commands in the others; clients do not send them to live servers.
- A chunk of format 3 has the timestamp field of its message repeated, if that is extended. Clients omit it,
  or send the timestamp instead, and servers take what they do not expect for the payload.
- The message after a replaced command gets a header with its own length, unless it has one.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import (
    BASIC_HEADER_BYTES,
    EXTENDED,
    ChunkLimits,
    ChunkReader,
    ChunkStream,
    chunk_stream_id,
)
from gateway.protocols.rtmp.commands import COMMAND_BYTES, COMMAND_BYTES_A_CHUNK
from gateway.protocols.rtmp.messages import Message, MessageType

_LIMITS: Final = ChunkLimits(
    message_bytes=COMMAND_BYTES, assembling_bytes=2 * COMMAND_BYTES, chunks_saved=5000
)
_COMMANDS: Final = frozenset(
    {
        *(MessageType.COMMAND, MessageType.COMMAND_AMF3),
        *(MessageType.DATA, MessageType.DATA_AMF3),
    }
)
_SHARED_OBJECT_AMF3, _SHARED_OBJECT = 16, 19
_REFUSED: Final = frozenset(
    {MessageType.ABORT, MessageType.AGGREGATE, _SHARED_OBJECT, _SHARED_OBJECT_AMF3}
)
# The payloads that are stored. Servers take the others as they are.
_READ: Final = _COMMANDS | {MessageType.SET_CHUNK_SIZE, MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE}
_SKIPPED: Final = frozenset(range(256)) - _READ
# The most that is kept for one command: its chunks, and media between them.
_KEPT_BYTES: Final = 4 * COMMAND_BYTES
# The most that is stored behind a command that waits. The owner stops reading from the client, which may
# have sent a body of 1 MiB before.
_STORED_BYTES: Final = 2 * 1024 * 1024


class CommandFilter(ChunkReader):
    """``receive`` takes the client's bytes. While ``command`` is set, they are stored until ``resume``.

    Both return the bytes for the server, and raise RTMPError, after which the filter must not be used.
    """

    __slots__ = (
        *("_at", "_begins", "_chunk_stream", "_command_chunk_size", "_command_stream"),
        *("_from", "_kept", "_kept_bytes", "_out", "_replaced", "_stored", "_stored_bytes"),
        "command",
    )

    def __init__(self) -> None:
        super().__init__(_LIMITS, _SKIPPED)
        # The command or data that waits for its decision, and what the client has sent since.
        self.command: Message | None = None
        self._stored: list[bytes] = []
        self._stored_bytes = 0
        # The chunk stream of the unfinished or waiting command, and the chunk size at its beginning.
        self._command_stream: int | None = None
        self._command_chunk_size = 0
        # Everything from its first chunk on: whether it belongs to the command, and the bytes.
        self._kept: list[tuple[bool, bytes]] = []
        self._kept_bytes = 0
        self._out: list[bytes] = []
        # The number of bytes of ``_rest`` that have been processed.
        self._at = 0
        # Where the bytes begin that have been processed, and are neither in ``_kept`` nor in ``_out``.
        self._from = 0
        # The current chunk: its chunk stream, and whether a message begins with it.
        self._chunk_stream = 0
        self._begins = False
        # The chunk streams whose last message was replaced.
        self._replaced: set[int] = set()

    def receive(self, data: bytes, now: float) -> bytes:
        """Process bytes from the client, up to the end of the next command."""
        self._give_credit(len(data), now)
        if self.command is not None:
            self._store(data)
            return b""
        self._rest += data
        return self._proceed()

    def resume(self, replacement: Message | None = None) -> bytes:
        """Pass the waiting command, or ``replacement``, and what follows it."""
        stream_id = self._command_stream
        if self.command is None or stream_id is None:
            raise ValueError("no command waits")
        if replacement is not None:
            # The first header of a writer is complete: it depends on no earlier one.
            self._out.append(ChunkWriter(self._command_chunk_size).write(replacement, stream_id))
            self._replaced.add(stream_id)
        self._out += [piece for is_own, piece in self._kept if replacement is None or not is_own]
        self._kept = []
        self._kept_bytes = 0
        self.command = self._command_stream = None
        if self._stored:
            self._rest += b"".join(self._stored)
            self._stored = []
            self._stored_bytes = 0
        return self._proceed()

    def _store(self, data: bytes) -> None:
        self._stored_bytes += len(data)
        if self._stored_bytes > _STORED_BYTES:
            raise RTMPError("too many bytes behind a command that waits")
        self._stored.append(data)

    def _proceed(self) -> bytes:
        data, at = self._rest, self._at
        self._from = at
        while self.command is None:
            stream = self._current
            if stream is None:
                body_at = self._take_header(data, at)
                if body_at is None:
                    break
                at = body_at
                continue
            end = min(at + self._chunk_left, len(data))
            self._take_body(stream, data, at, end)
            at = end
            if self._command_stream is not None:
                self._move(data, at)
            if self._chunk_left:
                break
            self._take_end(stream)
        self._move(data, at)
        if self.command is None:
            self._rest, self._at = data[at:], 0
        else:
            # Not cut for each of many commands that have come together.
            self._at = at
        out, self._out = self._out, []
        return b"".join(out)

    def _take_header(self, data: bytes, at: int) -> int | None:
        """Process the chunk header at ``at``. Returns where it ends; None if it is incomplete."""
        end = self._read_header(data, at)
        if end < 0:
            return None
        self.charge(1)
        self._chunk_stream = chunk_stream_id(data, at)
        stream = self._streams[self._chunk_stream]
        if self._begins:
            self._begin_message(stream, data, at)
        explicit = self._explicit(stream, data[at:end])
        if explicit is not None:
            self._move(data, at)
            self._from = end
            self._add(explicit)
        return end

    def _begin_chunk(
        self, stream: ChunkStream, chunk_format: int, fields: bytes, field: int, extended: bool
    ) -> None:
        self._begins = not stream.unfinished
        super()._begin_chunk(stream, chunk_format, fields, field, extended)

    def _begin_message(self, stream: ChunkStream, data: bytes, at: int) -> None:
        if stream.type in _REFUSED:
            raise RTMPError(f"message of type {stream.type}, which clients do not send")
        if stream.type not in _COMMANDS:
            return
        if self._command_stream is not None:
            raise RTMPError("a command within an unfinished command")
        self._move(data, at)
        self._command_stream = self._chunk_stream
        self._command_chunk_size = self._chunk_size

    def _explicit(self, stream: ChunkStream, header: bytes) -> bytes | None:
        """The header to send in place of ``header``; None if that is right."""
        basic_bytes = BASIC_HEADER_BYTES.get(header[0] & 63, 1)
        chunk_format = header[0] >> 6
        if self._begins and self._chunk_stream in self._replaced:
            self._replaced.remove(self._chunk_stream)
            return _with_length(stream, header[:basic_bytes]) if chunk_format > 1 else None
        if chunk_format == 3 and stream.extended:
            repeated = header[:basic_bytes] + stream.field.to_bytes(4, "big")
            return None if header == repeated else repeated
        return None

    def _take_end(self, stream: ChunkStream) -> None:
        messages: list[Message] = []
        self._end_chunk(stream, messages)
        for message in messages:
            if message.type in _COMMANDS:
                self.charge(len(message.payload) // COMMAND_BYTES_A_CHUNK)
                self.command = message

    def _move(self, data: bytes, end: int) -> None:
        """Add what has been processed, up to ``end``, to what is kept or sent."""
        if end > self._from:
            self._add(data[self._from : end])
            self._from = end

    def _add(self, piece: bytes) -> None:
        if self._command_stream is None:
            self._out.append(piece)
            return
        self._kept_bytes += len(piece)
        if self._kept_bytes > _KEPT_BYTES:
            raise RTMPError("a command of too many chunks")
        self._kept.append((self._chunk_stream == self._command_stream, piece))


def _with_length(stream: ChunkStream, basic_header: bytes) -> bytes:
    """A header of format 1 for a message that begins with format 2 or 3."""
    field = EXTENDED if stream.extended else stream.field
    return b"".join(
        (
            bytes([basic_header[0] & 63 | 1 << 6]),
            basic_header[1:],
            field.to_bytes(3, "big"),
            stream.length.to_bytes(3, "big"),
            bytes([stream.type]),
            stream.field.to_bytes(4, "big") if stream.extended else b"",
        )
    )
