"""Frames between two workers, of one gateway or of two: commands of sessions that the other one owns, and
answers.

A connection begins with ``GREETING`` from the worker that forwards commands. Then, in both directions:

    4 bytes    length of the rest
    1 byte     type
    4 bytes    number of the request, chosen by the worker that forwards it; 0 if the frame has none
    ...        payload

All numbers are big-endian. Workers of two versions can meet during an upgrade: a worker that does not know
the greeting closes the connection.

Types and flags are plain integers, and a command is a tuple, because each forwarded command costs them.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, final

from gateway.protocols.commands import Kind

GREETING: Final = b"rtmpt-gateway peer 1\n"

# Frames of the worker that forwards.
COMMAND: Final = 1
# More bytes have arrived behind a pending command: the payload is the session id.
RELEASE: Final = 2
# The connection of a pending command was lost.
FORGET: Final = 3
# A client's connection was closed, or has vanished: connection and session id.
SOURCE_LOST: Final = 4
CLIENT_VANISHED: Final = 5
# Frames of the session's own worker.
ANSWER: Final = 16
# Refused because the session is unknown, or because the command is malformed.
UNKNOWN: Final = 17
MALFORMED: Final = 18
# The answer is withheld: later requests of the connection have to wait for it.
KEEPING: Final = 19
# The greeting of a worker of another node was accepted.
ACCEPTED: Final = 20

# Flags of a command. No further bytes have arrived behind it, so an idle's answer may be held.
MAY_HOLD: Final = 1
# It comes on another connection than the last one that this worker forwarded; that connection has carried
# commands of other sessions.
CARRIED: Final = 2
SHARED: Final = 4
# It has a sequence number.
NUMBERED: Final = 8

_HEAD: Final = Struct("!IBI")
_HEAD_BYTES: Final = _HEAD.size
_LENGTH_BYTES: Final = 4
_REST_BYTES: Final = _HEAD_BYTES - _LENGTH_BYTES
# Kind, flags, sequence number, connection, and the lengths of session id and Via.
_COMMAND: Final = Struct("!BBQQBB")
_COMMAND_BYTES: Final = _COMMAND.size
_COMMAND_FRAME: Final = Struct(_HEAD.format + _COMMAND.format.removeprefix("!"))
_CONNECTION: Final = Struct("!Q")
# A body of 1 GiB would be over every limit; the connection is out of step.
_MOST_BYTES: Final = 1 << 30
_VIA_BYTES: Final = 255

_SEND, _IDLE, _CLOSE = Kind.SEND, Kind.IDLE, Kind.CLOSE
_KINDS: Final = (_SEND, _IDLE, _CLOSE)

# Session id, kind, number, body, connection, flags, Via.
PeerCommand = tuple[bytes, Kind, int, bytes, int, int, bytes]
# Type, request, payload.
Frame = tuple[int, int, bytes]


class OutOfStep(Exception):
    """The peer's bytes are no frames."""


def frame(type_: int, request: int, payload: bytes = b"") -> bytes:
    """A frame of any type but COMMAND."""
    return _HEAD.pack(_REST_BYTES + len(payload), type_, request) + payload


def frame_head(type_: int, request: int, payload_bytes: int) -> bytes:
    """The beginning of a frame, which its payload follows."""
    return _HEAD.pack(_REST_BYTES + payload_bytes, type_, request)


def command_head(
    request: int,
    session_id: bytes,
    kind: Kind,
    number: int,
    body_bytes: int,
    source: int,
    flags: int,
    via: bytes = b"",
) -> bytes:
    """The frame of a command up to its body, which follows it. ``source``: its client connection."""
    via = via[:_VIA_BYTES]
    id_bytes, via_bytes = len(session_id), len(via)
    head = _COMMAND_FRAME.pack(
        _REST_BYTES + _COMMAND_BYTES + id_bytes + via_bytes + body_bytes,
        COMMAND,
        request,
        0 if kind is _SEND else 1 if kind is _IDLE else 2,
        flags,
        number,
        source,
        id_bytes,
        via_bytes,
    )
    return head + session_id + via


def read_command(payload: bytes) -> PeerCommand:
    """Raises OutOfStep."""
    if len(payload) < _COMMAND_BYTES:
        raise OutOfStep("a command without its head")
    kind, flags, number, source, id_bytes, via_bytes = _COMMAND.unpack_from(payload)
    via_at = _COMMAND_BYTES + id_bytes
    body_at = via_at + via_bytes
    if kind >= len(_KINDS) or len(payload) < body_at:
        raise OutOfStep("a malformed command")
    via = payload[via_at:body_at] if via_bytes else b""
    session_id, body = payload[_COMMAND_BYTES:via_at], payload[body_at:]
    return session_id, _KINDS[kind], number, body, source, flags, via


def connection_and_session(source: int, session_id: bytes) -> bytes:
    """The payload of SOURCE_LOST and CLIENT_VANISHED."""
    return _CONNECTION.pack(source) + session_id


def read_connection_and_session(payload: bytes) -> tuple[int, bytes]:
    """Raises OutOfStep."""
    if len(payload) < _CONNECTION.size:
        raise OutOfStep("a lost connection without its number")
    return _CONNECTION.unpack_from(payload)[0], payload[_CONNECTION.size :]


@final
class FrameReader:
    """Splits a stream into frames. ``greeting``: what it has to begin with; empty for answers."""

    __slots__ = ("_greeting", "_pieces", "_wanted")

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        # Pieces of a frame that lacks ``_wanted`` bytes, so that a large body is joined once.
        self._pieces: list[bytes] = []
        self._wanted = len(greeting) or _HEAD_BYTES

    @property
    def is_greeted(self) -> bool:
        """Whether the greeting has been received."""
        return not self._greeting

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that are complete. Raises OutOfStep."""
        size = len(data)
        if self._pieces or self._greeting or size < _HEAD_BYTES:
            return self._receive_piece(data)
        length, type_, request = _HEAD.unpack_from(data)
        if _LENGTH_BYTES + length == size:
            return [(type_, request, data[_HEAD_BYTES:])]
        return self._split(data, 0)

    def _receive_piece(self, data: bytes) -> list[Frame]:
        self._pieces.append(data)
        self._wanted -= len(data)
        if self._wanted > 0:
            return []
        buffer = b"".join(self._pieces)
        greeting, self._greeting = self._greeting, b""
        if not buffer.startswith(greeting):
            raise OutOfStep("not the greeting of a worker of this version")
        return self._split(buffer, len(greeting))

    def _split(self, buffer: bytes, at: int) -> list[Frame]:
        found = []
        size = len(buffer)
        needed = _HEAD_BYTES
        while size - at >= _HEAD_BYTES:
            length, type_, request = _HEAD.unpack_from(buffer, at)
            if not _REST_BYTES <= length <= _MOST_BYTES:
                raise OutOfStep(f"a frame of {length} bytes")
            end = at + _LENGTH_BYTES + length
            if end > size:
                needed = _LENGTH_BYTES + length
                break
            found.append((type_, request, buffer[at + _HEAD_BYTES : end]))
            at = end
        self._pieces = [buffer[at:]] if at < size else []
        self._wanted = needed - (size - at)
        return found
