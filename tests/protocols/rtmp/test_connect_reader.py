"""A client's stream up to its connect, and the same stream with another connect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import EXTENDED, ChunkReader
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.connect_reader import MOST_BYTES, ConnectReader
from gateway.protocols.rtmp.digest import ANSWER_RANDOM_BYTES
from gateway.protocols.rtmp.digest_handshake import DigestServerHandshake
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, RANDOM_BYTES
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    abort,
    set_chunk_size,
    window_acknowledgement_size,
)
from tests.helpers.flash_player import FlashPlayer

C0_C1 = b"\x03" + bytes(8) + bytes(range(256)) * 5 + bytes(BLOCK_BYTES - 8 - 1280)
C2 = bytes(BLOCK_BYTES)
CONNECT = Command("connect", 1.0, {"app": "live", "tcUrl": "rtmp://public/live"}).message()
TEXTS = {"tcUrl": "rtmp://media.internal.example.org:1935/live"}
STEPS = pytest.mark.parametrize("step", [1 << 20, 100, 1])


def new_reader() -> ConnectReader:
    return ConnectReader(DigestServerHandshake(0, bytes(RANDOM_BYTES), bytes(ANSWER_RANDOM_BYTES)))


def pieces(whole: bytes, step: int) -> Iterator[bytes]:
    return (whole[at : at + step] for at in range(0, len(whole), step))


def read_on(reader: ConnectReader, parts: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The answers to the parts up to the connect, and the parts after it."""
    answers = []
    for part in parts:
        answers.append(reader.receive(part, 0.0))
        if reader.connect is not None or reader.opaque:
            break
    return b"".join(answers), b"".join(parts)


def shaken(stream: bytes, step: int = 1 << 20) -> tuple[ConnectReader, bytes]:
    """A reader that has read up to the connect in ``stream``, and the unread rest."""
    reader = new_reader()
    reader.receive(C0_C1 + C2, 0.0)
    return reader, read_on(reader, pieces(stream, step))[1]


def rewritten(
    stream: bytes, texts: Mapping[str, str] = TEXTS, step: int = 1 << 20
) -> tuple[bytes, bool]:
    """The stream for a server, and whether it needs no more translation."""
    reader, rest = shaken(stream, step)
    rewriting = reader.rewriting(texts)
    parts = (reader.behind_connect, *pieces(rest, step))
    out = [part if rewriting.done else rewriting.translate(part, 0.0) for part in parts]
    return b"".join(out), rewriting.done


def written(*messages: Message) -> bytes:
    writer = ChunkWriter()
    return b"".join(writer.write(message) for message in messages)


@STEPS
@pytest.mark.parametrize("behind", [b"", b"anything"])
def test_the_gateway_answers_the_handshake_and_keeps_all_that_follows(
    step: int, behind: bytes
) -> None:
    reader = new_reader()
    stream = written(set_chunk_size(4096), window_acknowledgement_size(2_500_000), CONNECT)
    answer, rest = read_on(reader, pieces(C0_C1 + C2 + stream + behind, step))
    assert answer == b"\x03" + bytes(BLOCK_BYTES) + C0_C1[1:]
    assert reader.connect is not None
    assert reader.connect.text("app") == "live"
    assert bytes(reader.received) + rest == stream + behind


def test_a_player_with_a_digest_gets_one() -> None:
    reader, player = new_reader(), FlashPlayer()
    last = player.finish(reader.receive(player.hello, 0.0))
    assert reader.receive(last + written(CONNECT), 0.0) == b""
    assert reader.connect is not None
    assert reader.player is not None


@pytest.mark.parametrize("first", [b"\x06", b"\x08", b"G", b"\x00"])
def test_any_first_byte_but_3_leaves_the_stream_as_it_is(first: bytes) -> None:
    reader = new_reader()
    assert reader.receive(first + C0_C1, 0.0) == b""
    assert reader.opaque
    assert reader.connect is None
    assert reader.received == first + C0_C1


def test_nothing_is_decided_before_the_first_byte() -> None:
    reader = new_reader()
    assert reader.receive(b"", 0.0) == b""
    assert not reader.opaque


def test_a_connect_must_be_complete_within_a_bound() -> None:
    reader = new_reader()
    reader.receive(C0_C1 + C2, 0.0)
    others = written(*[Message(MessageType.AUDIO, bytes(60), 1)] * 2000)
    with pytest.raises(RTMPError, match="no connect within"):
        read_on(reader, pieces(others, 500))
    assert len(reader.received) <= MOST_BYTES + 500


def test_a_message_that_declares_more_than_the_bound_is_refused_at_once() -> None:
    reader = new_reader()
    reader.receive(C0_C1 + C2, 0.0)
    with pytest.raises(RTMPError, match="message of 65537 bytes"):
        reader.receive(b"\x03\x00\x00\x00\x01\x00\x01\x14\x00\x00\x00\x00", 0.0)


