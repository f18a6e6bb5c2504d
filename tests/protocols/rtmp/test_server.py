"""Conversations with the RTMP server, without transport and reactor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunks import WINDOW_BYTES
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.messages import Message, MessageType, UserControl, user_control
from gateway.protocols.rtmp.outbox import MESSAGE_BYTES, QUEUE_BYTES, QUEUE_NOTICES
from gateway.protocols.rtmp.relay import KEPT_HEADERS, VIDEO_GONE_MS, StreamTable
from gateway.protocols.rtmp.server import NET_STREAMS, ServerConnection
from tests.helpers.rtmp_client import (
    AUDIO_HEADER,
    INTER_FRAME,
    KEYFRAME,
    METADATA,
    SET_METADATA,
    SOUND,
    VIDEO_HEADER,
    Client,
    audio,
    data,
    video,
)


class Conversation:
    """A client and the server's side of its connection; also the transport of the server."""

    def __init__(self, streams: StreamTable) -> None:
        self.client = Client()
        self.closed = False
        self.cause = ""
        self.now = 0.0
        self.hold_after: int | None = None
        self.server = ServerConnection(self, streams, ServerHandshake(0, bytes(RANDOM_BYTES)))
        self.server.receive(self.client.hello(), 0.0)

    def write(self, written: bytes) -> None:
        answer = self.client.receive(written)
        if self.hold_after is not None:
            self.hold_after -= 1
            if self.hold_after == 0:
                self.server.hold()
        if answer:
            self.server.receive(answer, self.now)

    def close(self, cause: str) -> None:
        self.closed = True
        self.cause = cause

    def say(self, name: str, *arguments: Value, transaction: float = 5.0, stream: int = 0) -> None:
        self.server.receive(
            self.client.call(name, transaction, *arguments, stream_id=stream), self.now
        )

    def send(self, *messages: Message) -> None:
        """Send messages, 50 a second."""
        for message in messages:
            self.now += 0.02
            self.server.receive(self.client.write(message), self.now)

    def start(self, role: str, name: str = "name", app: str = "live") -> Conversation:
        self.server.receive(self.client.connect(app), self.now)
        self.say("createStream")
        self.say(role, name, transaction=0.0, stream=1)
        return self


Meet = Callable[[], Conversation]


@pytest.fixture
def streams() -> StreamTable:
    return StreamTable()


@pytest.fixture
def meet(streams: StreamTable) -> Meet:
    return lambda: Conversation(streams)


def test_connect_is_answered_with_window_bandwidth_chunk_size_and_result(meet: Meet) -> None:
    talk = meet()
    talk.server.receive(talk.client.connect(), talk.now)
    bandwidth, answer = talk.client.take_messages()
    assert bandwidth.type == MessageType.SET_PEER_BANDWIDTH
    command = read_command(answer)
    assert command is not None
    assert (command.name, command.transaction) == ("_result", 1.0)
    information = command.argument(0)
    assert isinstance(information, dict)
    assert information["code"] == "NetConnection.Connect.Success"


def test_an_enhanced_client_gets_the_flag_for_all_codecs(meet: Meet) -> None:
    talk = meet()
    asked: Value = {"app": "live", "fourCcList": ["hvc1"], "objectEncoding": 3.0}
    talk.send(Command("connect", 1.0, asked).message())
    answer = read_command(talk.client.take_messages()[-1])
    assert answer is not None
    assert isinstance(answer.object, dict)
    assert answer.object["fourCcList"] == ["*"]
    information = answer.argument(0)
    assert isinstance(information, dict)
    assert information["objectEncoding"] == 3.0


def test_commands_that_encoders_send_before_and_after_publish_are_answered(meet: Meet) -> None:
    talk = meet()
    talk.server.receive(talk.client.connect(), talk.now)
    talk.client.take_said()
    talk.say("releaseStream", "name")
    talk.say("FCPublish", "name")
    talk.say("createStream")
    talk.say("_checkbw")
    talk.say("publish", "name", "live", stream=1)
    talk.say("FCUnpublish", "name")
    talk.say("deleteStream", 1.0, transaction=0.0)
    assert talk.client.take_said() == [
        "_result",
        "_result",
        "onFCPublish",
        "_result",
        "_result",
        "NetStream.Publish.Start",
        "_result",
        "onFCUnpublish",
    ]


