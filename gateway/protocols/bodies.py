"""Strict, incremental parsing of HTTP bodies, of a declared length or chunked (RFC 9112, 6 and 7).

Bytes behind a body stay in the buffer: they belong to the next message of the connection. Readers of
messages are derived from ``BodyReader``, and begin a body when they have read a head.

This module does not know heads, or the meaning of a body.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.errors import BadRequest, HeadTooLarge
from gateway.protocols.fields import items_of
from gateway.protocols.limits import Limits

# A size below 2^32, and chunk extensions, which are ignored (RFC 9112, 7.1.1), up to a limit.
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n")
_CHUNK_HEAD_BYTES = 256


class BodyReader:
    """The bodies of one connection. ``buffer``: received bytes that have not been pulled yet."""

    __slots__ = ("_at", "_begun", "_left", "_limits", "_step", "buffer")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.buffer = b""
        # The parser step for the next bytes of the current body; None between messages.
        self._step: Callable[[BodyReader], bytes | None] | None = None
        # The position of the body's steps in ``buffer``; 0 outside ``next_piece``.
        self._at = 0
        self._begun = False
        self._left = 0

    @property
    def in_body(self) -> bool:
        """Whether the body of the last head is incomplete."""
        return self._step is not None

    @property
    def body_begun(self) -> bool:
        """Whether any byte of the current body has arrived."""
        return self._begun or bool(self.buffer)

    def receive(self, data: bytes) -> None:
        """Add bytes received from the connection."""
        self.buffer = self.buffer + data if self.buffer else data

    def next_piece(self) -> bytes:
        """The received part of the current body; b"" if there is none, or it is complete (``in_body``).

        Raises BadRequest.
        """
        pieces: list[bytes] = []
        while self._step is not None and self._at < len(self.buffer):
            try:
                piece = self._step(self)
            except BadRequest:
                if not pieces:
                    raise
                break
            if piece == b"":
                break
            if piece is not None:
                pieces.append(piece)
        self._begun = self._begun or self._at > 0
        # Sliced once for all pieces, because every chunk can be one byte.
        self.buffer = self.buffer[self._at :]
        self._at = 0
        return b"".join(pieces)

    def _begin_body(self, length: int, is_chunked: bool) -> None:
        """A head has been read: the next bytes are its body, if it has one."""
        self._begun = False
        if length:
            self._step = read_length
            self._left = length
        elif is_chunked:
            self._step = _read_chunk_head

    def _take(self, after: Callable[[BodyReader], bytes | None] | None) -> bytes:
        """Take up to ``_left`` bytes. Once all are taken, ``after`` is the next step."""
        piece = self.buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = after
        return piece

    # The steps of a body. Each reads ``buffer`` from ``_at``, where there is at least one byte. It returns
    # bytes of the body, b"" if it needs more input, or None if another step is next.

    def _read_length(self) -> bytes:
        return self._take(None)

    def _read_chunk_head(self) -> bytes | None:
        most = self._at + _CHUNK_HEAD_BYTES
        match = _CHUNK_HEAD.match(self.buffer, self._at, most)
        if match is None:
            if self.buffer.find(b"\n", self._at, most) >= 0 or len(self.buffer) >= most:
                raise BadRequest("malformed chunk")
            return b""
        self._at = match.end()
        self._left = int(match[1], 16)
        self._step = _read_chunk_data if self._left else _read_trailer
        return None

    def _read_chunk_data(self) -> bytes:
        return self._take(_read_chunk_end)

    def _read_chunk_end(self) -> bytes | None:
        end = self.buffer[self._at : self._at + 2]
        if end == b"\r":
            return b""
        if end != b"\r\n":
            raise BadRequest("chunk without its end")
        self._at += 2
        self._step = _read_chunk_head
        return None

    def _read_trailer(self) -> bytes | None:
        """Trailer fields are checked like header fields, and discarded."""
        at, most = self._at, self._at + self._limits.head_bytes
        end = at + 2
        if not self.buffer.startswith(b"\r\n", at):
            end = self.buffer.find(b"\r\n\r\n", at, most) + 4
        if end == 3:
            if len(self.buffer) >= most:
                raise HeadTooLarge("trailer over the limit")
            return b""
        items_of(self.buffer[at:end])
        self._at = end
        self._step = None
        return None


read_length = BodyReader._read_length
_read_chunk_head = BodyReader._read_chunk_head
_read_chunk_data = BodyReader._read_chunk_data
_read_chunk_end = BodyReader._read_chunk_end
_read_trailer = BodyReader._read_trailer
