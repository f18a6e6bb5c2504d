"""The passive reader: the facts it finds, and when it stops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    set_chunk_size,
    user_control,
)
from gateway.protocols.rtmp.passive import Facts, PassiveReader

HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)


class Figures:
    """The calls that the reader made, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def client_pinged(self, seconds: float) -> None:
        self.told.append(("client", seconds))

    def upstream_pinged(self, seconds: float) -> None:
        self.told.append(("upstream", seconds))

    def media_came(self, late_s: float) -> None:
        self.told.append(("media", late_s))


def command(*values: Value, stream_id: int = 0) -> Message:
    return Message(MessageType.COMMAND, amf0.encode(*values), stream_id)


def conversation(last: str = "publish", stream: str = "news?token=x") -> bytes:
    """The bytes that a client sends until it publishes or plays."""
    writer = ChunkWriter()
    connect = {"app": "live?key=y", "flashVer": "FMLE/3.0", "tcUrl": "rtmp://h/live"}
    return HANDSHAKE + b"".join(
        writer.write(message)
        for message in (
            command("connect", 1, connect),
            command("releaseStream", 2, None, stream),
            command("createStream", 3, None),
            command(last, 4, None, stream, "live", stream_id=1),
        )
    )


def feed(reader: PassiveReader, data: bytes, size: int) -> PassiveReader | None:
    """Feed ``data`` in pieces, until the reader has finished."""
    left: PassiveReader | None = reader
    for start in range(0, len(data), size):
        if left is None:
            return None
        left = left.up(data[start : start + size], 0.0)
    return left


@pytest.mark.parametrize(("last", "action"), [("publish", "publish"), ("play", "play")])
@pytest.mark.parametrize("size", [1, 7, 1537, 100_000])
def test_application_stream_and_action_are_found_in_any_segmentation(
    last, action, size: int
) -> None:
    facts = Facts()
    assert feed(PassiveReader(facts), conversation(last), size) is None
    assert (facts.application, facts.stream, facts.action) == ("live", "news", action)
    assert facts.flash_version == "FMLE/3.0"


def test_the_reader_finishes_at_the_byte_that_completes_the_stream_name() -> None:
    said = conversation()
    reader = PassiveReader(Facts())
    assert feed(reader, said[:-1], 1000) is reader
    assert reader.down(b"anything at all", 0.0) is reader
    assert feed(reader, said[-1:], 1) is None


def test_the_callback_for_a_known_stream_is_called_once() -> None:
    facts = Facts()
    told: list[str] = []
    facts.noticed = lambda: told.append(facts.stream)
    feed(PassiveReader(facts, Figures()), conversation() + conversation()[HANDSHAKE_BYTES:], 500)
    assert told == ["news"]


@pytest.mark.parametrize("version", [0, 6, 8, 9, 0x47])
def test_reading_stops_at_the_first_byte_of_rtmpe_or_an_unknown_version(version: int) -> None:
    facts = Facts()
    assert PassiveReader(facts).up(bytes([version]), 0.0) is None
    assert facts.action == ""
    figures = PassiveReader(facts, Figures())
    assert figures.down(bytes([version]), 0.0) is None


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.booleans())
def test_invalid_bytes_raise_no_exception(up: bytes, down: bytes, media: bool) -> None:
    reader = PassiveReader(Facts(), Figures() if media else None)
    left: PassiveReader | None = reader.up(HANDSHAKE + up, 0.0)
    if left is not None:
        left.down(HANDSHAKE + down, 0.0)


@given(st.data())
def test_a_damaged_byte_raises_no_exception(data: st.DataObject) -> None:
    said = bytearray(conversation())
    for _ in range(data.draw(st.integers(1, 4))):
        said[data.draw(st.integers(HANDSHAKE_BYTES, len(said) - 1))] = data.draw(
            st.integers(0, 255)
        )
    feed(PassiveReader(Facts()), bytes(said), 4096)


