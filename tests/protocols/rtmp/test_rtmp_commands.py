from __future__ import annotations

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.commands import (
    COMMAND_BYTES,
    Command,
    read_command,
    read_connect,
    stream_name,
    stream_number,
)
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    read_figure,
    read_ping_request,
    user_control,
)

# As FFmpeg 5.1 sends it, shortened.
CONNECT = (
    b"\x02\x00\x07connect\x00\x3f\xf0\x00\x00\x00\x00\x00\x00\x03"
    b"\x00\x03app\x02\x00\x04live\x00\x04type\x02\x00\x0anonprivate"
    b"\x00\x08flashVer\x02\x00\x0dFMLE/3.0 test\x00\x05tcUrl\x02\x00\x10rtmp://host/live\x00\x00\x09"
)


def test_the_parameters_of_a_connect_command_are_read() -> None:
    command = read_command(Message(MessageType.COMMAND, CONNECT))
    assert command is not None
    assert (command.name, command.transaction) == ("connect", 1.0)
    request = read_connect(command)
    assert (request.app, request.tc_url) == ("live", "rtmp://host/live")
    assert request.flash_version == "FMLE/3.0 test"
    assert request.object_encoding == 0.0
    assert not request.enhanced


def test_a_command_of_flash_with_object_encoding_3_begins_with_a_zero_byte() -> None:
    plain = read_command(Message(MessageType.COMMAND, CONNECT))
    assert read_command(Message(MessageType.COMMAND_AMF3, b"\x00" + CONNECT)) == plain


def test_a_command_of_type_17_in_another_format_is_refused() -> None:
    for payload in (b"", b"\x03" + CONNECT, CONNECT):
        with pytest.raises(RTMPError, match="unknown format"):
            read_command(Message(MessageType.COMMAND_AMF3, payload))


# A dynamic object with the string "app", and after it two references to strings: "live" and "app".
AMF3_OBJECT = b"\x11\x0a\x0b\x01\x07app\x06\x09live\x0btcUrl\x06\x21rtmp://host/live\x01"
AMF3_LIVE, AMF3_APP = b"\x11\x06\x02", b"\x11\x06\x00"


def test_a_connect_whose_object_is_amf3_is_read() -> None:
    start = b"\x00\x02\x00\x07connect\x00\x3f\xf0\x00\x00\x00\x00\x00\x00"
    payload = start + AMF3_OBJECT + AMF3_APP
    command = read_command(Message(MessageType.COMMAND_AMF3, payload))
    assert command is not None
    request = read_connect(command)
    assert (request.app, request.tc_url) == ("live", "rtmp://host/live")
    assert command.arguments == ("app",)


@pytest.mark.parametrize("name", ["publish", "play"])
def test_a_stream_name_that_is_amf3_is_read(name: str) -> None:
    payload = b"\x00" + amf0.encode(name, 0.0, None) + b"\x11\x06\x09news" + b"\x11\x06\x00"
    command = read_command(Message(MessageType.COMMAND_AMF3, payload, 1))
    assert command is not None
    assert (command.name, stream_name(command)) == (name, "news")
    assert command.arguments == ("news", "news")


def test_a_transaction_and_a_stream_id_that_are_amf3_integers_are_read() -> None:
    payload = (
        b"\x00" + amf0.encode("deleteStream") + b"\x11\x04\x05" + b"\x05" + b"\x11\x04\x81\x00"
    )
    command = read_command(Message(MessageType.COMMAND_AMF3, payload))
    assert command is not None
    assert command.transaction == 5.0
    assert stream_number(command.argument(0)) == 128


def test_a_written_command_is_read_back_unchanged() -> None:
    command = Command("play", 4.0, None, ("name", -2000.0), 1)
    assert read_command(command.message()) == command
    assert stream_name(command) == "name"


def test_messages_of_other_types_are_not_read_as_commands() -> None:
    assert read_command(Message(MessageType.AUDIO, CONNECT)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        amf0.encode("play"),
        amf0.encode("play", "1"),
        amf0.encode(1.0, 1.0),
        b"\x02\x00\x09cut",
        amf0.encode("play", 1.0, "x" * COMMAND_BYTES),
    ],
)
def test_a_malformed_command_raises_an_error(payload: bytes) -> None:
    with pytest.raises(RTMPError):
        read_command(Message(MessageType.COMMAND, payload))


def test_missing_and_wrongly_typed_values_of_a_connect_are_read_as_empty() -> None:
    request = read_connect(Command("connect", 1.0, {"app": 5.0}))
    assert (request.app, request.tc_url, request.flash_version) == ("", "", "")
    assert read_connect(Command("connect", 1.0, None)) == request


@pytest.mark.parametrize(
    ("value", "number"),
    [(1.0, 1), (0.0, 0), (-1.0, 0), (float("nan"), 0), (float("inf"), 0), (1e12, 0), ("1", 0)],
)
def test_an_invalid_stream_id_is_read_as_0(value: Value, number: int) -> None:
    assert stream_number(value) == number


def test_a_ping_request_is_distinguished_from_other_events() -> None:
    assert read_ping_request(user_control(UserControl.PING_REQUEST, 77)) == 77
    assert read_ping_request(user_control(UserControl.STREAM_BEGIN, 77)) is None
    assert read_ping_request(Message(MessageType.USER_CONTROL, b"\x00\x06\x00")) is None


def test_a_truncated_number_in_a_control_message_raises_an_error() -> None:
    with pytest.raises(RTMPError, match="cut short"):
        read_figure(Message(MessageType.SET_CHUNK_SIZE, b"\x00\x00\x10"))
