from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.rtmp.media import MODEX, Kind, Packet, classify, player_metadata
from gateway.protocols.rtmp.messages import Message, MessageType
from tests.helpers.rtmp_client import (
    AUDIO_HEADER,
    INTER_FRAME,
    KEYFRAME,
    METADATA,
    SET_METADATA,
    SOUND,
    VIDEO_HEADER,
)

VIDEO = {
    "AVC header": (VIDEO_HEADER, Kind.HEADER),
    "AVC keyframe": (KEYFRAME, Kind.KEYFRAME),
    "AVC inter frame": (INTER_FRAME, Kind.INTER_FRAME),
    "AVC end of sequence": (b"\x17\x02\x00\x00\x00", Kind.OTHER),
    "HEVC header before Enhanced RTMP": (b"\x1c\x00\x00\x00\x00hvcC", Kind.HEADER),
    "H.263 keyframe": (b"\x12\x00\x00", Kind.KEYFRAME),
    "VP6 disposable frame": (b"\x34\x00\x00", Kind.INTER_FRAME),
    "command frame": (b"\x57\x01", Kind.OTHER),
    "empty": (b"", Kind.OTHER),
    "enhanced header": (b"\x90hvc1hvcC", Kind.HEADER),
    "enhanced keyframe": (b"\x91hvc1\x00\x00\x00key", Kind.KEYFRAME),
    "enhanced keyframe, no composition time": (b"\x93av01key", Kind.KEYFRAME),
    "enhanced inter frame": (b"\xa1hvc1\x00\x00\x00inter", Kind.INTER_FRAME),
    "enhanced end of sequence": (b"\x92hvc1", Kind.OTHER),
    "colour": (b"\x94hvc1\x02\x00\x09colorInfo", Kind.HEADER),
    "multitrack header": (b"\x96\x00av01\x01av1C", Kind.HEADER),
    "multitrack keyframe": (b"\x96\x01av01\x01key", Kind.KEYFRAME),
    "ModEx before a keyframe": (b"\x97\x02\x00\x00\x01\x01avc1key", Kind.KEYFRAME),
    "long ModEx before a keyframe": (
        b"\x97\xff\x01\x00" + bytes(257) + b"\x01avc1key",
        Kind.KEYFRAME,
    ),
    "ModEx cut short": (b"\x97\x02\x00", Kind.OTHER),
    "as many ModEx as are read": (
        b"\x97" + b"\x00\x00\x07" * (MODEX - 1) + b"\x00\x00\x01avc1key",
        Kind.KEYFRAME,
    ),
    "more ModEx than are read": (
        b"\x97" + b"\x00\x00\x07" * MODEX + b"\x00\x00\x01avc1key",
        Kind.OTHER,
    ),
}
AUDIO = {
    "AAC header": (AUDIO_HEADER, Kind.HEADER),
    "AAC": (SOUND, Kind.AUDIO),
    "MP3": (b"\x2f\x00\x00", Kind.AUDIO),
    "enhanced header": (b"\x90OpusOpusHead", Kind.HEADER),
    "enhanced frame": (b"\x91Opusframe", Kind.AUDIO),
    "channels": (b"\x94Opus\x01\x02", Kind.HEADER),
    "multitrack header": (b"\x95\x00Opus\x01OpusHead", Kind.HEADER),
    "empty": (b"", Kind.OTHER),
}
DATA = {
    "set metadata": (SET_METADATA, Kind.METADATA),
    "metadata": (METADATA, Kind.METADATA),
    "clear metadata": (b"\x02\x00\x0f@clearDataFrame", Kind.CLEAR_METADATA),
    "cue point": (b"\x02\x00\x0aonCuePoint\x05", Kind.OTHER),
    "no name": (b"\x05", Kind.OTHER),
    "empty": (b"", Kind.OTHER),
}


@pytest.mark.parametrize(
    ("message_type", "payload", "kind"),
    [
        pytest.param(message_type, *case, id=f"{message_type.name} {name}")
        for message_type, cases in [
            (MessageType.VIDEO, VIDEO),
            (MessageType.AUDIO, AUDIO),
            (MessageType.DATA, DATA),
        ]
        for name, case in cases.items()
    ],
)
def test_a_message_is_classified_by_its_first_bytes(
    message_type: MessageType, payload: bytes, kind: Kind
) -> None:
    assert classify(Message(message_type, payload)).kind is kind


def test_codec_headers_of_each_track_are_stored_separately() -> None:
    payloads = [
        b"\x90av01av1C",
        b"\x94av01colour",
        b"\x96\x00av01\x01av1C",
        b"\x96\x00av01\x02av1C",
        b"\x96\x10av01\x01\x00\x00\x04av1C",
    ]
    slots = {classify(Message(MessageType.VIDEO, payload)).slot for payload in payloads}
    assert len(slots) == len(payloads)


@given(st.sampled_from([8, 9, 15, 18, 22]), st.binary(max_size=20))
def test_any_payload_is_classified_without_an_error(message_type: int, payload: bytes) -> None:
    assert isinstance(classify(Message(message_type, payload)), Packet)


def test_players_get_the_metadata_without_its_set_data_frame_command() -> None:
    message = Message(MessageType.DATA, SET_METADATA, 1, 5)
    assert player_metadata(message) == Message(MessageType.DATA, METADATA, 1, 5)
    plain = Message(MessageType.DATA, METADATA, 1, 5)
    assert player_metadata(plain) == plain
