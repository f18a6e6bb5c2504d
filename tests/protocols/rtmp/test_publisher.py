"""The publisher's side of a connection, against the embedded origin's: what the server's players get."""

from __future__ import annotations

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.answers import status
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake, ServerHandshake
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.messages import Message, MessageType, UserControl, user_control
from gateway.protocols.rtmp.publisher import Destination, Publisher
from gateway.protocols.rtmp.relay import LiveStream, Player, StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from tests.helpers.rtmp_client import audio, video

KEYFRAME = b"\x17\x01\0\0\0key"
INTER_FRAME = b"\x27\x01\0\0\0inter"
CODEC = b"\x17\x00\0\0\0codec"
METADATA = Message(
    MessageType.DATA, amf0.encode("@setDataFrame", "onMetaData", {"width": 640.0}), 1
)


class Wire:
    """What was written, until it is taken."""

    def __init__(self) -> None:
        self._written = b""
        self.cause: str | None = None

    def write(self, data: bytes) -> None:
        self._written += data

    def close(self, cause: str) -> None:
        self.cause = cause

    def take(self) -> bytes:
        written, self._written = self._written, b""
        return written


class Pair:
    """A publisher and a server, whose bytes pass in pieces of ``size``."""

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self.streams = StreamTable()
        self.wire, self._server_wire = Wire(), Wire()
        self.server = ServerConnection(
            self._server_wire, self.streams, ServerHandshake(0, bytes(RANDOM_BYTES))
        )
        self.players: list[Player] = []
        destination = Destination("rtmp://h/live2", "live2", "secret")
        handshake = ClientHandshake(0, bytes(RANDOM_BYTES))
        self.publisher = Publisher(
            *(self.wire, ServerMemory(), destination, handshake, self.players.append)
        )
        self.publisher.begin()
        self.settle()

    def settle(self) -> None:
        """Pass bytes until nothing is left to pass."""
        while True:
            up, down = self.wire.take(), self._server_wire.take()
            if not up and not down:
                return
            for start in range(0, len(up), self._size):
                self.server.receive(up[start : start + self._size], 0.0)
            for start in range(0, len(down), self._size):
                self.publisher.receive(down[start : start + self._size], 0.0)


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_a_server_gets_the_stream_of_a_live_stream(size: int) -> None:
    pair = Pair(size)
    (player,) = pair.players
    live = LiveStream("live/cam")
    viewers = pair.streams.stream("live2/secret")
    assert viewers.publisher is not None
    viewer = Viewer(viewers)
    live.relay(METADATA)
    live.relay(video(CODEC))
    live.players[player] = None
    live.relay(video(INTER_FRAME, 40))
    live.relay(video(KEYFRAME, 80))
    live.relay(audio(timestamp=90))
    live.relay(video(INTER_FRAME, 120))
    pair.settle()
    assert viewer.video() == [(CODEC, 80), (KEYFRAME, 80), (INTER_FRAME, 120)]
    assert viewer.metadata() == {"width": 640.0}
    live.unpublish()
    pair.settle()
    assert viewers.publisher is None


class Viewer:
    """A player at the server."""

    def __init__(self, stream: LiveStream) -> None:
        self._messages: list[Message] = []
        stream.players[Recorder(self._messages)] = None  # type: ignore[index]

    def video(self) -> list[tuple[bytes, int]]:
        return [
            (each.payload, each.timestamp)
            for each in self._messages
            if each.type == MessageType.VIDEO
        ]

    def metadata(self) -> amf0.Value:
        (found,) = [each for each in self._messages if each.type == MessageType.DATA]
        name, value = amf0.decode(found.payload)
        assert name == "onMetaData"
        return value


class Recorder:
    """In place of a player: keeps all messages."""

    stream_id = 1

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    def deliver(self, packet: object, message: Message, stream: object) -> None:
        self._messages.append(message)

    def notify_unpublish(self, notices: object) -> None:
        """Nothing to keep."""


def test_a_ping_is_answered() -> None:
    pair = Pair()
    pair.publisher.receive(ChunkWriter().write(user_control(UserControl.PING_REQUEST, 7)), 0.0)
    assert user_control(UserControl.PING_RESPONSE, 7).payload in pair.wire.take()


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (status(1, "NetStream.Publish.BadName", "taken\n by another", "error"), "taken by another"),
        (
            Message(
                MessageType.COMMAND,
                amf0.encode("_error", 1, None, {"code": "NetConnection.Connect.Rejected"}),
            ),
            "NetConnection.Connect.Rejected",
        ),
        (
            Message(MessageType.COMMAND, amf0.encode("_result", 4, None, "no number")),
            "createStream without a stream",
        ),
    ],
)
def test_a_refusal_of_the_server_is_an_error_with_its_cause(message: Message, cause: str) -> None:
    wire = Wire()
    server = ServerHandshake(0, bytes(RANDOM_BYTES))
    publisher = Publisher(
        *(wire, ServerMemory(), Destination("rtmp://h/a", "a", "s")),
        ClientHandshake(0, bytes(RANDOM_BYTES)),
        lambda player: None,
    )
    publisher.begin()
    publisher.receive(server.receive(wire.take()), 0.0)
    with pytest.raises(RTMPError, match=cause):
        publisher.receive(ChunkWriter().write(message), 0.0)
