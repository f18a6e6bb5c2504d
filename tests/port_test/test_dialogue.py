"""The tester's side of RTMP, against the embedded origin in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.port_test.dialogue import Dialogue
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import Command
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, RANDOM_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType, UserControl, user_control
from tests.port_test.servers import rtmp_in_memory


class Origin:
    """A dialogue with the embedded origin; the origin's bytes arrive in pieces of ``piece_bytes``."""

    def __init__(self, piece_bytes: int = 65536) -> None:
        self.dialogue = Dialogue(bytes(RANDOM_BYTES))
        self._server, self._answers = rtmp_in_memory()
        self._piece_bytes = piece_bytes
        self.send(self.dialogue.hello)

    def send(self, data: bytes) -> None:
        """Send ``data``, and all that its answers cause."""
        while data:
            self._server.receive(data, 0.0)
            answer, data = self._answers.take(), b""
            for at in range(0, len(answer), self._piece_bytes):
                data += self.dialogue.receive(answer[at : at + self._piece_bytes])


@given(st.integers(min_value=1, max_value=4000))
def test_handshake_connect_play_and_ping_by_pieces_of_any_size(piece_bytes: int) -> None:
    origin = Origin(piece_bytes)
    dialogue = origin.dialogue
    assert dialogue.shaken
    assert not dialogue.accepted
    origin.send(dialogue.connect("live", "rtmp://host/live"))
    assert dialogue.accepted
    origin.send(dialogue.ping(7))
    assert dialogue.pongs == {7}
    origin.send(dialogue.play("stream"))
    assert dialogue.stream_code == "NetStream.Play.Start"
    assert dialogue.media == 0


class Served:
    """A dialogue after the handshake, with a server played by the test."""

    def __init__(self) -> None:
        self.dialogue = Dialogue(bytes(RANDOM_BYTES))
        self._writer = ChunkWriter()
        self.dialogue.receive(b"\x03" + bytes(2 * BLOCK_BYTES))

    def says(self, message: Message) -> bytes:
        return self.dialogue.receive(self._writer.write(message))

    def answers(self, name: str, transaction: float, *arguments: Value) -> bytes:
        return self.says(Command(name, transaction, None, arguments).message())


def test_a_rejection_has_its_code_and_text_in_one_line() -> None:
    served = Served()
    words: Value = {"code": "NetConnection.Connect.Rejected", "description": "no\nsuch\x1b app"}
    served.answers("_error", 1.0, words)
    assert not served.dialogue.accepted
    assert served.dialogue.code == "NetConnection.Connect.Rejected"
    assert served.dialogue.description == "no such  app"


def test_a_rejection_without_a_code_is_one_too() -> None:
    served = Served()
    served.answers("_error", 1.0)
    assert served.dialogue.code == "_error"
    assert not served.dialogue.accepted


def test_a_play_begins_with_the_number_of_the_created_stream() -> None:
    served = Served()
    served.dialogue.play("name")
    assert b"play" in served.answers("_result", 2.0, 5.0)
    assert served.answers("_result", 2.0, 6.0) == b""


def test_a_stream_that_cannot_be_created_is_the_end_of_the_play() -> None:
    served = Served()
    served.dialogue.play("name")
    assert served.answers("_error", 2.0, {"code": "NetConnection.Call.Failed"}) == b""
    assert served.dialogue.stream_code == "NetConnection.Call.Failed"


@pytest.mark.parametrize("code", ["NetStream.Play.StreamNotFound", "NetStream.Play.Start"])
def test_the_first_final_status_is_the_answer_to_play(code: str) -> None:
    served = Served()
    for each in ("NetStream.Play.Reset", code, "NetStream.Play.Stop"):
        served.answers("onStatus", 0.0, {"code": each})
    assert served.dialogue.stream_code == code


def test_pings_of_the_server_are_answered() -> None:
    answer = Served().says(user_control(UserControl.PING_REQUEST, 99))
    assert (99).to_bytes(4, "big") in answer


def test_only_answers_to_pings_are_kept() -> None:
    served = Served()
    served.dialogue.ping(7)
    for time in (6, 7, 7, 8):
        served.says(user_control(UserControl.PING_RESPONSE, time))
    assert served.dialogue.pongs == {7}


def test_media_is_counted_with_its_last_time() -> None:
    served = Served()
    for time in (1000, 1040):
        served.says(Message(MessageType.VIDEO, b"\x17", 1, time))
    assert (served.dialogue.media, served.dialogue.media_ms) == (2, 1040)


def test_another_protocol_is_refused() -> None:
    with pytest.raises(RTMPError):
        Dialogue(bytes(RANDOM_BYTES)).receive(b"HTTP/1.1 400 Bad Request\r\n")