def test_reading_stops_at_a_command_over_the_size_limit() -> None:
    writer = ChunkWriter()
    huge = command("connect", 1, {"app": "x" * 60_000, "tcUrl": "y" * 60_000})
    assert PassiveReader(Facts()).up(HANDSHAKE + writer.write(huge), 0.0) is None


def test_names_are_truncated_at_the_maximum_length() -> None:
    facts = Facts()
    feed(PassiveReader(facts), conversation(stream="x" * 5000), 4096)
    assert len(facts.stream) == 128


def test_large_media_messages_are_skipped_and_not_stored() -> None:
    figures = Figures()
    reader = PassiveReader(Facts(), figures)
    left: PassiveReader | None = feed(reader, conversation(), 4096)
    writer = ChunkWriter()
    writer_bytes = writer.write(set_chunk_size(65536))
    video = writer.write(Message(MessageType.VIDEO, bytes(3_000_000), 1, 40))
    assert left is not None
    left = feed(left, writer_bytes + video, 65536)
    assert left is reader
    assert figures.told == [("media", 0.0)]
    assert sum(len(stream.body) for stream in reader._up._streams.values()) == 0


def test_pongs_of_both_sides_are_matched_to_pings_by_their_timestamps() -> None:
    figures = Figures()
    reader = PassiveReader(Facts(), figures)
    up, down = ChunkWriter(), ChunkWriter()
    reader.up(HANDSHAKE, 0.0)
    reader.down(HANDSHAKE, 0.0)
    reader.down(down.write(user_control(UserControl.PING_REQUEST, 5)), 1.0)
    reader.up(up.write(user_control(UserControl.PING_RESPONSE, 4)), 1.1)
    reader.up(up.write(user_control(UserControl.PING_RESPONSE, 5)), 1.25)
    reader.up(up.write(user_control(UserControl.PING_RESPONSE, 5)), 1.5)
    reader.up(up.write(user_control(UserControl.PING_REQUEST, 9)), 2.0)
    reader.down(down.write(user_control(UserControl.PING_RESPONSE, 9)), 2.5)
    assert figures.told == [("client", 0.25), ("upstream", 0.5)]


def media(timestamps_ms: list[int], arrivals_s: list[float]) -> tuple[Facts, list[float]]:
    """The lateness of a publisher's messages."""
    facts, figures = Facts(), Figures()
    reader = PassiveReader(facts, figures)
    writer = ChunkWriter()
    reader.up(conversation(), 0.0)
    for timestamp, now in zip(timestamps_ms, arrivals_s, strict=True):
        reader.up(writer.write(Message(MessageType.AUDIO, b"a", 1, timestamp)), now)
    return facts, [late_s for _, late_s in figures.told]


def test_lateness_is_relative_to_the_earliest_message_of_the_last_minute() -> None:
    _, late = media([0, 40, 80, 120], [5.0, 5.24, 5.08, 5.12])
    assert late == pytest.approx([0, 0.2, 0, 0])


def test_timestamps_may_wrap_around_and_step_back() -> None:
    _, late = media([2**32 - 40, 0, 2**32 - 20, 40], [1.0, 1.04, 1.05, 1.08])
    assert late == pytest.approx([0, 0, 0.03, 0])


def test_a_jump_of_the_timestamps_resets_the_lateness() -> None:
    facts, late = media([0, 3_600_000, 3_600_040], [1.0, 1.04, 1.08])
    assert late == pytest.approx([0, 0, 0])
    assert facts.drift_s == 0.0


@pytest.mark.parametrize("drift", [0.001, -0.001])
def test_drift_is_the_offset_of_the_senders_clock_since_the_first_message(drift: float) -> None:
    seconds = range(600)
    facts, late = media(
        [1000 * second for second in seconds], [second * (1 + drift) for second in seconds]
    )
    assert facts.drift_s == pytest.approx(600 * drift, abs=0.07)
    assert max(late) < 0.07
