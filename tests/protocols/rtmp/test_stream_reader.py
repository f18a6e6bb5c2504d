"""A client is answered as far as its publish or play."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from gateway.errors import RTMPError
from gateway.protocols.access import Action
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.connect_reader import MOST_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType, set_chunk_size
from gateway.protocols.rtmp.stream_reader import StreamReader, StreamRequest
from tests.helpers.rtmp_openings import OPENINGS

CONNECT = Command("connect", 1.0, {"app": "live", "objectEncoding": 3.0})
PUBLISH = Command("publish", 5.0, None, ("camera?key=1", "live"), 1)


def written(*commands: Command) -> bytes:
    writer = ChunkWriter()
    return b"".join(writer.write(each.message()) for each in commands)


def answers_in(data: bytes) -> list[Command]:
    return [each for each in map(read_command, ChunkReader().feed(data)) if each is not None]


def read(reader: StreamReader, parts: Iterable[bytes]) -> list[Command]:
    """The answers."""
    return answers_in(b"".join(reader.receive(part, 0.0) for part in parts))


def after_connect(*commands: Command) -> tuple[StreamReader, list[Command]]:
    """A reader of a connect and these commands, and the answers to the commands."""
    reader = StreamReader()
    return reader, read(reader, [written(CONNECT, *commands)])[1:]


@pytest.mark.parametrize("name", OPENINGS)
@pytest.mark.parametrize("step", [1 << 20, 100, 1])
def test_real_clients_are_answered_up_to_their_request(name: str, step: int) -> None:
    opening, reader = OPENINGS[name], StreamReader()
    sent = opening.sent
    answers = read(reader, (sent[at : at + step] for at in range(0, len(sent), step)))
    assert reader.request is not None
    assert reader.request.action is Action(opening.action)
    assert reader.request.stream == "camera"
    assert tuple(each.name for each in reader.answered) == opening.answered
    results = [each.transaction for each in answers if each.name == "_result"]
    assert results == [each.transaction for each in reader.answered if each.transaction]


def test_the_ends_of_the_answered_commands_are_known() -> None:
    reader, _ = after_connect(Command("createStream", 2.0), PUBLISH)
    assert [each.end for each in reader.answered] == [
        len(written(CONNECT)),
        len(written(CONNECT, Command("createStream", 2.0))),
    ]


def test_a_connect_gets_windows_and_a_result_with_its_object_encoding_and_no_chunk_size() -> None:
    reader = StreamReader()
    messages = ChunkReader().feed(reader.receive(written(CONNECT), 0.0))
    (answer,) = filter(None, map(read_command, messages))
    information: Any = answer.argument(0)
    assert (answer.name, answer.transaction) == ("_result", 1.0)
    assert information["code"] == "NetConnection.Connect.Success"
    assert information["objectEncoding"] == 3.0
    assert MessageType.SET_PEER_BANDWIDTH in {each.type for each in messages}
    assert reader.receive(b"", 0.0) == b""


def test_each_stream_gets_an_id_of_its_own() -> None:
    reader, answers = after_connect(Command("createStream", 2.0), Command("createStream", 3.0))
    assert [(each.transaction, each.argument(0)) for each in answers] == [(2.0, 1.0), (3.0, 2.0)]
    assert [each.stream_id for each in reader.answered] == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "notice"),
    [
        ("releaseStream", None),
        ("FCPublish", "onFCPublish"),
        ("FCUnpublish", "onFCUnpublish"),
        ("FCSubscribe", "onFCSubscribe"),
    ],
)
def test_clients_get_the_notices_that_they_wait_for(call: str, notice: str | None) -> None:
    reader, answers = after_connect(Command(call, 2.0, None, ("camera",)))
    assert (answers[0].name, answers[0].transaction) == ("_result", 2.0)
    assert [each.name for each in answers[1:]] == [notice] * (notice is not None)
    assert reader.answered[-1].notice == (notice or "")
    assert reader.request is None


@pytest.mark.parametrize(
    "command",
    [
        Command("getStreamLength", 2.0, None, ("camera",)),
        Command("_checkbw", 2.0),
        Command("deleteStream", 2.0, None, (1.0,)),
        Command("_result", 2.0),
        Command("setBandwidth", 0.0, None, (1.0,)),
        Command("publish", 2.0, None, (False,), 1),
    ],
)
def test_other_commands_are_for_the_server(command: Command) -> None:
    reader, answers = after_connect(command)
    assert answers == []
    assert reader.request is None


def test_a_call_that_only_the_server_can_answer_needs_one() -> None:
    reader, answers = after_connect(Command("getRooms", 2.0, None, ("camera",)))
    assert answers == []
    assert reader.request == StreamRequest(None, "", 2.0, 0)


@pytest.mark.parametrize("before", [b"", written(CONNECT)])
def test_a_command_that_cannot_be_read_is_for_the_server(before: bytes) -> None:
    reader = StreamReader()
    reader.receive(before + ChunkWriter().write(Message(MessageType.COMMAND, b"\xff")), 0.0)
    assert reader.request == StreamRequest(None, "", 0.0, 0)


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        (PUBLISH, StreamRequest(Action.PUBLISH, "camera", 5.0, 1)),
        (
            Command("play", 0.0, None, ("/a/b/?x",), 7),
            StreamRequest(Action.PLAY, "a/b", 0.0, 7),
        ),
        (
            Command("play2", 3.0, None, ({"streamName": "hd?x", "start": -2.0},), 1),
            StreamRequest(Action.PLAY, "hd", 3.0, 1),
        ),
        (Command("play", 0.0, None, (), 1), StreamRequest(Action.PLAY, "", 0.0, 1)),
    ],
)
def test_the_request_names_the_stream_without_its_query(
    command: Command, request_: StreamRequest
) -> None:
    reader, answers = after_connect(command)
    assert answers == []
    assert reader.request == request_


def test_the_format_byte_of_flash_players_commands_is_not_part_of_them() -> None:
    message = PUBLISH.message()
    flash = Message(MessageType.COMMAND_AMF3, b"\0" + message.payload, 1)
    reader = StreamReader()
    writer = ChunkWriter()
    reader.receive(writer.write(CONNECT.message()) + writer.write(flash), 0.0)
    assert reader.request == StreamRequest(Action.PUBLISH, "camera", 5.0, 1)


def test_nothing_is_read_behind_the_request() -> None:
    reader, _ = after_connect(PUBLISH)
    assert reader.receive(b"\xff" * 100_000, 0.0) == b""


def test_the_clients_chunk_size_applies() -> None:
    writer, reader = ChunkWriter(), StreamReader()
    messages = [set_chunk_size(4096), CONNECT.message()]
    messages.append(Command("play", 0.0, None, ("x" * 1000,), 1).message())
    reader.receive(b"".join(map(writer.write, messages)), 0.0)
    assert reader.request is not None
    assert reader.request.stream == "x" * 1000


@pytest.mark.parametrize(
    "stream",
    [
        written(PUBLISH),
        written(CONNECT, CONNECT),
        written(CONNECT, *[Command("createStream", 2.0)] * 17),
        written(CONNECT, *[Command("x", 0.0, None, ("y" * 1000,))] * 80),
    ],
    ids=["no connect", "two connects", "many streams", "many bytes"],
)
def test_the_rules_for_clients_are_enforced(stream: bytes) -> None:
    reader = StreamReader()
    with pytest.raises(RTMPError):
        reader.receive(stream, 0.0)


def test_an_unfinished_message_counts_in_the_limit_on_bytes() -> None:
    reader = StreamReader()
    begun = ChunkWriter(1 << 20).write(Message(MessageType.DATA, bytes(MOST_BYTES), 1))
    reader.receive(written(CONNECT), 0.0)
    with pytest.raises(RTMPError, match="neither publish nor play"):
        reader.receive(ChunkWriter().write(set_chunk_size(1 << 20)) + begun, 0.0)


def test_a_client_that_waits_behind_its_connect_gets_a_bandwidth_notice_once() -> None:
    reader = StreamReader()
    assert reader.answer_silence() == b""
    answer = reader.receive(written(CONNECT), 0.0) + reader.answer_silence()
    assert [each.name for each in answers_in(answer)] == ["_result", "onBWDone"]
    assert reader.answer_silence() == b""


def test_a_client_that_has_gone_on_gets_none() -> None:
    reader, _ = after_connect(Command("createStream", 2.0))
    assert reader.answer_silence() == b""
