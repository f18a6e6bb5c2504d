"""The gate on connect, publish and play: what it asks, passes and answers, and what is an error."""

from __future__ import annotations

import pytest

from gateway.errors import RTMPError
from gateway.protocols.access import AccessRequest, Action
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.access_gate import AccessGate
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType, set_chunk_size

HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)
CONNECT = {
    "app": "live/?a=b",
    "flashVer": "FMLE/3.0",
    "tcUrl": "rtmp://h/live",
    "pageUrl": "http://p/",
    "swfUrl": "http://s/",
}


def message(*values: amf0.Value, stream_id: int = 0) -> Message:
    return Message(MessageType.COMMAND, amf0.encode(*values), stream_id)


CONNECTING = message("connect", 1, CONNECT)
CREATING = message("createStream", 2, None)
PUBLISHING = message("publish", 3, None, "cam?key=x", "live", stream_id=1)
PLAYING = message("play", 3, None, "cam", stream_id=1)


class Conversation:
    """A client at a gate: ``passed`` is what the server got of its messages."""

    def __init__(self) -> None:
        self.gate = AccessGate()
        self._writer = ChunkWriter()
        self.passed = self.gate.up(HANDSHAKE, 0.0)
        assert self.passed == HANDSHAKE

    def send(self, *messages: Message) -> AccessRequest | None:
        """Send them together. Returns the request that waits then."""
        data = b"".join(map(self._writer.write, messages))
        self.passed += self.gate.up(data, 0.0)
        return self.gate.request

    def allow(self, stream: str = "") -> AccessRequest | None:
        self.passed += self.gate.allow(stream)
        return self.gate.request

    def received(self) -> list[Command]:
        """The commands that the server got."""
        messages = ChunkReader().feed(self.passed[HANDSHAKE_BYTES:])
        return [command for each in messages if (command := read_command(each))]


def connected(*down: Message) -> Conversation:
    """A client whose connect was allowed; the server has sent ``down``."""
    conversation = Conversation()
    conversation.send(CONNECTING)
    conversation.gate.down(HANDSHAKE)
    conversation.gate.down(b"".join(map(ChunkWriter().write, down)))
    conversation.allow()
    return conversation


def test_a_connect_is_asked_with_what_the_client_has_said() -> None:
    assert Conversation().send(CONNECTING) == AccessRequest(
        Action.CONNECT,
        "live",
        tc_url="rtmp://h/live",
        page_url="http://p/",
        swf_url="http://s/",
        flash_version="FMLE/3.0",
    )


@pytest.mark.parametrize(
    ("app", "expected"),
    [("live", "live"), ("live/", "live"), ("live/_definst_", "live"), ("a/b", "a/b"), ("", "")],
)
def test_the_application_is_the_one_that_servers_understand(app: str, expected: str) -> None:
    request = Conversation().send(message("connect", 1, {"app": app}))
    assert request is not None
    assert request.application == expected


@pytest.mark.parametrize(("last", "action"), [(PUBLISHING, Action.PUBLISH), (PLAYING, Action.PLAY)])
def test_publish_and_play_wait_and_other_commands_pass(last: Message, action: Action) -> None:
    conversation = connected()
    request = conversation.send(CREATING, last)
    assert request is not None
    assert (request.action, request.application, request.name) == (action, "live", "cam")
    assert [each.name for each in conversation.received()] == ["connect", "createStream"]
    assert conversation.allow() is None
    assert conversation.received()[-1] == read_command(last)


def test_a_request_is_asked_once_however_many_bytes_follow_it() -> None:
    conversation = Conversation()
    first = conversation.send(CONNECTING)
    assert conversation.send(CREATING) is first
    assert conversation.received() == []
    assert conversation.allow() is None
    assert len(conversation.received()) == 2


def test_commands_sent_together_wait_for_each_other() -> None:
    conversation = Conversation()
    conversation.send(CONNECTING, CREATING, PUBLISHING, PLAYING)
    waiting = [conversation.gate.request, conversation.allow(), conversation.allow()]
    assert [each.action for each in waiting if each] == [
        *(Action.CONNECT, Action.PUBLISH, Action.PLAY)
    ]
    assert len(conversation.received()) == 3


@pytest.mark.parametrize("name", ["publish", "PUBLISH", "Publish"])
def test_case_does_not_hide_a_command(name: str) -> None:
    request = connected().send(message(name, 3, None, "cam", stream_id=1))
    assert request is not None
    assert request.action is Action.PUBLISH


