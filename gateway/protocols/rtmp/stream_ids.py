"""Translation of message stream ids, for a server that has assigned other ids than the gateway did.

They are in the headers of format 0, in deleteStream, and in the user control messages about a stream. Ids
that the gateway has not assigned are unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.chunk_scanner import ChunkHeader
from gateway.protocols.rtmp.commands import read_command, stream_number
from gateway.protocols.rtmp.message_editor import MessageEditor
from gateway.protocols.rtmp.messages import Message, MessageType

_COMMANDS: Final = frozenset({MessageType.COMMAND, MessageType.COMMAND_AMF3})
_EDITED: Final = _COMMANDS | {MessageType.USER_CONTROL}
# Stream begin, end and dry, set buffer length, and stream is recorded.
_STREAM_EVENTS: Final = frozenset(range(5))
_ID_BYTES: Final = 4
# The number at the end of a deleteStream, in AMF0.
_NUMBER_BYTES: Final = 9


@final
class StreamIdTranslation(MessageEditor):
    """``streams``: the new id of each; it may be changed between two calls."""

    __slots__ = ("_streams",)

    def __init__(self, streams: Mapping[int, int]) -> None:
        super().__init__()
        self._streams = streams

    def _can_edit(self, header: ChunkHeader) -> bool:
        return header.type in _EDITED

    def _edit_header(self, header: ChunkHeader, written: bytes) -> bytes:
        if header.format:
            return written
        # The id is the last field of a format 0 header, before an extended timestamp.
        end = len(written) - (4 if header.extended else 0)
        begin = end - _ID_BYTES
        new = self._new(int.from_bytes(written[begin:end], "little"))
        return written[:begin] + new.to_bytes(_ID_BYTES, "little") + written[end:]

    def _edit(self, message: Message) -> bytes | None:
        payload = message.payload
        if message.type == MessageType.USER_CONTROL:
            if len(payload) < 6 or int.from_bytes(payload[:2], "big") not in _STREAM_EVENTS:
                return None
            new = self._new(int.from_bytes(payload[2:6], "big"))
            return payload[:2] + new.to_bytes(_ID_BYTES, "big") + payload[6:]
        number = _deleted(message)
        if number is None or not payload.endswith(amf0.encode(float(number))):
            return None
        return payload[:-_NUMBER_BYTES] + amf0.encode(float(self._new(number)))

    def _new(self, stream_id: int) -> int:
        return self._streams.get(stream_id, stream_id)


def _deleted(message: Message) -> int | None:
    """The stream in a deleteStream; None for other messages, and those that cannot be read."""
    try:
        command = read_command(message)
    except RTMPError:
        return None
    if command is None or command.name != "deleteStream" or len(command.arguments) != 1:
        return None
    return stream_number(command.argument(0))
