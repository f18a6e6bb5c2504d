"""Handshakes with digests between a client or server and the gateway."""

from __future__ import annotations

import pytest

from gateway.protocols.rtmp.digest import (
    ANSWER_RANDOM_BYTES,
    PLAYER,
    SCHEMES,
    SERVER,
    Place,
    find_digest,
    put_digest,
    sign_answer,
)
from gateway.protocols.rtmp.digest_handshake import (
    DigestClientHandshake,
    DigestServerHandshake,
    PlayerBlock,
)
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, RANDOM_BYTES
from tests.helpers.flash_player import VERSION, FlashPlayer

RANDOM = bytes(index % 251 for index in range(RANDOM_BYTES))
ANSWER_RANDOM = bytes(index % 241 for index in range(ANSWER_RANDOM_BYTES))
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES)
STEPS = pytest.mark.parametrize("step", [1 << 20, 1536, 1])


def pieces(whole: bytes, step: int) -> list[bytes]:
    return [whole[at : at + step] for at in range(0, len(whole), step)]


@STEPS
@EACH_SCHEME
def test_a_player_with_a_digest_is_answered_with_digests_in_its_scheme(
    scheme: Place, step: int
) -> None:
    server, player = DigestServerHandshake(1000, RANDOM, ANSWER_RANDOM), FlashPlayer(scheme)
    answer = b"".join(server.receive(piece) for piece in pieces(player.hello, step))
    last = player.finish(answer)
    assert answer[1 + BLOCK_BYTES :][:ANSWER_RANDOM_BYTES] == ANSWER_RANDOM
    for piece in pieces(last + b"chunks", step):
        if not server.done:
            assert server.receive(piece) == b""
    assert server.done
    assert server.rest == (b"chunks" if step > BLOCK_BYTES else b"")
    assert server.player == PlayerBlock(VERSION, scheme)


def test_a_client_without_a_digest_gets_an_unencrypted_s1_and_an_echo_of_c1() -> None:
    c1 = bytes(4) + VERSION + RANDOM
    server = DigestServerHandshake(1000, RANDOM, ANSWER_RANDOM)
    assert server.receive(b"\x03" + c1) == b"\x03\x00\x00\x03\xe8" + bytes(4) + RANDOM + c1
    assert server.player is None


@STEPS
@EACH_SCHEME
def test_the_gateway_shows_a_server_the_version_and_a_digest_in_the_scheme_of_its_client(
    scheme: Place, step: int
) -> None:
    client = DigestClientHandshake(PlayerBlock(VERSION, scheme), 7, RANDOM, ANSWER_RANDOM)
    c1 = client.hello[1:]
    found = find_digest(c1, PLAYER)
    assert (client.hello[:5], c1[4:8]) == (b"\x03\x00\x00\x00\x07", VERSION)
    assert found is not None
    assert found.scheme == scheme
    s1 = put_digest(bytes(4) + b"\x04\x05\x00\x01" + RANDOM[::-1], SCHEMES[1], SERVER)
    digest = find_digest(s1, SERVER)
    assert digest is not None
    answer = b"\x03" + s1 + sign_answer(ANSWER_RANDOM, found.value, SERVER)
    c2 = b"".join(client.receive(piece) for piece in pieces(answer, step))
    assert c2 == sign_answer(ANSWER_RANDOM, digest.value, PLAYER)
    assert client.done


def test_a_server_that_answers_without_a_digest_gets_an_echo_of_s1() -> None:
    client = DigestClientHandshake(PlayerBlock(VERSION, SCHEMES[0]), 7, RANDOM, ANSWER_RANDOM)
    s1 = bytes(8) + RANDOM
    assert client.receive(b"\x03" + s1 + client.hello[1:] + b"chunks") == s1
    assert client.done
    assert client.rest == b"chunks"
