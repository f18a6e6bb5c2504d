"""Classification of audio, video and data messages by their first bytes, for players that join late.

Sources: Adobe's *Video File Format Specification 10*, annex E (FLV tags), and the *Enhanced RTMP v2*
specification (FourCC codecs, ModEx, multitrack). Nothing is decoded, changed or copied. Unknown codecs are
relayed like all others, by the frame type that all codecs share.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

from gateway.protocols.rtmp.messages import Message, MessageType


class Kind(Enum):
    """The role of a message for a player that joins late or is too slow."""

    METADATA = "metadata"
    CLEAR_METADATA = "clear metadata"
    # Required before the first frame: a codec's configuration, colour or channel layout.
    HEADER = "header"
    KEYFRAME = "keyframe"
    # Video that depends on the frames since the last keyframe.
    INTER_FRAME = "inter frame"
    AUDIO = "audio"
    # Relayed to present players only: cue points, captions, end of sequence, aggregates.
    OTHER = "other"


@frozen
class Packet:
    """The kind of a message. ``slot`` distinguishes headers that are stored side by side."""

    kind: Kind
    slot: tuple[int, ...] = ()


_OTHER: Final = Packet(Kind.OTHER)
_AUDIO: Final = Packet(Kind.AUDIO)
_KEYFRAME: Final = Packet(Kind.KEYFRAME)
_INTER_FRAME: Final = Packet(Kind.INTER_FRAME)

# FLV frame types: 1 key, 2 inter, 3 disposable inter, 4 generated key, 5 command.
_FRAMES: Final = {1: _KEYFRAME, 2: _INTER_FRAME, 3: _INTER_FRAME, 4: _KEYFRAME}
# Codecs with a packet type in their second byte (0 header, 1 frames, 2 end): AVC, and HEVC as some
# encoders put it before Enhanced RTMP; AAC.
_PACKETIZED_VIDEO: Final = {7, 12}
_AAC: Final = 10
_ENHANCED_VIDEO: Final = 0x80
_ENHANCED_AUDIO: Final = 9

# Enhanced packet types. The numbers are the same for audio and video, except for 4.
_SEQUENCE_START, _CODED_FRAMES, _CODED_FRAMES_X, _CONFIGURATION = 0, 1, 3, 4
_MPEG2TS_SEQUENCE_START, _MULTITRACK, _MODEX = 5, 6, 7
_AUDIO_MULTITRACK: Final = 5
_VIDEO_HEADERS: Final = {_SEQUENCE_START, _CONFIGURATION, _MPEG2TS_SEQUENCE_START}
_VIDEO_FRAMES: Final = {_CODED_FRAMES, _CODED_FRAMES_X}
_AUDIO_HEADERS: Final = {_SEQUENCE_START, _CONFIGURATION}

_SET_DATA_FRAME: Final = "@setDataFrame"
_METADATA_NAMES: Final = {
    _SET_DATA_FRAME: Kind.METADATA,
    "onMetaData": Kind.METADATA,
    "@clearDataFrame": Kind.CLEAR_METADATA,
}
# A data message begins with its name: this marker of AMF0, two bytes of length, the name itself.
_STRING_MARKER: Final = b"\x02"
_NAME_BYTES: Final = 64
# Encoders write one ModEx or two; a message of nothing else would take 0.1 us for each of its bytes.
MODEX: Final = 16


def classify(message: Message) -> Packet:
    """What ``message`` is; never an error, since a relay is not asked to judge a payload."""
    if message.type == MessageType.VIDEO:
        return _video(message.payload)
    if message.type == MessageType.AUDIO:
        return _audio(message.payload)
    if message.type == MessageType.DATA:
        return Packet(_METADATA_NAMES.get(_data_name(message.payload), Kind.OTHER))
    return _OTHER


def _video(payload: bytes) -> Packet:
    if len(payload) < 2:
        return _OTHER
    first = payload[0]
    if first & _ENHANCED_VIDEO:
        return _enhanced_video(payload)
    frame = _FRAMES.get(first >> 4, _OTHER)
    if first & 15 not in _PACKETIZED_VIDEO or payload[1] == 1:
        return frame
    return Packet(Kind.HEADER, (MessageType.VIDEO,)) if payload[1] == 0 else _OTHER


def _enhanced_video(payload: bytes) -> Packet:
    packet_type, track = _enhanced_type(payload, _MULTITRACK)
    if packet_type in _VIDEO_HEADERS:
        return Packet(Kind.HEADER, (MessageType.VIDEO, packet_type, track))
    if packet_type in _VIDEO_FRAMES:
        return _FRAMES.get(payload[0] >> 4 & 7, _OTHER)
    return _OTHER


def _audio(payload: bytes) -> Packet:
    if len(payload) < 2:
        return _OTHER
    sound_format = payload[0] >> 4
    if sound_format == _ENHANCED_AUDIO:
        return _enhanced_audio(payload)
    if sound_format == _AAC and payload[1] == 0:
        return Packet(Kind.HEADER, (MessageType.AUDIO,))
    return _AUDIO


def _enhanced_audio(payload: bytes) -> Packet:
    packet_type, track = _enhanced_type(payload, _AUDIO_MULTITRACK)
    if packet_type in _AUDIO_HEADERS:
        return Packet(Kind.HEADER, (MessageType.AUDIO, packet_type, track))
    return _AUDIO if packet_type == _CODED_FRAMES else _OTHER


def _enhanced_type(payload: bytes, multitrack: int) -> tuple[int, int]:
    """Packet type and track, past any ModEx; (-1, 0) if the payload is too short.

    Several tracks in one packet count as a separate track, so that such headers are kept too.
    """
    packet_type, at = _skip_modex(payload)
    if packet_type != multitrack or at >= len(payload):
        return packet_type, 0
    one_track = payload[at] >> 4 == 0
    track_at = at + 1 + 4
    if not one_track:
        return payload[at] & 15, -1
    return payload[at] & 15, payload[track_at] if track_at < len(payload) else 0


def _skip_modex(payload: bytes) -> tuple[int, int]:
    packet_type, at = payload[0] & 15, 1
    for _ in range(MODEX + 1):
        if packet_type != _MODEX:
            return packet_type, at
        size = payload[at] + 1 if at < len(payload) else 0
        if size == 256:
            size = int.from_bytes(payload[at + 1 : at + 3], "big") + 1
            at += 2
        at += 1 + size
        if at >= len(payload):
            return -1, at
        packet_type, at = payload[at] & 15, at + 1
    return -1, at


def _data_name(payload: bytes) -> str:
    if not payload.startswith(_STRING_MARKER):
        return ""
    length = int.from_bytes(payload[1:3], "big")
    return payload[3 : 3 + length].decode("utf-8", "replace") if length <= _NAME_BYTES else ""


def player_metadata(message: Message) -> Message:
    """Metadata as a player gets it: an encoder's ``@setDataFrame`` is an order to the server."""
    if _data_name(message.payload) != _SET_DATA_FRAME:
        return message
    payload = message.payload[3 + len(_SET_DATA_FRAME) :]
    return Message(message.type, payload, message.stream_id, message.timestamp)


def encoder_metadata(message: Message) -> Message:
    """Metadata as an encoder sends it to a server, which passes it on to players."""
    if message.type != MessageType.DATA or _data_name(message.payload) != "onMetaData":
        return message
    name = _SET_DATA_FRAME.encode()
    payload = _STRING_MARKER + len(name).to_bytes(2, "big") + name + message.payload
    return Message(message.type, payload, message.stream_id, message.timestamp)
