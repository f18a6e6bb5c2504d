from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import WINDOW_BYTES, ChunkLimits, ChunkReader
from gateway.protocols.rtmp.messages import (
    Message,
    UserControl,
    abort,
    set_chunk_size,
    user_control,
    window_acknowledgement_size,
)

A = bytes(range(200))


def full(csid: int, timestamp: int, length: int, message_type: int, stream_id: int = 1) -> bytes:
    """A header of format 0."""
    head = bytes([csid]) + timestamp.to_bytes(3, "big") + length.to_bytes(3, "big")
    return head + bytes([message_type]) + stream_id.to_bytes(4, "little")


# Name, wire, messages.
VECTORS: list[tuple[str, bytes, list[Message]]] = [
    ("format 0", full(3, 5, 2, 8) + b"ab", [Message(8, b"ab", 1, 5)]),
    ("an empty message", full(3, 5, 0, 8), [Message(8, b"", 1, 5)]),
    (
        "formats 1, 2 and 3",
        full(4, 1000, 2, 8)
        + b"ab"
        + b"\x44\x00\x00\x14\x00\x00\x01\x09c"
        + b"\x84\x00\x00\x15d"
        + b"\xc4e",
        [
            Message(8, b"ab", 1, 1000),
            Message(9, b"c", 1, 1020),
            Message(9, b"d", 1, 1041),
            Message(9, b"e", 1, 1062),
        ],
    ),
    (
        "format 3 after format 0 repeats the timestamp as delta",
        full(4, 40, 1, 8) + b"a" + b"\xc4b",
        [Message(8, b"a", 1, 40), Message(8, b"b", 1, 80)],
    ),
    (
        "a stream that begins with format 1",
        b"\x45\x00\x00\x07\x00\x00\x01\x12x",
        [Message(18, b"x", 0, 7)],
    ),
    ("id of two bytes", b"\x00\x00" + full(0, 5, 1, 8)[1:] + b"a", [Message(8, b"a", 1, 5)]),
    ("id of three bytes", b"\x01\x00\x01" + full(0, 5, 1, 8)[1:] + b"a", [Message(8, b"a", 1, 5)]),
    (
        "more than a chunk",
        full(6, 0, 200, 9) + A[:128] + b"\xc6" + A[128:],
        [Message(9, A, 1, 0)],
    ),
    (
        "extended timestamp, repeated on the continuation",
        full(6, 0xFFFFFF, 200, 9)
        + b"\x01\x00\x00\x00"
        + A[:128]
        + b"\xc6\x01\x00\x00\x00"
        + A[128:],
        [Message(9, A, 1, 0x1000000)],
    ),
    (
        "extended timestamp, omitted on the continuation",
        full(6, 0xFFFFFF, 200, 9) + b"\x01\x00\x00\x00" + A[:128] + b"\xc6" + A[128:],
        [Message(9, A, 1, 0x1000000)],
    ),
    (
        "extended timestamp, omitted before a payload shorter than it",
        full(6, 0xFFFFFF, 130, 9) + b"\x01\x00\x00\x00" + A[:128] + b"\xc6" + A[:2],
        [Message(9, A[:128] + A[:2], 1, 0x1000000)],
    ),
    (
        "extended delta, repeated as the message's timestamp",
        full(6, 1, 1, 9)
        + b"a"
        + b"\x46\xff\xff\xff\x00\x00\xc8\x09\x00\xff\xff\xff"
        + A[:128]
        + b"\xc6\x01\x00\x00\x00"
        + A[128:],
        [Message(9, b"a", 1, 1), Message(9, A, 1, 0x1000000)],
    ),
    (
        "extended delta",
        full(6, 1, 1, 9) + b"a" + b"\x86\xff\xff\xff\x00\xff\xff\xffb",
        [Message(9, b"a", 1, 1), Message(9, b"b", 1, 0x1000000)],
    ),
    (
        "time past 32 bits",
        full(6, 0xFFFFFF, 1, 9) + b"\xff\xff\xff\xffa" + b"\x86\x00\x00\x02b",
        [Message(9, b"a", 1, 0xFFFFFFFF), Message(9, b"b", 1, 1)],
    ),
    (
        "interleaved messages, in the order of their ends",
        full(6, 0, 200, 9) + A[:128] + full(4, 0, 1, 8) + b"s" + b"\xc6" + A[128:],
        [Message(8, b"s", 1, 0), Message(9, A, 1, 0)],
    ),
    (
        "a larger chunk size, from the next chunk on",
        full(2, 0, 4, 1, 0) + b"\x00\x00\x00\xc8" + full(6, 0, 200, 9) + A,
        [Message(9, A, 1, 0)],
    ),
    (
        "an aborted message",
        full(6, 0, 200, 9)
        + A[:128]
        + full(2, 0, 4, 2, 0)
        + b"\x00\x00\x00\x06"
        + full(6, 0, 1, 9)
        + b"a",
        [Message(9, b"a", 1, 0)],
    ),
]
EACH = pytest.mark.parametrize(
    ("wire", "messages"), [each[1:] for each in VECTORS], ids=[each[0] for each in VECTORS]
)


