from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp.handshake import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    ServerHandshake,
)
from gateway.protocols.rtmp.handshake import (
    RANDOM_BYTES as PLAIN_RANDOM_BYTES,
)
from gateway.protocols.rtmp.termination import RANDOM_BYTES, RTMPETermination
from tests.helpers.rtmpe_client import RTMPEClient

RANDOM = Random(1).randbytes(RANDOM_BYTES)
STEPS = pytest.mark.parametrize("step", [1 << 20, 1536, 1])


def pieces(whole: bytes, step: int) -> list[bytes]:
    return [whole[at : at + step] for at in range(0, len(whole), step)]


class Conversation:
    """An RTMPE client and a plain server, and a termination between them. Pieces have ``step`` bytes."""

    def __init__(self, step: int, version: int = 6) -> None:
        self.termination = RTMPETermination(7, RANDOM)
        self.client = RTMPEClient(version=version)
        self.server = ServerHandshake(1000, bytes(PLAIN_RANDOM_BYTES))
        self._step = step
        # What has arrived at the server, and at the client.
        self.up = self.down = b""

    def send_up(self, data: bytes) -> None:
        for piece in pieces(data, self._step):
            self.up += self.termination.up(piece)

    def send_down(self, data: bytes) -> None:
        for piece in pieces(data, self._step):
            down, up = self.termination.down(piece)
            self.down += down
            self.up += up

    def shake_hands(self, after: bytes = b"") -> None:
        """``after``: what the server sends directly behind S2."""
        self.send_up(self.client.hello)
        self.send_down(self.server.receive(self.up) + after)
        self.send_up(self.client.answer(self.down[:HANDSHAKE_BYTES]))


@STEPS
@pytest.mark.parametrize("version", [6, 8])
def test_both_sides_have_a_handshake_of_their_own(step: int, version: int) -> None:
    talk = Conversation(step, version)
    talk.send_up(talk.client.hello)
    assert len(talk.up) == 1 + BLOCK_BYTES
    assert talk.up[:9] == b"\x03" + b"\0\0\0\x07" + bytes(4)
    talk.send_down(talk.server.receive(talk.up))
    # C2 is a copy of S1.
    assert talk.up[1 + BLOCK_BYTES :] == b"\0\0\x03\xe8" + bytes(4 + PLAIN_RANDOM_BYTES)
    assert len(talk.down) == HANDSHAKE_BYTES
    assert not talk.termination.is_complete
    talk.send_up(talk.client.answer(talk.down))
    assert talk.termination.is_complete
    assert len(talk.up) == HANDSHAKE_BYTES


@STEPS
def test_data_is_decrypted_for_the_server_and_encrypted_for_the_client(step: int) -> None:
    talk = Conversation(step)
    talk.shake_hands()
    talk.up = talk.down = b""
    for number in range(3):
        talk.send_up(talk.client.encrypt(b"up%d" % number * 100))
        talk.send_down(b"down%d" % number * 100)
    assert talk.up == b"up0" * 100 + b"up1" * 100 + b"up2" * 100
    assert talk.client.decrypt(talk.down) == b"down0" * 100 + b"down1" * 100 + b"down2" * 100


@STEPS
def test_data_directly_behind_the_handshake_is_passed_on(step: int) -> None:
    talk = Conversation(step)
    talk.shake_hands(after=b"window")
    assert talk.client.decrypt(talk.down[HANDSHAKE_BYTES:]) == b"window"
    talk = Conversation(step)
    talk.send_up(talk.client.hello)
    talk.send_down(talk.server.receive(talk.up))
    c2 = talk.client.answer(talk.down)
    talk.send_up(c2 + talk.client.encrypt(b"connect"))
    assert talk.up[HANDSHAKE_BYTES:] == b"connect"


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), max_size=10))
def test_no_byte_is_lost_doubled_or_reordered(sent: list[tuple[bool, bytes]]) -> None:
    talk = Conversation(1 << 20)
    talk.shake_hands()
    talk.up = talk.down = b""
    for is_up, data in sent:
        if is_up:
            talk.send_up(talk.client.encrypt(data))
        else:
            talk.send_down(data)
    assert talk.up == b"".join(data for is_up, data in sent if is_up)
    assert talk.client.decrypt(talk.down) == b"".join(data for is_up, data in sent if not is_up)


@pytest.mark.parametrize("step", [1 << 20, 1])
@pytest.mark.parametrize("first", [b"\x03", b"\x00", b"\x09", b"GET"])
def test_a_client_that_does_not_use_rtmpe_passes_unchanged(step: int, first: bytes) -> None:
    termination = RTMPETermination(7, RANDOM)
    # Found by fuzzing: later pieces were repeated with all before them.
    for piece in pieces(first + b"rest", step):
        assert termination.up(piece) == piece
        assert termination.is_plain


def test_without_a_byte_of_the_client_nothing_is_decided() -> None:
    termination = RTMPETermination(7, RANDOM)
    assert termination.up(b"") == b""
    assert not termination.is_plain
    assert termination.down(b"greeting") == (b"greeting", b"")


def test_a_silent_server_leaves_the_client_without_an_answer() -> None:
    talk = Conversation(1 << 20)
    talk.send_up(talk.client.hello)
    assert talk.down == b""
    assert not talk.termination.is_complete


@pytest.mark.parametrize("early", [b"x", bytes(BLOCK_BYTES), bytes(100_000)])
def test_data_before_the_answer_is_refused_since_no_key_exists_yet(early: bytes) -> None:
    talk = Conversation(1 << 20)
    with pytest.raises(RTMPError, match="before S1"):
        talk.send_up(talk.client.hello + early)
    talk = Conversation(1 << 20)
    talk.send_up(talk.client.hello)
    with pytest.raises(RTMPError, match="before S1"):
        talk.send_up(early)


def test_a_hello_without_digest_is_refused() -> None:
    with pytest.raises(RTMPError, match="digest"):
        RTMPETermination(7, RANDOM).up(b"\x06" + bytes(BLOCK_BYTES))


def test_a_server_that_answers_another_protocol_is_refused() -> None:
    talk = Conversation(1 << 20)
    talk.send_up(talk.client.hello)
    with pytest.raises(RTMPError, match="version"):
        talk.send_down(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@given(st.binary(max_size=100), st.integers(0, 1536), st.integers(1, 255))
def test_damaged_handshakes_are_answered_or_refused(junk: bytes, at: int, change: int) -> None:
    hello = bytearray(RTMPEClient().hello)
    hello[at] ^= change
    for data in (bytes(hello), b"\x06" + junk, b"\x08" + junk * 40):
        with suppress(RTMPError):
            RTMPETermination(7, RANDOM).up(data)