def test_commands_that_players_send_before_and_after_play_are_answered(meet: Meet) -> None:
    talk = meet()
    talk.server.receive(talk.client.connect(), talk.now)
    talk.client.take_said()
    talk.say("createStream")
    talk.say("FCSubscribe", "name")
    talk.say("getStreamLength", "name")
    talk.say("play", "name", -2000.0, transaction=0.0, stream=1)
    talk.say("pause", True, 0.0, stream=1)
    talk.say("pause", False, 0.0, stream=1)
    talk.say("receiveVideo", True, transaction=0.0, stream=1)
    talk.say("closeStream", transaction=0.0, stream=1)
    assert talk.client.take_said() == [
        "_result",
        "_result",
        "onFCSubscribe",
        "_result",
        "NetStream.Play.Reset",
        "NetStream.Play.Start",
        "NetStream.Pause.Notify",
        "NetStream.Unpause.Notify",
    ]


def test_a_player_that_waits_for_the_publisher_gets_every_message_unchanged(meet: Meet) -> None:
    player = meet().start("play")
    publisher = meet().start("publish")
    assert player.client.take_said()[-1] == "NetStream.Play.PublishNotify"
    publisher.send(
        data(SET_METADATA),
        video(VIDEO_HEADER),
        audio(AUDIO_HEADER),
        audio(SOUND, 3),
        video(KEYFRAME, 0),
        video(INTER_FRAME, 40),
        data(b"\x02\x00\x0aonCuePoint\x05", 41),
    )
    assert player.client.take_media() == [
        (METADATA, 0),
        (VIDEO_HEADER, 0),
        (AUDIO_HEADER, 0),
        (SOUND, 3),
        (KEYFRAME, 0),
        (INTER_FRAME, 40),
        (b"\x02\x00\x0aonCuePoint\x05", 41),
    ]


def test_a_late_player_gets_metadata_and_headers_and_begins_at_a_keyframe(meet: Meet) -> None:
    publisher = meet().start("publish")
    publisher.send(data(SET_METADATA), video(VIDEO_HEADER), audio(AUDIO_HEADER), video(KEYFRAME))
    player = meet().start("play")
    player.client.take_messages()
    publisher.send(video(INTER_FRAME, 40), audio(SOUND, 45))
    assert player.client.take_media() == []
    publisher.send(video(KEYFRAME, 80), audio(SOUND, 85), video(INTER_FRAME, 120))
    assert player.client.take_media() == [
        (METADATA, 0),
        (VIDEO_HEADER, 80),
        (AUDIO_HEADER, 80),
        (KEYFRAME, 80),
        (SOUND, 85),
        (INTER_FRAME, 120),
    ]


def test_a_late_player_gets_the_latest_headers_only(meet: Meet) -> None:
    publisher = meet().start("publish")
    other = VIDEO_HEADER + b"other"
    clear = b"\x02\x00\x0f@clearDataFrame\x02\x00\x0aonMetaData"
    publisher.send(data(SET_METADATA), video(VIDEO_HEADER), video(other), data(clear))
    player = meet().start("play")
    publisher.send(video(KEYFRAME, 80))
    assert player.client.take_media() == [(other, 80), (KEYFRAME, 80)]


def test_a_late_player_of_an_audio_only_stream_begins_at_once(meet: Meet) -> None:
    publisher = meet().start("publish")
    publisher.send(audio(AUDIO_HEADER), audio(SOUND, 20))
    player = meet().start("play")
    publisher.send(audio(SOUND, 43))
    assert player.client.take_media() == [(AUDIO_HEADER, 43), (SOUND, 43)]


def test_audio_is_not_withheld_when_the_video_has_stopped(meet: Meet) -> None:
    publisher = meet().start("publish")
    publisher.send(video(VIDEO_HEADER, 100), video(KEYFRAME, 100))
    player = meet().start("play")
    publisher.send(audio(SOUND, 99), audio(SOUND, 99 + VIDEO_GONE_MS))
    assert player.client.take_media() == []
    publisher.send(audio(SOUND, 100 + VIDEO_GONE_MS), video(INTER_FRAME, 20_000))
    publisher.send(video(KEYFRAME, 20_001), video(INTER_FRAME, 20_002))
    assert [payload for payload, _ in player.client.take_media()] == [
        VIDEO_HEADER,
        SOUND,
        KEYFRAME,
        INTER_FRAME,
    ]


def test_a_second_publisher_gets_bad_name_and_the_first_continues(meet: Meet) -> None:
    first, player, second = meet(), meet(), meet()
    first.start("publish")
    player.start("play")
    second.start("publish")
    assert second.client.take_said()[-1] == "NetStream.Publish.BadName"
    player.client.take_messages()
    second.send(video(KEYFRAME, 1))
    second.server.end()
    first.send(video(KEYFRAME, 2))
    assert player.client.take_media() == [(KEYFRAME, 2)]


