"""Message stream ids are translated wherever they are, and nothing else is changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    abort,
    set_chunk_size,
    user_control,
)
from gateway.protocols.rtmp.stream_ids import StreamIdTranslation

STREAMS = {1: 5, 2: 1}


def translated(stream: bytes, step: int = 1 << 20) -> bytes:
    ids = StreamIdTranslation(STREAMS)
    pieces = (stream[at : at + step] for at in range(0, len(stream), step))
    return b"".join(ids.translate(piece, 0.0) for piece in pieces)


def messages_after(*messages: Message, step: int = 1 << 20) -> list[Message]:
    writer = ChunkWriter()
    return ChunkReader().feed(translated(b"".join(map(writer.write, messages)), step))


@pytest.mark.parametrize("step", [1 << 20, 7, 1])
@pytest.mark.parametrize(("old", "new"), [(1, 5), (2, 1), (3, 3), (0, 0)])
def test_the_id_of_each_message_is_translated(old: int, new: int, step: int) -> None:
    for timestamp in (0, 0xFFFFFF, 0x1000000):
        (got,) = messages_after(Message(MessageType.VIDEO, bytes(300), old, timestamp), step=step)
        assert got == Message(MessageType.VIDEO, bytes(300), new, timestamp)


@pytest.mark.parametrize("size", [128, 3])
def test_so_is_that_in_a_delete_stream(size: int) -> None:
    writer = ChunkWriter()
    deleting = Command("deleteStream", 3.0, None, (1.0,))
    stream = writer.write(set_chunk_size(size)) + writer.write(deleting.message())
    assert ChunkReader().feed(translated(stream)) == [
        Command("deleteStream", 3.0, None, (5.0,)).message()
    ]


@pytest.mark.parametrize("event", [0, 1, 2, 3, 4])
def test_so_is_that_in_an_event_of_a_stream(event: int) -> None:
    payload = event.to_bytes(2, "big") + bytes([0, 0, 0, 2]) + b"rest"
    (got,) = messages_after(Message(MessageType.USER_CONTROL, payload))
    assert got.payload == payload[:2] + bytes([0, 0, 0, 1]) + b"rest"


@pytest.mark.parametrize(
    "message",
    [
        user_control(UserControl.PING_REQUEST, 1),
        Message(MessageType.USER_CONTROL, b"\0\0\0"),
        Command("_result", 3.0, None, (1.0,)).message(),
        Command("deleteStream", 3.0, None, (1.0, 1.0)).message(),
        Message(MessageType.COMMAND, b"\xff"),
    ],
)
def test_other_numbers_stay(message: Message) -> None:
    assert messages_after(message) == [message]


def test_a_message_that_the_sender_aborts_is_held_no_longer() -> None:
    writer = ChunkWriter()
    begun = writer.write(Message(MessageType.COMMAND, bytes(300)), 3)[:140]
    rest = ChunkWriter().write(abort(3))
    media = ChunkWriter().write(Message(MessageType.VIDEO, bytes(9), 7))
    assert translated(begun + rest + media) == begun + rest + media


@pytest.mark.parametrize("step", [1 << 20, 1])
def test_a_message_behind_an_aborted_one_on_its_chunk_stream_is_edited_as_a_whole(
    step: int,
) -> None:
    begun = ChunkWriter().write(Message(MessageType.COMMAND, bytes(300)), 3)[:140]
    aborted = begun + ChunkWriter().write(abort(3))
    deleting = Command("deleteStream", 3.0, None, (1.0,)).message()
    deleted = Command("deleteStream", 3.0, None, (5.0,)).message()
    got = translated(aborted + ChunkWriter().write(deleting, 3), step)
    assert got == aborted + ChunkWriter().write(deleted, 3)


def test_a_large_message_of_a_type_that_is_not_read_passes() -> None:
    shared_object = 19
    header = b"\x03" + bytes(3) + (100_000).to_bytes(3, "big") + bytes([shared_object]) + bytes(4)
    chunks = [bytes(128)] * 781 + [bytes(32)]
    stream = header + b"\xc3".join(chunks)
    assert translated(stream) == stream


def test_media_behind_an_aborted_message_on_its_chunk_stream_is_not_held() -> None:
    begun = ChunkWriter().write(Message(MessageType.COMMAND, bytes(300)), 3)[:140]
    media = ChunkWriter().write(Message(MessageType.VIDEO, bytes(300), 7), 3)
    stream = begun + ChunkWriter().write(abort(3)) + media[:50]
    assert translated(stream) == stream


@given(
    st.lists(
        st.builds(
            Message,
            st.sampled_from([MessageType.AUDIO, MessageType.VIDEO, MessageType.COMMAND]),
            st.binary(max_size=300),
            st.integers(0, 3),
            st.integers(0, 0x1000010),
        ),
        max_size=12,
    ),
    st.integers(1, 400),
)
def test_a_reader_reads_the_same_messages_on_other_streams(
    messages: list[Message], step: int
) -> None:
    got = messages_after(*messages, step=step)
    assert [(each.type, each.payload, each.timestamp) for each in got] == [
        (each.type, each.payload, each.timestamp) for each in messages
    ]
    assert [each.stream_id for each in got] == [
        STREAMS.get(each.stream_id, each.stream_id) for each in messages
    ]
