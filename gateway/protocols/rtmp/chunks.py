"""Reader of the RTMP chunk stream: assembles messages from interleaved chunks.

A chunk is a basic header (format and chunk stream id, 1 to 3 bytes), a message header of 11, 7, 3 or 0
bytes by format, four bytes of extended timestamp if the timestamp field is ``FFFFFF``, and a payload of at
most the chunk size. Source: Adobe's *RTMP specification 1.0*, section 5.3.

Rules where the specification is silent or implementations differ:

- The extended timestamp is repeated on every chunk of format 3 of that message, as Flash and FFmpeg write
  and expect it. OBS before 2024 and older librtmp omit it (PROTOCOL.md, What each client needs): four bytes
  that are neither the timestamp field nor the message's timestamp are payload.
- A message that begins with format 3 uses the last timestamp field as its delta, also after format 0:
  FFmpeg and librtmp read it so. ``chunk_writer`` never writes one after format 0.
- A chunk stream may begin with format 1, which some encoders send. It must not begin with format 2 or 3,
  which have no message length.
- A message header inside an incomplete message is an error. It does not start a new message.

The reader processes the three messages about chunks (set chunk size, abort, window acknowledgement size),
and returns all others without interpreting them. For types to be skipped, it returns a message with an
empty payload, and stores none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, frozen

from gateway.errors import RTMPError
from gateway.protocols.rtmp.messages import MAX_CHUNK_SIZE, Message, MessageType, read_figure

FIRST_CHUNK_SIZE: Final = 128
# The window of Flash Media Server. Senders that honour it wait for an acknowledgement after this many
# bytes. A much smaller one costs messages; a much larger one stalls encoders that count.
WINDOW_BYTES: Final = 2_500_000
# The timestamp field if four bytes of extended timestamp follow the header.
EXTENDED: Final = 0xFFFFFF
# The size by the low six bits of the first byte; other values of these are the chunk stream id itself.
BASIC_HEADER_BYTES: Final = {0: 2, 1: 3}
# A message header's size by format.
HEADER_BYTES: Final = (11, 7, 3, 0)
INCOMPLETE: Final = -1
_UNBOUNDED: Final = 1 << 62
_NEVER: Final = float("-inf")


@frozen
class ChunkLimits:
    """The limits of one connection's reader."""

    # The format allows 16 MiB - 1; a 4K keyframe at 100 Mbit/s has about 2 MiB.
    message_bytes: int = 8 * 1024 * 1024
    # All incomplete messages by their declared length: one of the largest, and audio beside it.
    assembling_bytes: int = 12 * 1024 * 1024
    # Clients use fewer than ten; the format allows 65,597.
    chunk_streams: int = 64
    # Limit on the number of chunks, if the reader knows the time: one for each 64 bytes, and 250 a second
    # in addition for streams of small frames (silence and speech: 43 a second, video: 60). Reading a
    # chunk takes about 3 us, so a megabyte takes at most 0.05 s.
    bytes_a_chunk: int = 64
    chunks_a_s: int = 250
    # The most chunks that can be saved up for a burst.
    chunks_saved: int = 2000


@define
class ChunkStream:
    """The last header of one chunk stream, and what is there of its unfinished message."""

    timestamp: int = 0
    field: int = 0
    extended: bool = False
    length: int = 0
    type: int = 0
    stream_id: int = 0
    unfinished: bool = False
    received: int = 0
    body: bytes | bytearray = b""


