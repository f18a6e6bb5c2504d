"""Upstream data that no answer has carried yet, in the pieces it was received in."""

from __future__ import annotations

from typing import final

# Small pieces are joined up to this size: a bytes object has an overhead of about 40 bytes, so a backlog of
# single bytes would take 40 times its limit.
_JOINED_BYTES = 4096


@final
class Backlog:
    """``size_bytes``: its total size. The session limits it by pausing the upstream."""

    __slots__ = ("_chunks", "size_bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.size_bytes = 0

    def append(self, data: bytes) -> None:
        """Add ``data`` at the end."""
        chunks = self._chunks
        if chunks and len(chunks[-1]) < _JOINED_BYTES:
            chunks[-1] += data
        else:
            chunks.append(data)
        self.size_bytes += len(data)

    def put_back(self, data: bytes) -> None:
        """Return ``data``, which was taken before, to the front."""
        self._chunks.insert(0, data)
        self.size_bytes += len(data)

    def take(self, first: bytes, most_bytes: int) -> bytes:
        """Remove up to ``most_bytes``. Returns ``first`` and the data, in one bytes object.

        Takes whole pieces, so that no byte is copied twice, unless the first piece exceeds ``most_bytes``.
        """
        chunks = self._chunks
        if self.size_bytes <= most_bytes:
            taken = b"".join((first, *chunks))
            chunks.clear()
            self.size_bytes = 0
            return taken
        if len(chunks[0]) > most_bytes:
            chunks[:1] = chunks[0][:most_bytes], chunks[0][most_bytes:]
        count, left_bytes = 0, most_bytes
        while left_bytes >= len(chunks[count]):
            left_bytes -= len(chunks[count])
            count += 1
        taken = b"".join((first, *chunks[:count]))
        del chunks[:count]
        self.size_bytes -= most_bytes - left_bytes
        return taken

    def clear(self) -> None:
        """Discard all data."""
        self._chunks = []
        self.size_bytes = 0