def test_a_second_publisher_takes_over_if_replacement_is_enabled(
    meet: Meet, streams: StreamTable
) -> None:
    streams.replaces = True
    first, player, second = meet(), meet(), meet()
    first.start("publish")
    player.start("play")
    player.client.take_messages()
    first.client.take_said()
    second.start("publish")
    assert first.client.take_said()[-1] == "NetStream.Publish.BadName"
    assert second.client.take_said()[-1] == "NetStream.Publish.Start"
    player.client.take_messages()
    first.send(video(KEYFRAME, 1))
    first.server.end()
    second.send(video(KEYFRAME, 2))
    assert player.client.take_media() == [(KEYFRAME, 2)]


END_OF_STREAM = [
    "NetStream.Play.UnpublishNotify",
    "NetStream.Play.Stop",
]


@pytest.mark.parametrize(
    "leave",
    [
        lambda publisher: publisher.say("deleteStream", 1.0),
        lambda publisher: publisher.say("closeStream", stream=1),
        lambda publisher: publisher.say("FCUnpublish", "name"),
        lambda publisher: publisher.server.end(),
    ],
    ids=["deleteStream", "closeStream", "FCUnpublish", "lost"],
)
def test_players_are_notified_once_when_publishing_ends(
    meet: Meet, leave: Callable[[Conversation], None]
) -> None:
    player, publisher = meet().start("play"), meet().start("publish")
    player.client.take_messages()
    leave(publisher)
    publisher.server.end()
    messages = player.client.messages
    assert user_control(UserControl.STREAM_EOF, 1) in messages
    assert player.client.take_said() == END_OF_STREAM


def test_a_player_stays_for_the_next_publisher(meet: Meet) -> None:
    player, publisher = meet().start("play"), meet().start("publish")
    publisher.send(video(VIDEO_HEADER), video(KEYFRAME))
    publisher.server.end()
    player.client.take_messages()
    again = meet().start("publish")
    again.send(video(INTER_FRAME, 1), video(KEYFRAME, 2))
    assert player.client.take_media() == [(KEYFRAME, 2)]


def test_a_paused_player_gets_no_media_and_resumes_at_a_keyframe(meet: Meet) -> None:
    player, publisher = meet().start("play"), meet().start("publish")
    player.say("pause", True, 0.0, stream=1)
    player.client.take_messages()
    publisher.send(video(VIDEO_HEADER), video(KEYFRAME, 1))
    player.say("pause", False, 0.0, stream=1)
    publisher.send(video(INTER_FRAME, 2), video(KEYFRAME, 3))
    assert player.client.take_media() == [(VIDEO_HEADER, 3), (KEYFRAME, 3)]


@pytest.mark.parametrize(
    ("app", "name"), [("live", "name?key=1"), ("live/", "name"), ("live?k=1", "/name")]
)
def test_a_stream_is_identified_by_its_path_without_the_query(
    meet: Meet, app: str, name: str
) -> None:
    player = meet().start("play")
    meet().start("publish", name, app).send(video(KEYFRAME, 7))
    assert player.client.take_media() == [(KEYFRAME, 7)]


def test_one_connection_can_publish_and_play(meet: Meet) -> None:
    talk = meet().start("publish")
    talk.say("createStream")
    talk.say("play", "name", stream=2)
    talk.client.take_messages()
    talk.send(video(KEYFRAME, 7))
    (message,) = talk.client.take_messages()
    assert message == Message(MessageType.VIDEO, KEYFRAME, 2, 7)


def test_a_stream_is_removed_when_its_publisher_and_players_have_left(
    meet: Meet, streams: StreamTable
) -> None:
    player, publisher = meet().start("play"), meet().start("publish")
    assert len(streams) == 1
    publisher.server.end()
    assert len(streams) == 1
    player.server.end()
    assert len(streams) == 0


def test_a_ping_is_answered_with_its_time(meet: Meet) -> None:
    talk = meet()
    talk.send(user_control(UserControl.PING_REQUEST, 99))
    assert talk.client.messages == [user_control(UserControl.PING_RESPONSE, 99)]


def test_received_bytes_are_acknowledged(meet: Meet) -> None:
    talk = meet().start("publish")
    talk.client.take_messages()
    talk.send(video(KEYFRAME + bytes(WINDOW_BYTES)))
    (message,) = talk.client.take_messages()
    assert message.type == MessageType.ACKNOWLEDGEMENT
    assert int.from_bytes(message.payload, "big") > WINDOW_BYTES


