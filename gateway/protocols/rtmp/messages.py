"""Messages: what chunks carry, and the control messages of the connection itself.

Numbers are those of Adobe's *RTMP specification 1.0*, sections 5.4, 6.2 and 7.1. A message's payload
is opaque here; commands are read in ``commands``, audio and video in ``media``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from attrs import frozen

from gateway.errors import RTMPError


class MessageType(IntEnum):
    """The message types a relay meets; a ``Message`` may carry others, which are not acted on."""

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


class UserControl(IntEnum):
    """The events of a user control message that anything here sends or answers."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    PING_REQUEST = 6
    PING_RESPONSE = 7


class BandwidthLimit(IntEnum):
    """How a peer takes the figure in a set peer bandwidth message."""

    HARD = 0
    SOFT = 1
    DYNAMIC = 2


@frozen
class Message:
    """One whole message. ``timestamp`` is absolute, in milliseconds, modulo 2**32."""

    type: int
    payload: bytes
    stream_id: int = 0
    timestamp: int = 0


# A set chunk size message has 31 bits, but no message is longer than 24 bits can say.
MAX_CHUNK_SIZE: Final = 0xFFFFFF


def _figure(message_type: MessageType, figure: int) -> Message:
    return Message(message_type, (figure & 0xFFFFFFFF).to_bytes(4, "big"))


def set_chunk_size(size_bytes: int) -> Message:
    """From the next chunk on, the sender's chunks carry up to this many bytes."""
    return _figure(MessageType.SET_CHUNK_SIZE, size_bytes)


def abort(chunk_stream_id: int) -> Message:
    """The unfinished message on that chunk stream is given up."""
    return _figure(MessageType.ABORT, chunk_stream_id)


def acknowledgement(received_bytes: int) -> Message:
    """How much has been received so far, modulo 2**32."""
    return _figure(MessageType.ACKNOWLEDGEMENT, received_bytes)


def window_acknowledgement_size(window_bytes: int) -> Message:
    """The sender wants an acknowledgement for each window of this size."""
    return _figure(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, window_bytes)


def set_peer_bandwidth(window_bytes: int, limit: BandwidthLimit) -> Message:
    """The peer should not have more than this unacknowledged."""
    payload = window_bytes.to_bytes(4, "big") + bytes([limit])
    return Message(MessageType.SET_PEER_BANDWIDTH, payload)


def user_control(event: UserControl, value: int) -> Message:
    """An event about the message stream ``value``, or for a ping the time in it."""
    payload = event.to_bytes(2, "big") + (value & 0xFFFFFFFF).to_bytes(4, "big")
    return Message(MessageType.USER_CONTROL, payload)


def read_figure(message: Message) -> int:
    """The 32 bits that a control message is about; raises ``RTMPError`` if they are not all there."""
    if len(message.payload) < 4:
        raise RTMPError(f"control message of type {message.type} cut short")
    return int.from_bytes(message.payload[:4], "big")


def read_ping_request(message: Message) -> int | None:
    """The time that a ping request wants back; None for any other message."""
    return _read_user_control(message, UserControl.PING_REQUEST)


def read_ping_response(message: Message) -> int | None:
    """The time that a ping response brings back; None for any other message."""
    return _read_user_control(message, UserControl.PING_RESPONSE)


def _read_user_control(message: Message, event: UserControl) -> int | None:
    payload = message.payload
    if message.type != MessageType.USER_CONTROL or len(payload) < 6:
        return None
    if int.from_bytes(payload[:2], "big") != event:
        return None
    return int.from_bytes(payload[2:6], "big")
