"""Frames between two workers of one gateway: commands of sessions that the other worker owns, and answers.

A connection begins with ``GREETING`` from the worker that forwards commands. Then, in both directions:

    4 bytes    length of the rest
    1 byte     type
    4 bytes    number of the request, chosen by the worker that forwards it; 0 if the frame has none
    ...        payload

All numbers are big-endian. Workers of two versions can meet during an upgrade: a worker that does not know
the greeting closes the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, final

from attrs import frozen

from gateway.protocols.commands import Kind

GREETING: Final = b"rtmpt-gateway peer 1\n"

_HEAD: Final = Struct("!IBI")
_LENGTH_BYTES: Final = 4
# Kind, flags, sequence number, connection, and the lengths of session id and Via.
_COMMAND: Final = Struct("!BBQQBB")
_CONNECTION: Final = Struct("!Q")
# A body of 1 GiB would be over every limit; the connection is out of step.
_MOST_BYTES: Final = 1 << 30

_KINDS: Final = (Kind.SEND, Kind.IDLE, Kind.CLOSE)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
_VIA_BYTES: Final = 255


class FrameType(IntEnum):
    """Frames of the forwarding worker, and those of the session's own worker."""

    COMMAND = 1
    # More bytes have arrived behind a pending command: payload is the session id.
    RELEASE = 2
    # The connection of a pending command was lost.
    FORGET = 3
    # A client's connection was lost, or has vanished: connection and session id.
    SOURCE_LOST = 4
    CLIENT_VANISHED = 5

    ANSWER = 16
    # Refused because the session is unknown, or because the command is malformed.
    UNKNOWN = 17
    MALFORMED = 18
    # The answer is withheld: later requests of the connection have to wait for it.
    KEEPING = 19


class Flag(IntEnum):
    """Flags of a command."""

    # The command's connection has no further bytes, so that the answer to an idle may be held.
    MAY_HOLD = 1
    # Another connection than that of the session's last command, as far as the forwarding worker knows;
    # and whether it has carried commands of other sessions.
    CARRIED = 2
    SHARED = 4
    # A sequence number is given.
    NUMBERED = 8


class OutOfStep(Exception):
    """The peer's bytes are no frames."""


@final
@frozen
class PeerCommand:
    """A forwarded command. ``source``: its client connection. ``via``: the field of its first request."""

    session_id: bytes
    kind: Kind
    number: int | None
    body: bytes
    source: int
    may_hold: bool = True
    is_carried: bool = False
    is_shared: bool = False
    via: bytes = b""


def frame(type_: FrameType, request: int, payload: bytes = b"") -> bytes:
    """A frame of any type but COMMAND."""
    return frame_head(type_, request, len(payload)) + payload


def frame_head(type_: FrameType, request: int, payload_bytes: int) -> bytes:
    """The beginning of a frame, which its payload follows."""
    return _HEAD.pack(_HEAD.size - _LENGTH_BYTES + payload_bytes, type_, request)


def command_head(request: int, command: PeerCommand) -> bytes:
    """The frame of a command without its body, which follows it."""
    via = command.via[:_VIA_BYTES]
    flags = (
        Flag.MAY_HOLD * command.may_hold
        | Flag.CARRIED * command.is_carried
        | Flag.SHARED * command.is_shared
        | Flag.NUMBERED * (command.number is not None)
    )
    sizes = len(command.session_id), len(via)
    payload_bytes = _COMMAND.size + sum(sizes) + len(command.body)
    return b"".join(
        (
            frame_head(FrameType.COMMAND, request, payload_bytes),
            _COMMAND.pack(
                *(_NUMBERS[command.kind], flags, command.number or 0, command.source, *sizes)
            ),
            command.session_id,
            via,
        )
    )


def read_command(payload: bytes) -> PeerCommand:
    """Raises OutOfStep."""
    if len(payload) < _COMMAND.size:
        raise OutOfStep("a command without its head")
    kind, flags, number, source, id_bytes, via_bytes = _COMMAND.unpack_from(payload)
    via_at = _COMMAND.size + id_bytes
    if kind >= len(_KINDS) or len(payload) < via_at + via_bytes:
        raise OutOfStep("a malformed command")
    return PeerCommand(
        payload[_COMMAND.size : via_at],
        _KINDS[kind],
        number if flags & Flag.NUMBERED else None,
        payload[via_at + via_bytes :],
        source,
        bool(flags & Flag.MAY_HOLD),
        bool(flags & Flag.CARRIED),
        bool(flags & Flag.SHARED),
        payload[via_at : via_at + via_bytes],
    )


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

    __slots__ = ("_buffer", "_greeting", "_pieces", "_wanted")

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self._buffer = b""
        # Pieces of a frame that needs ``_wanted`` bytes, so that a large body is joined once.
        self._pieces: list[bytes] = []
        self._wanted = len(greeting) or _HEAD.size

    def receive(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Type, request and payload of each complete frame. Raises OutOfStep."""
        self._pieces.append(data)
        self._wanted -= len(data)
        if self._wanted > 0:
            return
        buffer = b"".join(self._pieces) if len(self._pieces) > 1 else data
        at = self._skip_greeting(buffer)
        while len(buffer) - at >= _HEAD.size:
            length, type_, request = _HEAD.unpack_from(buffer, at)
            if length > _MOST_BYTES or length < _HEAD.size - _LENGTH_BYTES:
                raise OutOfStep(f"a frame of {length} bytes")
            end = at + _LENGTH_BYTES + length
            if end > len(buffer):
                break
            yield type_, request, buffer[at + _HEAD.size : end]
            at = end
        self._keep(buffer[at:])

    def _skip_greeting(self, buffer: bytes) -> int:
        greeting, self._greeting = self._greeting, b""
        if not buffer.startswith(greeting):
            raise OutOfStep("not the greeting of a worker of this version")
        return len(greeting)

    def _keep(self, rest: bytes) -> None:
        self._pieces = [rest] if rest else []
        needed = _HEAD.size
        if len(rest) >= _HEAD.size:
            needed = _LENGTH_BYTES + _HEAD.unpack_from(rest)[0]
        self._wanted = needed - len(rest)
