"""The reader of publishes that are mirrored: what it finds, collects, and when it stops."""

from __future__ import annotations

import pytest

from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.answers import status
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.messages import Message, MessageType
from gateway.protocols.rtmp.mirroring import MirrorReader
from gateway.protocols.rtmp.relay import LiveStream

HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)
STARTED = status(1, "NetStream.Publish.Start", "cam is now published")


def command(*values: amf0.Value, stream_id: int = 0) -> Message:
    return Message(MessageType.COMMAND, amf0.encode(*values), stream_id)


CONNECT = command("connect", 1, {"app": "live?a=b"})
PUBLISH = command("publish", 3, None, "cam?key=x", "live", stream_id=1)
KEYFRAME = Message(MessageType.VIDEO, b"\x17\x01\0\0\0key", 1, 40)


class Session:
    """A client and its server, whose bytes are read. Only live/cam is mirrored."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.reader: MirrorReader | None = MirrorReader(
            lambda application, stream: (application, stream) == ("live", "cam"),
            ServerMemory(),
            lambda stream, application, name: self.events.append(f"began {application}/{name}"),
            self._ended,
        )
        self.relayed: list[Message] = []
        self.reader.stream.players[self] = None  # type: ignore[index]
        self._up, self._down = ChunkWriter(), ChunkWriter()
        self.read(HANDSHAKE, HANDSHAKE)

    def _ended(self, stream: LiveStream) -> None:
        self.events.append("ended")

    def deliver(self, packet: object, message: Message, stream: object) -> None:
        self.relayed.append(message)

    def read(self, up: bytes, down: bytes = b"", size: int = 100_000) -> None:
        for start in range(0, len(up), size):
            if self.reader is not None:
                self.reader = self.reader.up(up[start : start + size], 0.0)
        for start in range(0, len(down), size):
            if self.reader is not None:
                self.reader = self.reader.down(down[start : start + size], 0.0)

    def say(self, *messages: Message, size: int = 100_000) -> None:
        self.read(b"".join(map(self._up.write, messages)), size=size)

    def answer(self, *messages: Message, size: int = 100_000) -> None:
        self.read(b"", b"".join(map(self._down.write, messages)), size)


@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_an_accepted_publish_and_its_media_are_mirrored(size: int) -> None:
    session = Session()
    session.say(CONNECT, PUBLISH, size=size)
    assert session.events == []
    # nginx-rtmp answers again if the publish comes again.
    session.answer(command("_result", 1, None), STARTED, STARTED, size=size)
    assert session.events == ["began live/cam"]
    session.say(KEYFRAME, size=size)
    assert session.relayed == [KEYFRAME]
    assert session.reader is not None
    session.reader.end()
    assert session.events == ["began live/cam", "ended"]


def test_a_publish_that_the_server_refuses_is_not_mirrored() -> None:
    session = Session()
    session.say(CONNECT, PUBLISH, KEYFRAME)
    session.answer(status(1, "NetStream.Publish.BadName", "taken", "error"))
    assert session.reader is not None
    session.reader.end()
    assert session.events == []


@pytest.mark.parametrize(
    "messages",
    [
        (CONNECT, command("publish", 3, None, "other", stream_id=1)),
        (command("connect", 1, {"app": "vod"}), PUBLISH),
        (CONNECT, command("play", 3, None, "cam", stream_id=1)),
    ],
)
def test_other_sessions_are_no_longer_read(messages: tuple[Message, ...]) -> None:
    session = Session()
    session.say(*messages)
    assert session.reader is None
    assert session.events == []


@pytest.mark.parametrize(
    "end",
    [
        command("deleteStream", 5, None, 1.0),
        command("closeStream", 0, None, stream_id=1),
        command("FCUnpublish", 5, None, "cam"),
        Message(MessageType.COMMAND, b"malformed"),
    ],
)
def test_the_end_of_the_publish_ends_the_mirroring(end: Message) -> None:
    session = Session()
    session.say(CONNECT, PUBLISH)
    session.answer(STARTED)
    session.say(command("deleteStream", 5, None, 2.0), end, KEYFRAME)
    assert session.reader is None
    assert session.events == ["began live/cam", "ended"]
    assert session.relayed == []


def test_media_of_other_message_streams_is_left_out() -> None:
    session = Session()
    session.say(CONNECT, PUBLISH)
    session.answer(STARTED)
    session.say(Message(MessageType.AUDIO, b"\xaf\x01x", 2, 0))
    assert session.relayed == []


def test_a_client_that_does_not_publish_is_read_within_a_limit() -> None:
    session = Session()
    session.say(*[command("x", 0, None, "y" * 1000)] * 100)
    assert session.reader is None


def test_rtmpe_is_not_read() -> None:
    reader = MirrorReader(lambda *_: True, ServerMemory(), lambda *_: None, lambda _: None)
    assert reader.up(b"\x06" + bytes(1536), 0.0) is None