@EACH
@pytest.mark.parametrize("step", [1 << 20, 7, 1])
def test_chunks_are_read_in_any_segmentation(
    wire: bytes, messages: list[Message], step: int
) -> None:
    reader = ChunkReader()
    pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
    assert [message for piece in pieces for message in reader.feed(piece)] == messages
    assert reader.received_bytes == len(wire)


@EACH
def test_data_after_a_message_is_kept_for_the_next_read(
    wire: bytes, messages: list[Message]
) -> None:
    reader = ChunkReader()
    after = full(9, 1, 2, 20)
    assert reader.feed(wire + after + b"x") == messages
    assert reader.feed(b"y") == [Message(20, b"xy", 1, 1)]


MESSAGES = st.builds(
    Message,
    type=st.sampled_from([4, 8, 9, 18, 20]),
    payload=st.binary(max_size=400),
    stream_id=st.integers(0, 2),
    timestamp=st.one_of(
        st.integers(0, 0xFFFFFFFF), st.integers(0, 300), st.integers(0xFFFF00, 0x10000FF)
    ),
)


@given(
    st.lists(MESSAGES, max_size=12),
    st.sampled_from([1, 128, 60_000]),
    st.lists(st.integers(1, 300), min_size=1, max_size=20),
)
def test_written_messages_are_read_back_in_any_pieces(
    messages: list[Message], chunk_size: int, steps: list[int]
) -> None:
    writer, reader = ChunkWriter(), ChunkReader()
    wire = writer.write(set_chunk_size(chunk_size))
    wire += b"".join(writer.write(message) for message in messages)
    read: list[Message] = []
    at = 0
    while at < len(wire):
        step = steps[len(read) % len(steps)]
        read += reader.feed(wire[at : at + step])
        at += step
    assert read == messages


@given(st.binary(max_size=600))
def test_any_bytes_are_read_as_messages_or_raise_an_rtmp_error(data: bytes) -> None:
    with suppress(RTMPError):
        ChunkReader().feed(data)


@pytest.mark.parametrize("csid", [2, 63, 64, 319, 320, 65_599])
def test_every_chunk_stream_id_can_be_written(csid: int) -> None:
    message = Message(9, A, 1, 0x1000000)
    assert ChunkReader().feed(ChunkWriter().write(message, csid)) == [message]


def test_the_writer_uses_the_shortest_headers() -> None:
    writer = ChunkWriter()
    sizes = [
        len(writer.write(Message(8, payload, stream_id, timestamp)))
        for payload, stream_id, timestamp in [
            (b"a", 1, 10),
            (b"b", 1, 20),
            (b"c", 1, 30),
            (b"dd", 1, 40),
            (b"ee", 2, 50),
            (b"ff", 2, 10),
        ]
    ]
    assert sizes == [12 + 1, 4 + 1, 1 + 1, 8 + 2, 12 + 2, 12 + 2]


MALFORMED = {
    "a stream that begins with format 2": b"\x84\x00\x00\x00",
    "a stream that begins with format 3": b"\xc4",
    "a header inside a message": full(6, 0, 200, 9) + A[:128] + full(6, 0, 200, 9),
    "chunk size 0": full(2, 0, 4, 1, 0) + bytes(4),
    "chunk size over 31 bits": full(2, 0, 4, 1, 0) + b"\x80\x00\x00\x00",
    "chunk size cut short": full(2, 0, 3, 1, 0) + bytes(3),
    "a message over the bound": full(3, 0, 1001, 9),
    "unfinished messages over the bound": full(3, 0, 1000, 9) + A[:128] + full(4, 0, 600, 9),
    "too many chunk streams": b"".join(full(csid, 0, 0, 9) for csid in range(3, 8)),
}


@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_chunks_and_exceeded_bounds_raise_errors(wire: bytes) -> None:
    reader = ChunkReader(ChunkLimits(message_bytes=1000, assembling_bytes=1500, chunk_streams=4))
    with pytest.raises(RTMPError):
        reader.feed(wire)


def test_finished_and_aborted_messages_do_not_count_against_the_bound() -> None:
    reader = ChunkReader(ChunkLimits(message_bytes=200, assembling_bytes=300))
    writer = ChunkWriter()
    for _ in range(5):
        assert len(reader.feed(writer.write(Message(9, A)))) == 1
    for _ in range(5):
        reader.feed(full(7, 0, 200, 9) + A[:128] + writer.write(abort(7)))


def test_an_acknowledgement_is_due_once_for_each_window() -> None:
    reader, writer = ChunkReader(), ChunkWriter()
    reader.feed(writer.write(window_acknowledgement_size(1000)))
    assert reader.acknowledgement_due() is None
    reader.feed(writer.write(Message(9, bytes(1000))))
    assert reader.acknowledgement_due() == reader.received_bytes
    assert reader.acknowledgement_due() is None


def test_without_a_window_size_the_default_window_applies() -> None:
    reader, writer = ChunkReader(), ChunkWriter()
    reader.feed(writer.write(window_acknowledgement_size(0)))
    reader.feed(writer.write(Message(9, bytes(WINDOW_BYTES - 100_000))))
    assert reader.acknowledgement_due() is None
    reader.feed(writer.write(Message(9, bytes(100_000))))
    assert reader.acknowledgement_due() is not None


def test_control_messages_are_written_on_their_own_chunk_stream() -> None:
    assert ChunkWriter().write(user_control(UserControl.PING_REQUEST, 1))[0] == 2
