"""Editor of a relayed chunk stream: replaces payloads by others of the same size, and message stream ids.

The other fields of headers are unchanged, so later headers still refer to the same values. Messages that
can be edited are held until they are complete, with the bytes between their chunks; all other bytes pass at
once.

RTMPError is raised for a stream that cannot be read, or that would have more than ``_HELD_BYTES`` held.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_scanner import ChunkHeader, ChunkScanner
from gateway.protocols.rtmp.messages import Message

# A command of 64 KiB, its headers, and media between its chunks.
_HELD_BYTES: Final = 256 * 1024


class MessageEditor:
    """``translate`` takes bytes and returns those to pass on. ``done`` is set once all further bytes pass
    unchanged; ``finish`` sets it as soon as nothing is held.
    """

    __slots__ = (
        *("_chunk_stream_id", "_edits", "_finishes", "_held", "_out", "_scanner"),
        *("_unfinished", "_unread", "done"),
    )

    def __init__(self) -> None:
        self._scanner = ChunkScanner()
        self._unread = b""
        # What can be returned, and after it what is held, from the first chunk of an unfinished message on.
        self._out = bytearray()
        self._held = bytearray()
        # By chunk stream, the unfinished messages that can be edited: where the parts of their payloads
        # begin and end in ``_held``.
        self._unfinished: dict[int, list[tuple[int, int]]] = {}
        # The chunk that is being read: its chunk stream, and whether its message can be edited.
        self._chunk_stream_id = 0
        self._edits = False
        self._finishes = False
        self.done = False

    def translate(self, data: bytes, now: float) -> bytes:
        """Process bytes. Returns those to pass on. Raises RTMPError."""
        if self.done:
            return data
        scanner, at = self._scanner, 0
        scanner.begin(len(data), now)
        data = self._unread + data
        while not self.done and (end := scanner.step(data, at)) is not None:
            self._add(data[at:end])
            at = end
        return self._taken_out(data[at:])

    def finish(self) -> None:
        """Nothing more has to be edited."""
        self._finishes = True
        self.done = self.done or not (self._unfinished or self._unread)

    def _taken_out(self, unread: bytes) -> bytes:
        """What need not be held. ``unread``: what follows it."""
        out = bytes(self._out)
        self._out.clear()
        self._unread = b"" if self.done else unread
        return out + unread if self.done else out

    def _can_edit(self, header: ChunkHeader) -> bool:
        """Whether the message of ``header`` is to be held until it is complete."""
        raise NotImplementedError

    def _edit(self, message: Message) -> bytes | None:
        """Another payload for ``message``, of the same size; None to keep it."""
        raise NotImplementedError

    def _edit_header(self, header: ChunkHeader, written: bytes) -> bytes:
        """The bytes of ``header``, which was ``written``."""
        return written

    def _add(self, step: bytes) -> None:
        """Add a step of the scanner to what is held."""
        header, message = self._scanner.header, self._scanner.message
        if header is not None:
            if self._unfinished:
                self._forget_aborted(header)
            step = self._edit_header(header, step)
            self._chunk_stream_id = header.chunk_stream_id
            self._edits = self._can_edit(header)
            if self._edits:
                self._unfinished.setdefault(header.chunk_stream_id, [])
        elif self._edits:
            begin = len(self._held)
            self._unfinished[self._chunk_stream_id].append((begin, begin + len(step)))
        if not self._unfinished:
            self._out += step
        else:
            self._hold(step)
        if message is not None and self._edits:
            self._complete(message)
        self.done = self._finishes and not self._unfinished

    def _complete(self, message: Message) -> None:
        """The message on the chunk stream that is being read is complete."""
        payload, at = self._edit(message), 0
        parts = self._unfinished.pop(self._chunk_stream_id)
        if payload is not None:
            for begin, end in parts:
                self._held[begin:end] = payload[at : at + end - begin]
                at += end - begin
        self._release()

    def _forget_aborted(self, header: ChunkHeader) -> None:
        """Release the messages that the sender has aborted. ``header``: of the present chunk, with which
        another message can begin on the chunk stream of an aborted one.
        """
        begun = header.chunk_stream_id if header.begins else None
        for each in tuple(self._unfinished):
            if each == begun or not self._scanner.is_unfinished(each):
                del self._unfinished[each]
        self._release()

    def _release(self) -> None:
        if not self._unfinished:
            self._out += self._held
            self._held.clear()

    def _hold(self, step: bytes) -> None:
        if len(self._held) > _HELD_BYTES:
            raise RTMPError("a message of too many chunks")
        self._held += step