def test_play2_is_asked_for_the_stream_of_its_object() -> None:
    request = connected().send(
        message("play2", 3, None, {"streamName": "cam", "oldStreamName": "x"})
    )
    assert request is not None
    assert (request.action, request.stream) == (Action.PLAY, "cam")


def test_the_end_of_a_play_is_not_asked() -> None:
    assert connected().send(message("play", 3, None, False)) is None


def test_commands_of_amf3_clients_are_asked() -> None:
    later = Message(MessageType.COMMAND_AMF3, b"\0" + PUBLISHING.payload, 1)
    conversation = connected()
    request = conversation.send(later)
    assert request is not None
    assert request.name == "cam"
    conversation.allow("other")
    command = conversation.received()[-1]
    assert (command.name, command.argument(0), command.stream_id) == ("publish", "other", 1)


def test_a_renamed_stream_keeps_the_other_arguments() -> None:
    conversation = connected()
    conversation.send(PUBLISHING)
    conversation.allow("other?a=b")
    assert conversation.received()[-1] == Command(
        "publish", 3.0, None, ("other?a=b", "live"), stream_id=1
    )


def send_all(messages: list[Message]) -> None:
    """Send the messages of a client for whom everything is allowed."""
    conversation = Conversation()
    for each in messages:
        conversation.send(each)
        while conversation.gate.request is not None:
            conversation.allow()


@pytest.mark.parametrize(
    ("messages", "cause"),
    [
        ([CREATING], "out of turn"),
        ([CONNECTING, CONNECTING], "out of turn"),
        ([CONNECTING, message("publish\0x", 1, None, "a")], "command name"),
        ([CONNECTING, message("publish", 1, None, 5)], "without a stream name"),
        ([CONNECTING, message("publish", 1, None, "a\0b")], "different ways"),
        ([CONNECTING, message("publish", 1, None, "a\n")], "different ways"),
        (
            [CONNECTING, message("releaseStream", 1, None, "a"), message("publish", 1, None, "b")],
            "another name",
        ),
        (
            [CONNECTING, message("FCPublish", 1, None, "a"), message("fcpublish", 1, None, "b")],
            "another name",
        ),
        ([message("connect", 1, {"tcUrl": "x"})], "without one application"),
        (
            [message("connect", 1, {"app": "open", "tcUrl": "rtmp://h/secret"})],
            "another application in its URL",
        ),
        ([message("connect", 1, {"app": "open", "tcUrl": "rtmp://h"})], "another application"),
        *(
            ([CONNECTING, Message(kind, prefix + amf0.encode(name, "cam"), 1)], "data with")
            for kind, prefix in ((MessageType.DATA, b""), (MessageType.DATA_AMF3, b"\0"))
            for name in ("publish", "PLAY", "connect", "releaseStream", "publish\0x", 5.0)
        ),
        ([CONNECTING, Message(MessageType.DATA_AMF3, amf0.encode("x"), 1)], "without a format"),
        ([message("connect", 1, None)], "without one application"),
        ([Message(MessageType.COMMAND, b"")], "without name"),
    ],
)
def test_what_servers_may_understand_differently_is_an_error(
    messages: list[Message], cause: str
) -> None:
    with pytest.raises(RTMPError, match=cause):
        send_all(messages)


def test_a_connect_with_two_urls_is_an_error() -> None:
    url = b"\0\5tcUrl" + amf0.encode("rtmp://h/live")
    app = b"\0\3app" + amf0.encode("live")
    payload = amf0.encode("connect", 1.0) + b"\x03" + app + url + url + b"\0\0\x09"
    with pytest.raises(RTMPError, match="another application"):
        Conversation().send(Message(MessageType.COMMAND, payload))


@pytest.mark.parametrize(
    "data",
    [
        Message(MessageType.DATA, amf0.encode("@setDataFrame", "onMetaData", {"width": 1.0}), 1),
        Message(MessageType.DATA_AMF3, b"\0" + amf0.encode("chat", "hello"), 1),
    ],
)
def test_data_passes_unchanged_and_unasked(data: Message) -> None:
    conversation = connected()
    assert conversation.send(data) is None
    messages = ChunkReader().feed(conversation.passed[HANDSHAKE_BYTES:])
    assert messages[-1] == data


