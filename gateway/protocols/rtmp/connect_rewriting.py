"""The stream of a client whose connect command has another length than it sent.

The chunks of the connect are replaced by those of the new one, cut at the client's chunk size. All other
bytes stay. A chunk header can inherit the length of the message before on its chunk stream, so the next
message there could inherit the wrong one. It gets a header with its own length; after that, the server
knows what the client assumes, and ``done`` is set.

The server's count of received bytes, which it acknowledges, then differs from the client's count of sent
bytes by the change of the length. A sender waits only if acknowledgements are a whole window behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from attrs import frozen

from gateway.protocols.rtmp.chunk_scanner import ChunkHeader, ChunkScanner

_INHERITING: Final = 2


@frozen
class ReadChunk:
    """A chunk of the connect: its header, and where it begins and ends in the received bytes."""

    header: ChunkHeader
    begin: int
    body_at: int
    end: int


@final
class ConnectRewriting:
    """``translate`` returns the stream for the server. It must be called, until ``done`` is set."""

    __slots__ = ("_chunk_stream_id", "_has_same_length", "_head", "_scanner", "_unread", "done")

    def __init__(
        self, scanner: ChunkScanner, received: bytes, chunks: Sequence[ReadChunk], payload: bytes
    ) -> None:
        """``received``: up to the end of the connect, which the last of its ``chunks`` is."""
        self._scanner = scanner
        self._unread = b""
        first = chunks[0]
        self._chunk_stream_id = first.header.chunk_stream_id
        others, at = [], 0
        for chunk in chunks:
            others.append(received[at : chunk.begin])
            at = chunk.end
        rewritten = _cut(first, received[first.begin : first.body_at], payload, scanner.chunk_size)
        # The stream up to the end of the connect, until it has been returned.
        self._head = b"".join((*others, rewritten))
        self._has_same_length = len(payload) == first.header.length
        self.done = False

    def translate(self, data: bytes, now: float) -> bytes:
        """The bytes for the server in place of ``data``, the next bytes behind the connect. The first time,
        all before them too. Raises RTMPError.
        """
        head, self._head = self._head, b""
        if self._has_same_length:
            self.done = True
            return head + data
        return head + self._translate(data, now)

    def _translate(self, data: bytes, now: float) -> bytes:
        scanner = self._scanner
        scanner.begin(len(data), now)
        data = self._unread + data
        at = 0
        while (end := scanner.step(data, at)) is not None:
            header = scanner.header
            if header is not None and header.chunk_stream_id == self._chunk_stream_id:
                self.done = True
                return data[:at] + self._complete(header, data[at:end]) + data[end:]
            at = end
        self._unread = data[at:]
        return data[:at]

    @staticmethod
    def _complete(header: ChunkHeader, written: bytes) -> bytes:
        if header.format < _INHERITING:
            return written
        return header.with_length(written, header.length)


def _cut(first: ReadChunk, written: bytes, payload: bytes, size: int) -> bytes:
    """The chunks of ``payload``, whose header was ``written`` with another length."""
    between = first.header.continuation(written)
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return first.header.with_length(written, len(payload)) + between.join(pieces)
