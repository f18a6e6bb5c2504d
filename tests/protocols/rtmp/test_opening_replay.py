"""A server is told what the client has said before, and the client what it has not heard yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES, RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.messages import Message, MessageType, UserControl, user_control
from gateway.protocols.rtmp.opening_replay import OpeningReplay
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.stream_reader import StreamReader
from tests.helpers.rtmp_openings import OPENINGS

CONNECT = Command("connect", 1.0, {"app": "live"})
CREATE = Command("createStream", 2.0)
PUBLISH = Command("publish", 3.0, None, ("camera", "live"), 1)
CONNECTED = Command("_result", 1.0, {}, ({"code": "NetConnection.Connect.Success"},))
CREATED = Command("_result", 2.0, None, (1.0,))
STATUS = Command("onStatus", 0.0, None, ({"code": "NetStream.Publish.Start"},), 1)


def written(*messages: Message | Command) -> bytes:
    writer = ChunkWriter()
    plain = [each.message() if isinstance(each, Command) else each for each in messages]
    return b"".join(map(writer.write, plain))


def opened(sent: bytes) -> tuple[StreamReader, OpeningReplay, bytes]:
    """A replay of a client that has sent this, and what it has been answered."""
    reader = StreamReader()
    answer = reader.receive(sent, 0.0)
    return reader, OpeningReplay(reader.answered, bytearray(sent)), answer


def new_replay(*commands: Command) -> OpeningReplay:
    return opened(written(CONNECT, *commands, PUBLISH))[1]


def commands_in(stream: bytes) -> list[Command]:
    found = map(read_command, ChunkReader().feed(stream))
    return [each for each in found if each is not None]


class Server:
    """The embedded origin, after its handshake: ``answers`` to the bytes that it gets."""

    def __init__(self) -> None:
        self.table = StreamTable()
        self._answers: list[bytes] = []
        handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
        self._connection = ServerConnection(self, self.table, handshake)
        self._connection.receive(b"\x03" + bytes(HANDSHAKE_BYTES - 1), 0.0)
        self._answers.clear()
        self.received = b""

    def write(self, data: bytes) -> None:
        self._answers.append(data)

    def close(self, cause: str) -> None:
        raise AssertionError(cause)

    def answers(self, data: bytes) -> Iterator[bytes]:
        self.received += data
        self._connection.receive(data, 0.0)
        answers, self._answers = self._answers, []
        return iter(answers)


def replay_to(server: Server, replay: OpeningReplay, step: int) -> None:
    parts = [replay.begin(0.0)]
    while parts:
        for answer in server.answers(parts.pop(0)):
            pieces = (answer[at : at + step] for at in range(0, len(answer), step))
            parts += filter(None, (replay.receive(piece, 0.0) for piece in pieces))


@pytest.mark.parametrize("step", [1 << 20, 1])
@pytest.mark.parametrize("name", OPENINGS)
def test_a_real_clients_opening_reaches_the_server_byte_for_byte(name: str, step: int) -> None:
    opening, server = OPENINGS[name], Server()
    reader, replay, answered = opened(opening.sent)
    replay_to(server, replay, step)
    assert replay.done
    assert reader.request is not None
    last = replay.finish(reader.request.transaction, 0.0)
    out = replay.rest + b"".join(replay.down.translate(each, 0.0) for each in server.answers(last))
    assert server.received == opening.sent
    assert replay.up.done
    assert replay.down.done
    # The client hears each result once, and the status at the end.
    commands = commands_in(answered + out)
    calls = [each.transaction for each in commands if each.name == "_result" and each.transaction]
    assert len(calls) == len(set(calls))
    status = "NetStream.Publish.Start" if opening.action == "publish" else "NetStream.Play.Start"
    information = commands[-1].argument(0)
    assert isinstance(information, dict)
    assert information["code"] == status
    if opening.action == "publish":
        assert server.table.stream("live/camera").publisher is not None


def test_the_client_is_waited_for_as_it_had_waited() -> None:
    release = Command("releaseStream", 4.0, None, ("camera",))
    sent = written(CONNECT, release, CREATE, PUBLISH)
    _, replay, _ = opened(sent)
    first = replay.begin(0.0)
    assert first == written(CONNECT)
    assert replay.receive(written(Message(MessageType.ACKNOWLEDGEMENT, bytes(4))), 0.0) == b""
    second = replay.receive(written(CONNECTED), 0.0)
    assert first + second == written(CONNECT, release, CREATE)
    assert not replay.done
    assert replay.receive(written(CREATED), 0.0) == b""
    assert replay.done
    assert first + second + replay.finish(3.0, 0.0) == sent


def test_answers_can_come_in_another_order() -> None:
    other = Command("createStream", 5.0)
    replay = new_replay(CREATE, other)
    replay.begin(0.0)
    replay.receive(written(CONNECTED), 0.0)
    replay.receive(written(Command("_result", 5.0, None, (2.0,))), 0.0)
    assert not replay.done
    replay.receive(written(CREATED), 0.0)
    assert replay.done
    assert replay.finish(3.0, 0.0).endswith(PUBLISH.message().payload)


@pytest.mark.parametrize(
    "refusal",
    [
        Command("_error", 1.0, None, ({"level": "error", "description": "no\nsuch"},)),
        Command("_result", 1.0, None, ({"level": "error", "code": "no such"},)),
    ],
)
def test_a_refused_connect_ends_the_replay(refusal: Command) -> None:
    replay = new_replay(CREATE)
    replay.begin(0.0)
    assert replay.receive(written(refusal), 0.0) == b""
    assert replay.done
    assert replay.refusal == "no such"


def test_a_refused_stream_does_so_too() -> None:
    replay = new_replay(CREATE)
    replay.begin(0.0)
    replay.receive(written(CONNECTED, Command("_error", 2.0)), 0.0)
    assert (replay.done, replay.refusal) == (True, "_error")


@pytest.mark.parametrize("given", [(), (0.0,), ("x",)])
def test_a_stream_without_a_number_is_an_error(given: Sequence[float]) -> None:
    replay = new_replay(CREATE)
    replay.begin(0.0)
    with pytest.raises(RTMPError):
        replay.receive(written(CONNECTED, Command("_result", 2.0, None, tuple(given))), 0.0)


def test_a_server_may_not_send_without_end() -> None:
    replay = new_replay(CREATE)
    replay.begin(0.0)
    with pytest.raises(RTMPError):
        replay.receive(written(*[Message(MessageType.AUDIO, bytes(100))] * 700), 0.0)


def test_other_stream_ids_of_a_server_are_translated_both_ways() -> None:
    replay = new_replay(CREATE)
    replay.begin(0.0)
    begin = user_control(UserControl.STREAM_BEGIN, 7)
    replay.receive(written(CONNECTED), 0.0)
    given = Command("_result", 2.0, None, (7.0,)).message()
    replay.receive(ChunkWriter().write(given, 8) + ChunkWriter().write(begin), 0.0)
    (publish,) = commands_in(replay.finish(3.0, 0.0))
    assert publish.stream_id == 7
    assert ChunkReader().feed(replay.rest)[-1] == user_control(UserControl.STREAM_BEGIN, 1)
    status = ChunkWriter().write(Command("onStatus", 0.0, None, STATUS.arguments, 7).message(), 5)
    assert commands_in(replay.down.translate(status, 0.0)) == [STATUS]
    video = ChunkWriter().write(Message(MessageType.VIDEO, bytes(9), 1), 6)
    assert ChunkReader().feed(replay.up.translate(video, 0.0))[0].stream_id == 7
    assert not replay.up.done
    assert not replay.down.done


def test_of_streams_with_the_same_id_the_client_uses_the_last() -> None:
    """nginx-rtmp gives every stream the id 1."""
    replay = new_replay(CREATE, Command("createStream", 5.0))
    replay.begin(0.0)
    replay.receive(written(CONNECTED, CREATED), 0.0)
    replay.receive(written(Command("_result", 5.0, None, (1.0,))), 0.0)
    replay.finish(3.0, 0.0)
    status = ChunkWriter().write(STATUS.message(), 5)
    assert commands_in(replay.down.translate(status, 0.0))[0].stream_id == 2
