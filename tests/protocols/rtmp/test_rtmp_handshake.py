from __future__ import annotations

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.handshake import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    RANDOM_BYTES,
    ClientHandshake,
    ServerHandshake,
)

RANDOM = bytes(index % 251 for index in range(RANDOM_BYTES))
S1 = b"\x00\x00\x03\xe8" + bytes(4) + RANDOM
C1 = b"\x00\x00\x00\x07" + b"\x80\x00\x07\x02" + RANDOM[::-1]
C2 = bytes(BLOCK_BYTES)
# The segmentations of a handshake: whole, and byte by byte.
STEPS = pytest.mark.parametrize("step", [1 << 20, 1536, 1])


def pieces(whole: bytes, step: int) -> list[bytes]:
    return [whole[at : at + step] for at in range(0, len(whole), step)]


@STEPS
@pytest.mark.parametrize("after", [b"", b"chunks"])
def test_the_server_answers_c1_with_an_unencrypted_s1_and_an_echo_of_c1(
    step: int, after: bytes
) -> None:
    server = ServerHandshake(1000, RANDOM)
    answer = b"".join(server.receive(piece) for piece in pieces(b"\x03" + C1, step))
    assert answer == b"\x03" + S1 + C1
    assert not server.done
    assert b"".join(server.receive(piece) for piece in pieces(C2[:-1], step)) == b""
    assert not server.done
    assert server.receive(C2[-1:] + after) == b""
    assert server.done
    assert server.rest == after


def test_the_server_accepts_a_client_that_sends_c0_c1_and_c2_at_once() -> None:
    server = ServerHandshake(1000, RANDOM)
    assert server.receive(b"\x03" + C1 + C2 + b"chunks") == b"\x03" + S1 + C1
    assert server.done
    assert server.rest == b"chunks"


@STEPS
@pytest.mark.parametrize("after", [b"", b"chunks"])
def test_the_client_echoes_s1_and_finishes_after_s2(step: int, after: bytes) -> None:
    client = ClientHandshake(7, RANDOM)
    assert client.hello == b"\x03\x00\x00\x00\x07" + bytes(4) + RANDOM
    sent = b"\x03" + S1 + bytes(BLOCK_BYTES)
    assert b"".join(client.receive(piece) for piece in pieces(sent[:-1], step)) == S1
    assert not client.done
    client.receive(sent[-1:] + after)
    assert client.done
    assert client.rest == after


@pytest.mark.parametrize("first", [0, 2, 6, 8, ord("G")])
def test_another_version_is_refused_at_the_first_byte(first: int) -> None:
    with pytest.raises(RTMPError, match=f"version {first}"):
        ServerHandshake(0, RANDOM).receive(bytes([first]))
    with pytest.raises(RTMPError, match=f"version {first}"):
        ClientHandshake(0, RANDOM).receive(bytes([first]))


def test_client_and_server_complete_a_handshake_with_each_other() -> None:
    client, server = ClientHandshake(1 << 33, RANDOM), ServerHandshake(5, RANDOM)
    server.receive(client.receive(server.receive(client.hello)))
    assert client.done
    assert server.done
    assert len(client.hello) + BLOCK_BYTES == HANDSHAKE_BYTES


def test_random_bytes_of_a_wrong_length_raise_value_error() -> None:
    with pytest.raises(ValueError, match="1528"):
        ServerHandshake(0, b"few")