def test_a_slow_players_queue_is_bounded_and_the_player_resumes_at_a_keyframe(meet: Meet) -> None:
    player, publisher = meet().start("play"), meet().start("publish")
    publisher.send(video(VIDEO_HEADER), video(KEYFRAME))
    player.client.take_messages()
    player.server.hold()
    large = INTER_FRAME + bytes(100_000)
    for timestamp in range(1, 41):
        publisher.send(video(large, timestamp))
    publisher.send(video(KEYFRAME + bytes(100_000), 41))
    assert player.client.messages == []
    player.server.release()
    queued = player.client.take_media()
    assert len(queued) == QUEUE_BYTES // (len(large) + MESSAGE_BYTES)
    assert queued == [(large, timestamp) for timestamp in range(1, len(queued) + 1)]
    publisher.send(video(INTER_FRAME, 42), video(KEYFRAME, 43), video(INTER_FRAME, 44))
    assert player.client.take_media() == [(VIDEO_HEADER, 43), (KEYFRAME, 43), (INTER_FRAME, 44)]


def test_a_queue_of_empty_messages_is_bounded_too(meet: Meet) -> None:
    player, publisher = meet().start("play"), meet().start("publish")
    player.client.take_messages()
    player.server.hold()
    publisher.send(*[audio(b"", 1)] * (QUEUE_BYTES // MESSAGE_BYTES + 10))
    player.server.release()
    assert len(player.client.take_messages()) == QUEUE_BYTES // MESSAGE_BYTES


def test_a_slow_player_does_not_delay_others(meet: Meet) -> None:
    slow, quick, publisher = meet().start("play"), meet().start("play"), meet().start("publish")
    slow.server.hold()
    quick.client.take_messages()
    publisher.send(video(KEYFRAME, 1), video(INTER_FRAME, 2))
    assert quick.client.take_media() == [(KEYFRAME, 1), (INTER_FRAME, 2)]


def test_a_queue_is_written_only_while_the_transport_accepts_data(meet: Meet) -> None:
    player, publisher = meet().start("play"), meet().start("publish")
    player.client.take_messages()
    player.server.hold()
    publisher.send(*(audio(SOUND, timestamp) for timestamp in range(5)))
    player.hold_after = 2
    player.server.release()
    assert player.client.take_media() == [(SOUND, 0), (SOUND, 1)]
    player.server.release()
    assert player.client.take_media() == [(SOUND, 2), (SOUND, 3), (SOUND, 4)]


def test_a_connection_that_does_not_read_its_notices_is_closed(meet: Meet) -> None:
    talk = meet()
    talk.server.receive(talk.client.connect(), talk.now)
    talk.server.hold()
    for _ in range(QUEUE_NOTICES):
        talk.now += 0.05
        talk.say("_checkbw")
    assert not talk.closed
    talk.say("_checkbw")
    assert talk.closed


def connect_twice(talk: Conversation) -> None:
    talk.start("play")
    talk.server.receive(talk.client.connect(), talk.now)


def publish_without_a_stream(talk: Conversation) -> None:
    talk.start("play")
    talk.say("publish", "x", stream=9)


def play_a_path_without_end(talk: Conversation) -> None:
    talk.start("play", "x" * 2000)


def create_streams_without_end(talk: Conversation) -> None:
    talk.start("play")
    for _ in range(NET_STREAMS):
        talk.say("createStream")


def publish_headers_without_end(talk: Conversation) -> None:
    talk.start("publish")
    talk.send(*(video(b"\x96\x00av01" + bytes([track])) for track in range(KEPT_HEADERS + 1)))


MALFORMED: dict[str, Callable[[Conversation], None]] = {
    "a command before connect": lambda talk: talk.say("createStream"),
    "half a command": lambda talk: talk.send(Message(MessageType.COMMAND, b"\x02\x00\x07conn")),
    "a second connect": connect_twice,
    "publish without a stream": publish_without_a_stream,
    "a path without end": play_a_path_without_end,
    "streams without end": create_streams_without_end,
    "headers without end": publish_headers_without_end,
}


@pytest.mark.parametrize("say", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_or_excessive_input_ends_the_connection(
    meet: Meet, streams: StreamTable, say: Callable[[Conversation], None]
) -> None:
    talk = meet()
    with pytest.raises(RTMPError):
        say(talk)
    talk.server.end()
    assert len(streams) == 0


def test_the_number_of_streams_is_bounded() -> None:
    streams = StreamTable(limit=2)
    Conversation(streams).start("publish", "1")
    Conversation(streams).start("play", "2")
    with pytest.raises(RTMPError, match="streams"):
        Conversation(streams).start("publish", "3")
    assert len(streams) == 2
