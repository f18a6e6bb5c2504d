"""A client that the gateway has answered gets no second answer, and the rest as the server wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp.answer_filter import AnswerFilter
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    set_chunk_size,
    user_control,
    window_acknowledgement_size,
)
from gateway.protocols.rtmp.stream_reader import Answered

ANSWERED = [
    Answered("connect", 1.0, 100),
    Answered("FCPublish", 2.0, 200, notice="onFCPublish"),
    Answered("createStream", 4.0, 300, 1),
]
CONNECTED = Command("_result", 1.0, {"fmsVer": "x"}, ({"code": "Success", "more": "y" * 300},))
CREATED = Command("_result", 4.0, None, (1.0,))
STATUS = Command("onStatus", 0.0, None, ({"code": "NetStream.Publish.Start"},), 1)
ANNOUNCED = Command("onFCPublish", 0.0, None, ({"code": "NetStream.Publish.Start"},))
VIDEO = Message(MessageType.VIDEO, bytes(500), 1, 40)
STEPS = pytest.mark.parametrize("step", [1 << 20, 100, 1])


def written(*messages: Message | Command) -> bytes:
    writer = ChunkWriter()
    plain = [each.message() if isinstance(each, Command) else each for each in messages]
    return b"".join(map(writer.write, plain))


def passed(tested: AnswerFilter, stream: bytes, step: int = 1 << 20) -> bytes:
    pieces = (stream[at : at + step] for at in range(0, len(stream), step))
    return b"".join(tested.translate(piece, 0.0) for piece in pieces)


def commands_in(stream: bytes) -> list[Command]:
    found = map(read_command, ChunkReader().feed(stream))
    return [each for each in found if each is not None]


@STEPS
def test_answers_are_replaced_by_some_that_clients_ignore(step: int) -> None:
    stream = written(window_acknowledgement_size(5_000_000), CONNECTED, ANNOUNCED, CREATED)
    tested = AnswerFilter(ANSWERED)
    out = passed(tested, stream, step)
    assert len(out) == len(stream)
    assert {(each.name, each.transaction) for each in commands_in(out)} == {("_result", 0.0)}
    assert [(answered.name, result) for answered, result in tested.results] == [
        ("connect", CONNECTED),
        ("createStream", CREATED),
    ]
    assert not tested.done


@STEPS
def test_everything_else_passes_unchanged(step: int) -> None:
    messages = [
        set_chunk_size(4096),
        user_control(UserControl.STREAM_BEGIN, 0),
        Command("onBWDone", 0.0),
        Command("_result", 3.0, None, ("another call's",)),
        Message(MessageType.COMMAND, b"\xff unreadable"),
        Message(MessageType.DATA, bytes(2000), 1),
    ]
    stream = written(*messages)
    assert passed(AnswerFilter(ANSWERED), stream, step) == stream


def test_an_error_is_replaced_by_a_result() -> None:
    """FFmpeg ends at an error for a call that it does not wait for."""
    error = Command("_error", 2.0, None, ({"description": "no such method"},))
    (command,) = commands_in(passed(AnswerFilter(ANSWERED), written(error)))
    assert (command.name, command.transaction) == ("_result", 0.0)


def test_another_answer_to_the_same_call_passes() -> None:
    tested, stream = AnswerFilter(ANSWERED), written(CREATED)
    assert passed(tested, stream) != stream
    assert passed(tested, stream) == stream


@pytest.mark.parametrize("more", range(6))
def test_a_replacement_has_the_size_of_the_answer(more: int) -> None:
    payload = Command("_error", 1.0).message().payload + b"\x05" * more
    out = passed(AnswerFilter(ANSWERED), written(Message(MessageType.COMMAND, payload)))
    (message,) = ChunkReader().feed(out)
    assert len(message.payload) == len(payload)
    command = read_command(message)
    assert command is not None
    assert command.transaction == 0.0


def test_the_format_byte_of_amf3_stays() -> None:
    payload = b"\0" + CREATED.message().payload
    out = passed(AnswerFilter(ANSWERED), written(Message(MessageType.COMMAND_AMF3, payload)))
    (message,) = ChunkReader().feed(out)
    assert message.payload[0] == 0
    assert (read_command(message) or CREATED).transaction == 0.0


def test_a_command_is_held_and_nothing_else() -> None:
    tested, stream = AnswerFilter(ANSWERED), written(VIDEO, CONNECTED)
    end = stream.index(CONNECTED.message().payload[:20])
    begun = stream[: end + 10]
    out = tested.translate(begun, 0.0)
    assert out == written(VIDEO)
    assert len(out + tested.translate(stream[len(begun) :], 0.0)) == len(stream)


@pytest.mark.parametrize("step", [1 << 20, 100])
@pytest.mark.parametrize(
    "last",
    [STATUS, VIDEO, Command("_result", 9.0), Message(MessageType.DATA, bytes(9), 1)],
    ids=["status", "video", "answer", "data"],
)
def test_the_filter_ends_with_the_servers_reaction_to_the_request(last: Any, step: int) -> None:
    tested, stream = AnswerFilter(ANSWERED), written(CONNECTED, CREATED)
    passed(tested, stream)
    assert not tested.done
    tested.pass_on(9.0)
    rest = written(last) + b"\xff\xff anything"
    assert passed(tested, rest, step) == rest
    assert tested.done


@pytest.mark.parametrize("last", [STATUS, VIDEO])
def test_before_the_request_it_does_not_end(last: Any) -> None:
    tested = AnswerFilter(ANSWERED)
    passed(tested, written(last))
    assert not tested.done


def test_media_between_the_chunks_of_an_answer_passes_unchanged() -> None:
    # A first chunk has 12 bytes of header and 128 of payload, and each further one 1 and 128.
    first, media = written(CONNECTED), ChunkWriter().write(VIDEO, 6)
    stream = first[:140] + media[:140] + first[140:269] + media[140:269] + first[269:] + media[269:]
    tested = AnswerFilter(ANSWERED)
    reader = ChunkReader()
    messages = reader.feed(passed(tested, stream, 50))
    assert VIDEO in messages
    assert [each[0].name for each in tested.results] == ["connect"]


def test_after_media_the_filter_ends_only_when_no_command_is_unfinished() -> None:
    first, media = written(CONNECTED), ChunkWriter().write(VIDEO, 6)
    tested = AnswerFilter(ANSWERED)
    tested.pass_on(9.0)
    assert tested.translate(first[:140] + media[:140], 0.0) == b""
    assert not tested.done
    out = tested.translate(first[140:] + media[140:] + b"\xff", 0.0)
    assert tested.done
    assert b"fmsVer" not in out
    assert out.endswith(media[140:] + b"\xff")


def test_what_is_held_has_a_limit() -> None:
    tested, writer = AnswerFilter(ANSWERED), ChunkWriter()
    size = writer.write(set_chunk_size(30_000))
    command = writer.write(Message(MessageType.COMMAND, bytes(60_000)), 3)
    media = writer.write(Message(MessageType.VIDEO, bytes(30_000), 1), 6)
    tested.translate(size + command[: 12 + 30_000], 0.0)
    for _ in range(7):
        tested.translate(media, 0.0)
    with pytest.raises(RTMPError):
        tested.translate(media * 2, 0.0)


def test_malformed_chunks_are_an_error() -> None:
    with pytest.raises(RTMPError):
        AnswerFilter(ANSWERED).translate(b"\xc9", 0.0)


_COMMANDS = st.sampled_from(
    [CONNECTED, CREATED, ANNOUNCED, STATUS, Command("_error", 2.0), Command("x", 7.0, None, ("y",))]
)
_OTHERS = st.builds(
    Message,
    st.sampled_from([MessageType.AUDIO, MessageType.VIDEO, MessageType.ACKNOWLEDGEMENT]),
    st.binary(max_size=300),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 20, 40, 0xFFFFFE, 0x1000000]),
)


@given(
    st.lists(st.one_of(_COMMANDS, _OTHERS), max_size=12),
    st.integers(1, 400),
    st.integers(0, 12),
)
def test_a_client_reads_the_same_messages_but_for_the_replaced_ones(
    messages: Sequence[Any], step: int, requested_at: int
) -> None:
    plain = [each.message() if isinstance(each, Command) else each for each in messages]
    writer, tested, out = ChunkWriter(), AnswerFilter(ANSWERED), b""
    for index, message in enumerate(plain):
        if index == requested_at:
            tested.pass_on(9.0)
        out += passed(tested, writer.write(message), step)
    got = ChunkReader().feed(out)
    assert len(got) == len(plain)
    for was, now in zip(plain, got, strict=True):
        assert (now.type, now.stream_id, now.timestamp) == (was.type, was.stream_id, was.timestamp)
        assert len(now.payload) == len(was.payload)
        assert now == was or (read_command(now) or STATUS).transaction == 0.0
