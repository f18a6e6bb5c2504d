"""RTMPE toward a server, for a session that speaks plain RTMP."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp.handshake import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    ClientHandshake,
)
from gateway.protocols.rtmp.handshake import (
    RANDOM_BYTES as PLAIN_RANDOM_BYTES,
)
from gateway.protocols.rtmp.initiation import RANDOM_BYTES, RTMPEInitiation
from tests.helpers.flash_player import FlashPlayer
from tests.helpers.rtmpe_client import RTMPEServer

RANDOM = Random(1).randbytes(RANDOM_BYTES)
STEPS = pytest.mark.parametrize("step", [1 << 20, 1536, 1])


def pieces(whole: bytes, step: int) -> list[bytes]:
    return [whole[at : at + step] for at in range(0, len(whole), step)]


class Conversation:
    """A plain client and an RTMPE server, and an initiation between them. Pieces have ``step`` bytes."""

    def __init__(self, step: int = 1 << 20, version: int = 6) -> None:
        self.rtmpe = RTMPEInitiation(7, RANDOM)
        self.server = RTMPEServer(version=version)
        self.client = ClientHandshake(1000, bytes(PLAIN_RANDOM_BYTES))
        self._step = step
        # What has arrived at the server, and at the client.
        self.up = self.down = b""

    def send_up(self, data: bytes) -> None:
        for piece in pieces(data, self._step):
            up, down = self.rtmpe.up(piece)
            self.up += up
            self.down += down

    def send_down(self, data: bytes) -> None:
        for piece in pieces(data, self._step):
            if self.rtmpe.is_ready:
                self.down += self.rtmpe.down(piece)
            else:
                self.up += self.rtmpe.shake_hands(piece)

    def shake_hands(self, after: bytes = b"") -> None:
        """Both handshakes; ``after``: what the server sends directly behind S2."""
        self.send_down(self.server.answer(self.rtmpe.hello) + self.server.encrypt(after))
        self.up = b""
        self.send_up(self.client.hello)
        self.send_up(self.client.receive(self.down))


@STEPS
@pytest.mark.parametrize("version", [6, 8])
def test_both_sides_have_a_handshake_of_their_own(step: int, version: int) -> None:
    talk = Conversation(step, version)
    talk.send_down(talk.server.answer(talk.rtmpe.hello))
    assert talk.rtmpe.is_ready
    assert talk.down == b""
    assert len(talk.up) == BLOCK_BYTES
    assert talk.server.accepts(talk.up) == (version == 6)
    talk.up = b""
    talk.send_up(talk.client.hello)
    # S2 is a copy of C1.
    assert len(talk.down) == HANDSHAKE_BYTES
    assert talk.down[0] == 3
    assert talk.down[1 + BLOCK_BYTES :] == talk.client.hello[1:]
    talk.send_up(talk.client.receive(talk.down))
    assert talk.client.done
    # C2 is the gateway's.
    assert talk.up == b""


@STEPS
def test_data_is_encrypted_for_the_server_and_decrypted_for_the_session(step: int) -> None:
    talk = Conversation(step)
    talk.shake_hands()
    talk.up = talk.down = b""
    for number in range(3):
        talk.send_up(b"up %d " % number)
        talk.send_down(talk.server.encrypt(b"down %d " % number))
    assert talk.server.decrypt(talk.up) == b"up 0 up 1 up 2 "
    assert talk.down == b"down 0 down 1 down 2 "


@STEPS
def test_what_comes_with_a_handshake_is_passed_on_behind_it(step: int) -> None:
    talk = Conversation(step)
    talk.send_down(talk.server.answer(talk.rtmpe.hello) + talk.server.encrypt(b"early "))
    talk.up = b""
    talk.send_down(talk.server.encrypt(b"and later"))
    assert talk.down == b""
    talk.send_up(talk.client.hello + bytes(BLOCK_BYTES) + b"connect")
    assert talk.down[HANDSHAKE_BYTES:] == b"early and later"
    assert talk.server.decrypt(talk.up) == b"connect"


def test_a_player_with_a_digest_gets_one() -> None:
    talk = Conversation()
    talk.send_down(talk.server.answer(talk.rtmpe.hello))
    player = FlashPlayer()
    talk.send_up(player.hello)
    talk.send_up(player.finish(talk.down))
    talk.up = b""
    talk.send_up(b"connect")
    assert talk.server.decrypt(talk.up) == b"connect"


def test_what_a_server_sends_before_the_sessions_handshake_is_bounded() -> None:
    talk = Conversation()
    talk.send_down(talk.server.answer(talk.rtmpe.hello))
    with pytest.raises(RTMPError, match="too much"):
        talk.send_down(bytes(4097))
    talk = Conversation()
    with pytest.raises(RTMPError, match="too much"):
        talk.send_down(talk.server.answer(talk.rtmpe.hello) + bytes(4097))
    assert not talk.rtmpe.is_ready


def test_a_session_that_does_not_begin_as_plain_rtmp_is_refused() -> None:
    talk = Conversation()
    talk.send_down(talk.server.answer(talk.rtmpe.hello))
    with pytest.raises(RTMPError, match="version 9"):
        talk.send_up(b"\x09")


@given(st.binary(max_size=4000), st.integers(0, 3073), st.integers(1, 4000))
def test_any_answer_of_a_server_is_a_handshake_or_an_error(junk: bytes, at: int, step: int) -> None:
    talk = Conversation(step)
    data = talk.server.answer(talk.rtmpe.hello)
    try:
        talk.send_down(data[:at] + junk + data[at:])
    except RTMPError:
        assert not talk.rtmpe.is_ready or talk.down == b""
