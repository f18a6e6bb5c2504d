"""What an upstream has said and no answer has taken yet, as the chunks it came in."""

from __future__ import annotations

from typing import final

# Small pieces that nobody fetches are joined up to this size: each bytes object costs some 40 bytes of its
# own, and a backlog of single bytes would be 40 times its bound.
_JOINED_BYTES = 4096


@final
class Backlog:
    """``size_bytes`` is what is in it. Its bound is kept by pausing the upstream."""

    __slots__ = ("_chunks", "size_bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.size_bytes = 0

    def append(self, data: bytes) -> None:
        """The upstream has said ``data``."""
        chunks = self._chunks
        if chunks and len(chunks[-1]) < _JOINED_BYTES:
            chunks[-1] += data
        else:
            chunks.append(data)
        self.size_bytes += len(data)

    def put_back(self, data: bytes) -> None:
        """``data`` was taken, and has to be taken again."""
        self._chunks.insert(0, data)
        self.size_bytes += len(data)

    def take(self, first: bytes, most_bytes: int) -> bytes:
        """``first`` and up to ``most_bytes`` of the backlog, joined once.

        What does not take all ends at a chunk's end, so that nothing is copied twice, unless already the
        first chunk is too much.
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
        """Nobody will take any of it."""
        self._chunks = []
        self.size_bytes = 0