class ChunkReader:
    """Bytes to messages, in whatever pieces the bytes come.

    ``unfinished``, if given, is called with each change in the number of bytes of unfinished messages.
    """

    __slots__ = (
        "_acknowledged_bytes",
        "_assembling_bytes",
        "_chunk_left",
        "_chunk_size",
        "_credit",
        "_credited_at",
        "_current",
        "_limits",
        "_rest",
        "_skipped",
        "_streams",
        "_unfinished",
        "_window_bytes",
        "received_bytes",
    )

    def __init__(
        self,
        limits: ChunkLimits = ChunkLimits(),
        skipped: frozenset[int] = frozenset(),
        unfinished: Callable[[int], None] | None = None,
    ) -> None:
        self._limits = limits
        self._skipped = skipped
        self._chunk_size = FIRST_CHUNK_SIZE
        self._streams: dict[int, ChunkStream] = {}
        self._current: ChunkStream | None = None
        self._chunk_left = 0
        self._rest = b""
        self._assembling_bytes = 0
        self.received_bytes = 0
        self._acknowledged_bytes = 0
        self._window_bytes = WINDOW_BYTES
        # How many more chunks may be read.
        self._credit: float = _UNBOUNDED
        self._credited_at = _NEVER
        self._unfinished = unfinished

    def feed(self, data: bytes, now: float | None = None) -> list[Message]:
        """The messages that ``data`` completes, in the order of their last chunks.

        With ``now``, in seconds, the number of chunks has a bound (``ChunkLimits``). Raises ``RTMPError``
        on a malformed chunk or past a bound; the reader is of no use after it, and the messages before the
        bad chunk in ``data`` are lost with it.
        """
        self.received_bytes += len(data)
        if now is not None:
            self._give_credit(len(data), now)
        data = self._rest + data if self._rest else data
        messages: list[Message] = []
        at = 0
        while True:
            stream = self._current
            if stream is None:
                body_at = self._read_header(data, at)
                if body_at == INCOMPLETE:
                    break
                at = body_at
                self.charge(1)
                continue
            end = min(at + self._chunk_left, len(data))
            self._take_body(stream, data, at, end)
            at = end
            if self._chunk_left:
                break
            self._end_chunk(stream, messages)
        self._rest = data[at:]
        return messages

    def charge(self, chunks: int) -> None:
        """Use up the credit of so many chunks. Raises RTMPError if it is exhausted."""
        self._credit -= chunks
        if self._credit < 0:
            raise RTMPError("too many small chunks or commands")

    def _give_credit(self, size_bytes: int, now: float) -> None:
        limits = self._limits
        earned = self._credit + (now - self._credited_at) * limits.chunks_a_s
        # Fractions count: the segments of a small message earn less than one each.
        self._credit = min(earned, limits.chunks_saved) + size_bytes / limits.bytes_a_chunk
        self._credited_at = now

    @property
    def is_between_chunks(self) -> bool:
        """Whether the last chunk is complete, and nothing of the next one has been received."""
        return self._current is None and not self._rest

    @property
    def chunk_size(self) -> int:
        """The most bytes of payload in the sender's next chunk."""
        return self._chunk_size

    def acknowledgement_due(self) -> int | None:
        """The figure to acknowledge, once for each window received; None while none is due."""
        if self.received_bytes - self._acknowledged_bytes < self._window_bytes:
            return None
        self._acknowledged_bytes = self.received_bytes
        return self.received_bytes & 0xFFFFFFFF

    def _read_header(self, data: bytes, at: int) -> int:
        """Where the payload of the chunk at ``at`` begins, or ``INCOMPLETE``, having changed nothing."""
        if at == len(data):
            return INCOMPLETE
        chunk_format = data[at] >> 6
        fields_at = at + BASIC_HEADER_BYTES.get(data[at] & 63, 1)
        end = fields_at + HEADER_BYTES[chunk_format]
        if len(data) < end:
            return INCOMPLETE
        stream = self._stream(chunk_stream_id(data, at), chunk_format)
        if chunk_format == 3:
            return self._read_repeated(stream, data, end)
        field = int.from_bytes(data[fields_at : fields_at + 3], "big")
        extended = field == EXTENDED
        if extended:
            if len(data) < end + 4:
                return INCOMPLETE
            field = int.from_bytes(data[end : end + 4], "big")
            end += 4
        self._begin_chunk(stream, chunk_format, data[fields_at:end], field, extended)
        return end

    def _read_repeated(self, stream: ChunkStream, data: bytes, end: int) -> int:
        """As ``_read_header``, for format 3, whose header ends at ``end`` or four bytes later."""
        if stream.extended:
            found = data[end : end + 4]
            repeated = (stream.field.to_bytes(4, "big"), stream.timestamp.to_bytes(4, "big"))
            if found in repeated:
                end += 4
            elif len(found) < 4 and any(each.startswith(found) for each in repeated):
                return INCOMPLETE
        self._begin_chunk(stream, 3, b"", stream.field, stream.extended)
        return end

    def _stream(self, chunk_stream_id: int, chunk_format: int) -> ChunkStream:
        stream = self._streams.get(chunk_stream_id)
        if stream is None:
            if chunk_format > 1:
                raise RTMPError(f"chunk stream {chunk_stream_id} begins with format {chunk_format}")
            if len(self._streams) >= self._limits.chunk_streams:
                raise RTMPError(f"more than {self._limits.chunk_streams} chunk streams")
            stream = self._streams[chunk_stream_id] = ChunkStream()
        return stream

    def _begin_chunk(
        self, stream: ChunkStream, chunk_format: int, fields: bytes, field: int, extended: bool
    ) -> None:
        if not stream.unfinished:
            _read_fields(stream, chunk_format, fields, field, extended)
            if stream.type not in self._skipped:
                self._reserve(stream.length)
            stream.unfinished = True
        elif chunk_format != 3:
            raise RTMPError("message header inside an unfinished message")
        self._current = stream
        self._chunk_left = min(self._chunk_size, stream.length - stream.received)

    def _reserve(self, length: int) -> None:
        if length > self._limits.message_bytes:
            raise RTMPError(f"message of {length} bytes")
        self._assembling_bytes += length
        if self._assembling_bytes > self._limits.assembling_bytes:
            raise RTMPError("too many bytes in unfinished messages")

    def _take_body(self, stream: ChunkStream, data: bytes, at: int, end: int) -> None:
        self._chunk_left -= end - at
        stream.received += end - at
        if stream.type in self._skipped:
            return
        if end - at == stream.length:
            # The common case, a message in one chunk: copied once, here.
            stream.body = data[at:end]
            return
        if not stream.body:
            stream.body = bytearray()
        stream.body += memoryview(data)[at:end]
        if self._unfinished is not None:
            self._unfinished(end - at)

    def _end_chunk(self, stream: ChunkStream, messages: list[Message]) -> None:
        self._current = None
        if stream.received < stream.length:
            return
        message = Message(stream.type, bytes(stream.body), stream.stream_id, stream.timestamp)
        self._forget_message(stream)
        keep = _OWN_MESSAGES.get(message.type)
        if keep is None:
            messages.append(message)
        else:
            keep(self, read_figure(message))

    def _forget_message(self, stream: ChunkStream) -> None:
        if self._unfinished is not None and isinstance(stream.body, bytearray):
            self._unfinished(-len(stream.body))
        stream.unfinished = False
        stream.received = 0
        stream.body = b""
        if stream.type not in self._skipped:
            self._assembling_bytes -= stream.length

    def _set_chunk_size(self, size_bytes: int) -> None:
        if not 1 <= size_bytes < 1 << 31:
            raise RTMPError(f"chunk size {size_bytes}")
        self._chunk_size = min(size_bytes, MAX_CHUNK_SIZE)

    def _abort(self, chunk_stream_id: int) -> None:
        stream = self._streams.get(chunk_stream_id)
        if stream is not None and stream.unfinished:
            self._forget_message(stream)

    def _set_window(self, window_bytes: int) -> None:
        self._window_bytes = window_bytes or WINDOW_BYTES


_OWN_MESSAGES: Final[dict[int, Callable[[ChunkReader, int], None]]] = {
    MessageType.SET_CHUNK_SIZE: ChunkReader._set_chunk_size,
    MessageType.ABORT: ChunkReader._abort,
    MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE: ChunkReader._set_window,
}


def chunk_stream_id(data: bytes, at: int) -> int:
    """The id in the basic header at ``at``, which is complete."""
    low = data[at] & 63
    if low == 0:
        return 64 + data[at + 1]
    if low == 1:
        return 64 + data[at + 1] + 256 * data[at + 2]
    return low


def _read_fields(
    stream: ChunkStream, chunk_format: int, fields: bytes, field: int, extended: bool
) -> None:
    """Take the header of a new message; ``field`` is its timestamp, or by how much it is later."""
    if chunk_format < 2:
        stream.length = int.from_bytes(fields[3:6], "big")
        stream.type = fields[6]
    if chunk_format == 0:
        stream.stream_id = int.from_bytes(fields[7:11], "little")
        stream.timestamp = field
    else:
        stream.timestamp = (stream.timestamp + field) & 0xFFFFFFFF
    stream.field = field
    stream.extended = extended
