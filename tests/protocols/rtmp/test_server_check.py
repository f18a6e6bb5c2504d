"""The client's side of a check of a server."""

from __future__ import annotations

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command, read_connect
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES, RANDOM_BYTES, ServerHandshake
from gateway.protocols.rtmp.messages import Message, MessageType
from gateway.protocols.rtmp.server_check import ServerCheck

_URL = "rtmp://media.example:1935"


def handshaken(check: ServerCheck) -> bytes:
    """Answer the handshake. Returns what the check sends then, behind its C2."""
    server = ServerHandshake(0, bytes(RANDOM_BYTES))
    sent = check.receive(server.receive(check.hello))
    server.receive(sent)
    assert server.done
    return server.rest


def answer(*messages: Message) -> bytes:
    writer = ChunkWriter()
    return b"".join(map(writer.write, messages))


def window() -> Message:
    return Message(MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE, (2_500_000).to_bytes(4, "big"))


def test_without_an_application_the_whole_handshake_is_enough_and_nothing_more_is_sent() -> None:
    check = ServerCheck("", _URL)
    assert check.awaited == "the handshake"
    assert check.receive(b"\x03" + bytes(HANDSHAKE_BYTES - 2)) == b""
    assert not check.done
    assert check.receive(b"\0") == b""
    assert check.done


def test_the_application_is_connected_to_after_the_handshake() -> None:
    check = ServerCheck("live", _URL)
    (message,) = ChunkReader().feed(handshaken(check))
    command = read_command(message)
    assert command is not None
    request = read_connect(command)
    assert (command.name, request.app, request.tc_url) == ("connect", "live", f"{_URL}/live")
    assert not check.done
    assert check.awaited == "the connect"


@pytest.mark.parametrize("size", [1, 4096])
def test_a_server_that_accepts_the_connect_passes(size: int) -> None:
    check = ServerCheck("live", _URL)
    handshaken(check)
    result = answer(window(), Command("_result", 1.0, None, ({"level": "status"},)).message())
    for at in range(0, len(result), size):
        assert not check.done
        assert check.receive(result[at : at + size]) == b""
    assert check.done


def test_a_server_that_refuses_the_connect_fails_with_its_description() -> None:
    check = ServerCheck("live", _URL)
    handshaken(check)
    refusal = {"level": "error", "code": "NetConnection.Connect.Rejected", "description": "no live"}
    with pytest.raises(RTMPError, match="refuses the application live: no live"):
        check.receive(answer(window(), Command("_error", 1.0, None, (refusal,)).message()))


def test_answers_to_other_commands_are_no_answer() -> None:
    check = ServerCheck("live", _URL)
    handshaken(check)
    check.receive(answer(Command("onBWDone", 0.0).message(), Command("_result", 2.0).message()))
    assert not check.done


def test_what_is_no_handshake_fails() -> None:
    with pytest.raises(RTMPError, match="not an RTMP handshake"):
        ServerCheck("live", _URL).receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
