"""RTMP messages, and the protocol control messages of a connection.

Numbers are those of Adobe's *RTMP specification 1.0*, sections 5.4, 6.2 and 7.1. Payloads are not
interpreted here: see ``commands`` for commands, and ``media`` for audio and video.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from attrs import frozen

from gateway.errors import RTMPError


class MessageType(IntEnum):
    """The known message types. Messages of other types are relayed or ignored."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_ACKNOWLEDGEMENT_SIZE = 5
    SET_PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    COMMAND_AMF3 = 17
    DATA = 18
    COMMAND = 20
    AGGREGATE = 22


# Types with media and its metadata: all that is large, and many.
MEDIA_TYPES: Final = frozenset(
    {
        *(MessageType.AUDIO, MessageType.VIDEO, MessageType.AGGREGATE),
        *(MessageType.DATA, MessageType.DATA_AMF3),
    }
)


class UserControl(IntEnum):
    """The user control events that the gateway sends or answers."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    PING_REQUEST = 6
    PING_RESPONSE = 7


class BandwidthLimit(IntEnum):
    """The limit type of a set peer bandwidth message."""

    HARD = 0
    SOFT = 1
    DYNAMIC = 2


@frozen
class Message:
    """A complete message. ``timestamp`` is absolute, in milliseconds modulo 2**32."""

    type: int
    payload: bytes
    stream_id: int = 0
    timestamp: int = 0


# A set chunk size message has 31 bits, but a message length has 24.
MAX_CHUNK_SIZE: Final = 0xFFFFFF


def _figure(message_type: MessageType, figure: int) -> Message:
    return Message(message_type, (figure & 0xFFFFFFFF).to_bytes(4, "big"))


def set_chunk_size(size_bytes: int) -> Message:
    """The sender's next chunks have at most this many bytes of payload."""
    return _figure(MessageType.SET_CHUNK_SIZE, size_bytes)


def abort(chunk_stream_id: int) -> Message:
    """The incomplete message on that chunk stream is discarded."""
    return _figure(MessageType.ABORT, chunk_stream_id)


def acknowledgement(received_bytes: int) -> Message:
    """The number of bytes received so far, modulo 2**32."""
    return _figure(MessageType.ACKNOWLEDGEMENT, received_bytes)


def window_acknowledgement_size(window_bytes: int) -> Message:
    """The sender expects an acknowledgement for each window of this size."""
    return _figure(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, window_bytes)


def set_peer_bandwidth(window_bytes: int, limit: BandwidthLimit) -> Message:
    """The peer should limit its unacknowledged bytes to this."""
    payload = window_bytes.to_bytes(4, "big") + bytes([limit])
    return Message(MessageType.SET_PEER_BANDWIDTH, payload)


def user_control(event: UserControl, value: int) -> Message:
    """An event for the message stream ``value``; for a ping, ``value`` is a time."""
    payload = event.to_bytes(2, "big") + (value & 0xFFFFFFFF).to_bytes(4, "big")
    return Message(MessageType.USER_CONTROL, payload)


def read_figure(message: Message) -> int:
    """The 32-bit value of a control message. Raises RTMPError if it is incomplete."""
    if len(message.payload) < 4:
        raise RTMPError(f"control message of type {message.type} cut short")
    return int.from_bytes(message.payload[:4], "big")


def read_ping_request(message: Message) -> int | None:
    """The time in a ping request; None for any other message."""
    return _read_user_control(message, UserControl.PING_REQUEST)


def read_ping_response(message: Message) -> int | None:
    """The time in a ping response; None for any other message."""
    return _read_user_control(message, UserControl.PING_RESPONSE)


def _read_user_control(message: Message, event: UserControl) -> int | None:
    payload = message.payload
    if message.type != MessageType.USER_CONTROL or len(payload) < 6:
        return None
    if int.from_bytes(payload[:2], "big") != event:
        return None
    return int.from_bytes(payload[2:6], "big")
