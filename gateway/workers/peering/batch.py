"""Writes to another worker, joined to one for each iteration of the reactor."""

from __future__ import annotations

from typing import Any, final

from gateway.dispatch import at_end_of_iteration
from gateway.transport import JOIN_BYTES


@final
class Batch:
    """The frames for one connection. Frames of clients that were read in the same iteration are one write,
    and wake the other worker once.

    ``joined_bytes``: bodies of this size and less are copied behind their head. TLS copies all.
    """

    __slots__ = ("_frames", "_joined_bytes", "_transport")

    def __init__(self, transport: Any, joined_bytes: float = JOIN_BYTES) -> None:
        self._transport = transport
        self._joined_bytes = joined_bytes
        self._frames: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self._frames.append(frame)
        if len(self._frames) == 1:
            at_end_of_iteration(self._flush)

    def write_two(self, head: bytes, body: bytes) -> None:
        """Write a frame that consists of two parts. A large one is not copied."""
        if len(body) <= self._joined_bytes:
            self.write(head + body)
        else:
            self._flush()
            self._transport.write_two(head, body)

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if frames:
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