def test_a_connect_with_two_applications_is_an_error() -> None:
    pair = b"\0\3app" + amf0.encode("live")
    payload = (
        amf0.encode("connect", 1.0) + b"\x03" + pair + pair.replace(b"live", b"evil") + b"\0\0\x09"
    )
    with pytest.raises(RTMPError, match="one application"):
        Conversation().send(Message(MessageType.COMMAND, payload))


def test_announcing_the_published_name_again_and_again_is_allowed() -> None:
    conversation = connected()
    for stream in ("a", "b"):
        announced = f"{stream}?key=other"
        assert conversation.send(message("releaseStream", 1, None, announced)) is None
        assert conversation.send(message("FCPublish", 1, None, stream)) is None
        assert conversation.send(message("publish", 1, None, f"{stream}?key=x", stream_id=1))
        assert conversation.allow() is None


def test_rtmpe_cannot_be_checked() -> None:
    with pytest.raises(RTMPError, match="handshake version 6"):
        AccessGate().up(b"\x06" + bytes(1536), 0.0)


@pytest.mark.parametrize("size", [1, 1000, 5000])
def test_the_handshake_passes_in_any_segmentation(size: int) -> None:
    gate, out = AccessGate(), b""
    data = HANDSHAKE + ChunkWriter().write(CONNECTING)
    for start in range(0, len(data), size):
        out += gate.up(data[start : start + size], 0.0)
    assert out == HANDSHAKE
    assert gate.request is not None
    assert out + gate.allow() == data


# Refusals


def refused(conversation: Conversation, chunk_size: int = 128) -> Command:
    answer = conversation.gate.refuse("not allowed to publish, because " + "x" * 200)
    reader = ChunkReader()
    reader.feed(ChunkWriter().write(set_chunk_size(chunk_size)))
    (message,) = reader.feed(answer)
    command = read_command(message)
    assert command is not None
    return command


@pytest.mark.parametrize("chunk_size", [128, 60_000])
def test_a_refused_connect_is_answered_with_its_transaction(chunk_size: int) -> None:
    conversation = Conversation()
    conversation.send(message("connect", 7, CONNECT))
    conversation.gate.down(HANDSHAKE + ChunkWriter().write(set_chunk_size(chunk_size)))
    command = refused(conversation, chunk_size)
    assert (command.name, command.transaction) == ("_error", 7.0)
    information = command.argument(0)
    assert isinstance(information, dict)
    assert information["code"] == "NetConnection.Connect.Rejected"
    assert str(information["description"]).startswith("not allowed to publish")


@pytest.mark.parametrize(
    ("last", "code"),
    [(PUBLISHING, "NetStream.Publish.BadName"), (PLAYING, "NetStream.Play.Failed")],
)
def test_a_refused_publish_or_play_is_answered_on_its_message_stream(last, code: str) -> None:
    conversation = connected(set_chunk_size(4096), message("_result", 1, None))
    conversation.send(last)
    command = refused(conversation, 4096)
    information = command.argument(0)
    assert (command.name, command.stream_id) == ("onStatus", 1)
    assert isinstance(information, dict)
    assert (information["level"], information["code"]) == ("error", code)


def test_no_answer_is_inserted_into_a_chunk() -> None:
    conversation = connected()
    conversation.gate.down(ChunkWriter().write(message("_result", 1, None))[:-1])
    conversation.send(PUBLISHING)
    assert conversation.gate.refuse("no") == b""


def test_no_answer_is_inserted_before_the_end_of_the_handshake() -> None:
    conversation = Conversation()
    conversation.send(CONNECTING)
    conversation.gate.down(HANDSHAKE[:-1])
    assert conversation.gate.refuse("no") == b""


def test_no_answer_is_inserted_into_media() -> None:
    conversation = connected()
    conversation.send(PLAYING)
    conversation.allow()
    conversation.gate.down(ChunkWriter().write(Message(MessageType.VIDEO, bytes(5000), 1)))
    conversation.send(PUBLISHING)
    assert conversation.gate.refuse("no") == b""


def test_a_server_that_sends_no_rtmp_gets_no_answer_inserted() -> None:
    conversation = connected()
    conversation.gate.down(b"\xff" * 100)
    conversation.send(PUBLISHING)
    assert conversation.gate.refuse("no") == b""