def test_the_number_of_chunks_before_a_connect_is_bounded() -> None:
    reader = new_reader()
    reader.receive(C0_C1 + C2, 0.0)
    empty = b"\x04" + bytes(6) + b"\x08" + bytes(4)
    with pytest.raises(RTMPError, match="too many small chunks"):
        reader.receive(empty + b"\xc4" * 4000, 0.0)


def test_another_command_before_connect_is_refused() -> None:
    with pytest.raises(RTMPError, match="not a connect"):
        shaken(written(Command("createStream", 2.0).message()))


def test_what_follows_a_connect_is_not_read() -> None:
    reader, rest = shaken(written(CONNECT) + b"\xff" * 100_000)
    assert (reader.behind_connect + rest).count(b"\xff") == 100_000


# --- Rewriting ---


def connects_of(stream: bytes) -> list[list[Any]]:
    messages = ChunkReader().feed(stream)
    return [amf0.decode(each.payload) for each in messages if each.type == MessageType.COMMAND]


@STEPS
def test_a_rewritten_connect_is_cut_at_the_clients_chunk_size(step: int) -> None:
    stream = written(set_chunk_size(40), CONNECT)
    out, _ = rewritten(stream, step=step)
    (connect,) = connects_of(out)
    assert connect == ["connect", 1.0, {"app": "live", **TEXTS}]
    payload = amf0.encode(*connect)
    at = out.index(payload[:40]) + 40
    assert out[at : at + 41] == b"\xc3" + payload[40:80]


def test_each_chunk_of_a_rewritten_connect_has_its_extended_timestamp() -> None:
    connect = Message(MessageType.COMMAND, CONNECT.payload, 0, EXTENDED + 1)
    out, _ = rewritten(written(connect), {"tcUrl": "u" * 300})
    assert out.count(b"\xc3\x01\x00\x00\x00") == 2


def test_without_a_change_of_length_nothing_is_translated() -> None:
    stream = written(CONNECT)
    assert rewritten(stream + b"rest", {"tcUrl": "RTMP://PUBLIC/LIVE"}) == (
        stream.replace(b"rtmp://public/live", b"RTMP://PUBLIC/LIVE") + b"rest",
        True,
    )


@pytest.mark.parametrize("repeated", [b"\x83\x00\x00\x05", b"\xc3"])
@STEPS
def test_a_message_that_inherits_the_connects_length_keeps_it(repeated: bytes, step: int) -> None:
    payload = CONNECT.payload
    header = b"\x03\x00\x00\x00" + len(payload).to_bytes(3, "big") + b"\x14\x00\x00\x00\x00"
    size = written(set_chunk_size(4096))
    stream = size + header + payload + repeated + payload[::-1] + repeated + payload
    out, done = rewritten(stream, step=step)
    delta = repeated[1:4] or bytes(3)
    full = b"\x43" + delta + len(payload).to_bytes(3, "big") + b"\x14"
    assert out.endswith(full + payload[::-1] + repeated + payload)
    assert done


def test_an_extended_timestamp_stays_in_a_translated_header() -> None:
    payload = CONNECT.payload
    length = len(payload).to_bytes(3, "big")
    header = b"\x03\xff\xff\xff" + length + b"\x14" + bytes(4) + b"\x01\x00\x00\x00"
    size = written(set_chunk_size(4096))
    out, _ = rewritten(size + header + payload + b"\xc3\x01\x00\x00\x00" + payload[::-1])
    full = b"\x43\xff\xff\xff" + length + b"\x14" + b"\x01\x00\x00\x00"
    assert out.endswith(full + payload[::-1])


def test_a_message_with_its_own_length_ends_the_translation_unchanged() -> None:
    more = Command("createStream", 2.0).message()
    writer = ChunkWriter()
    stream = writer.write(CONNECT)
    behind = writer.write(more)
    out, done = rewritten(stream + behind)
    assert out.endswith(behind)
    assert done


def test_other_chunk_streams_are_not_changed_and_do_not_end_the_translation() -> None:
    writer = ChunkWriter()
    stream = writer.write(CONNECT)
    behind = writer.write(Message(MessageType.VIDEO, bytes(200_000), 1)) + b"\x06"
    out, done = rewritten(stream + behind)
    assert out.endswith(behind[:-1])
    assert not done


def test_an_aborted_part_of_a_message_before_the_connect_stays() -> None:
    part = b"\x03\x00\x00\x00\x00\x01\x00\x14\x00\x00\x00\x00" + bytes(128)
    out, _ = rewritten(part + written(abort(3)) + written(CONNECT))
    assert out.startswith(part + written(abort(3)))
    assert connects_of(out) == [["connect", 1.0, {"app": "live", **TEXTS}]]


# --- Any stream ---


class AnyWriter:
    """Cuts messages into chunks with headers of any format that the stream allows."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self._size = 128
        self._last: dict[int, tuple[int, int, int, int]] = {}
        self._written: dict[int, int] = {}

    def chunks(self, message: Message, chunk_stream_id: int) -> Iterator[bytes]:
        fields = self._fields(message, chunk_stream_id)
        formats = [0]
        last = self._last.get(chunk_stream_id)
        delta = message.timestamp - self._written.get(chunk_stream_id, 0)
        if last is not None and last[0] == message.stream_id and delta >= 0:
            formats.append(1)
            if last[1:3] == fields[1:3]:
                formats += [2, 3] if last[3] == delta else [2]
        chosen = self._draw(st.sampled_from(formats))
        field = message.timestamp if chosen == 0 else delta
        self._last[chunk_stream_id] = (*fields[:3], field)
        self._written[chunk_stream_id] = message.timestamp
        short = min(field, EXTENDED).to_bytes(3, "big")
        extension = field.to_bytes(4, "big") if field >= EXTENDED else b""
        full = short + fields[1].to_bytes(3, "big") + bytes([fields[2]])
        full += fields[0].to_bytes(4, "little")
        head = full[: (11, 7, 3, 0)[chosen]] + extension
        for at in range(0, len(message.payload), self._size):
            yield (
                self._basic(chunk_stream_id, chosen) + head + message.payload[at : at + self._size]
            )
            chosen, head = 3, extension

    def set_size(self, size: int) -> Iterator[bytes]:
        whole = b"".join(self.chunks(set_chunk_size(size), 2))
        self._size = size
        yield whole

    @staticmethod
    def _fields(message: Message, chunk_stream_id: int) -> tuple[int, int, int]:
        return message.stream_id, len(message.payload), message.type

    @staticmethod
    def _basic(chunk_stream_id: int, chunk_format: int) -> bytes:
        low = chunk_format << 6
        if chunk_stream_id < 64:
            return bytes([low | chunk_stream_id])
        if chunk_stream_id < 320:
            return bytes([low, chunk_stream_id - 64])
        return bytes([low | 1]) + (chunk_stream_id - 64).to_bytes(2, "little")


TIMES = st.sampled_from([0, 0, 0, 5, 40, EXTENDED - 1, EXTENDED, EXTENDED + 5])


@st.composite
def streams(draw: Any) -> bytes:
    """A stream with a connect, whose chunks are between those of others, and messages behind it."""
    writer = AnyWriter(draw)
    own = draw(st.sampled_from([3, 64, 320]))
    others = [each for each in (4, 70, 400) if each != own]
    out: list[bytes] = []
    connect = Message(MessageType.COMMAND, CONNECT.payload, 0, draw(TIMES))
    beside = Message(MessageType.AUDIO, draw(st.binary(min_size=1, max_size=300)), 1, draw(TIMES))
    size = writer.set_size(draw(st.integers(1, 400)))
    lanes = [writer.chunks(connect, own), writer.chunks(beside, others[0]), size]
    while lanes:
        lane = draw(st.sampled_from(lanes))
        chunk = next(lane, None)
        if chunk is None:
            lanes.remove(lane)
        else:
            out.append(chunk)
    timestamp = connect.timestamp
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            out += writer.set_size(draw(st.integers(1, 400)))
        timestamp += draw(TIMES)
        payload = draw(st.sampled_from([CONNECT.payload[::-1], b"x", bytes(500)]))
        lane_id = draw(st.sampled_from([own, own, *others]))
        out += writer.chunks(Message(MessageType.COMMAND, payload, 0, timestamp), lane_id)
    return b"".join(out)


@given(streams(), st.sampled_from([1 << 20, 97, 1]), st.sampled_from(["", "rtmp://a/" + "b" * 300]))
def test_a_server_reads_the_messages_of_the_client_with_another_connect(
    stream: bytes, step: int, url: str
) -> None:
    out, _ = rewritten(stream, {"tcUrl": url}, step)
    changed = Command("connect", 1.0, {"app": "live", "tcUrl": url}).message().payload
    expected = [
        evolve(each, payload=changed) if each.payload == CONNECT.payload else each
        for each in ChunkReader().feed(stream)
    ]
    assert ChunkReader().feed(out) == expected


@given(streams(), st.lists(st.integers(0, 2000), max_size=6))
def test_the_bytes_for_a_server_do_not_depend_on_the_pieces(stream: bytes, cuts: list[int]) -> None:
    reader = new_reader()
    reader.receive(C0_C1 + C2, 0.0)
    places = [0, *sorted(cuts), len(stream)]
    parts = (stream[begin:end] for begin, end in pairwise(places))
    _, rest = read_on(reader, parts)
    assert reader.connect is not None
    assert bytes(reader.received) + rest == stream


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", CONNECT.payload[:60], written(CONNECT)[:70], written(set_chunk_size(9))]),
    st.integers(1, 50),
)
def test_any_bytes_raise_no_other_error_than_an_rtmp_error(
    data: bytes, begin: bytes, step: int
) -> None:
    try:
        reader, rest = shaken(begin + data, step)
        if reader.connect is not None:
            rewriting = reader.rewriting(TEXTS)
            rewriting.translate(rest, 0.0)
    except RTMPError:
        pass
