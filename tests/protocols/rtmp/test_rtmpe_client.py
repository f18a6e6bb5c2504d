"""The client's side of RTMPE's handshake, against a server that shares no code with it."""

from __future__ import annotations

from random import Random

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.digest import (
    PLAYER,
    SCHEMES,
    SERVER,
    answer_key,
    find_digest,
    put_digest,
    sign_answer,
)
from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from gateway.protocols.rtmp.rtmpe import RANDOM_BYTES, answer
from gateway.protocols.rtmp.rtmpe_client import RTMPEClientHandshake
from gateway.protocols.rtmp.rtmpe_keys import Ciphers, encrypt_digest
from tests.helpers.rtmpe_client import PRIME, RTMPEServer

RANDOM = Random(1).randbytes(RANDOM_BYTES)
SCHEME = pytest.mark.parametrize("scheme", [0, 1])
STEPS = pytest.mark.parametrize("step", [1 << 20, 1536, 1])


def handshake(random: bytes = RANDOM) -> RTMPEClientHandshake:
    return RTMPEClientHandshake(0x01020304, random)


def received(client: RTMPEClientHandshake, data: bytes, step: int = 1 << 20) -> bytes:
    """What the client answers."""
    return b"".join(client.receive(data[at : at + step]) for at in range(0, len(data), step))


def ciphers(client: RTMPEClientHandshake) -> Ciphers:
    assert client.ciphers is not None
    return client.ciphers


def test_c1_has_the_version_and_the_scheme_of_real_clients() -> None:
    hello = handshake().hello
    assert hello[:9] == b"\x06\x01\x02\x03\x04\x80\x00\x03\x02"
    found = find_digest(hello[1:], PLAYER)
    assert found is not None
    assert found.scheme is SCHEMES[1]


@SCHEME
@STEPS
def test_after_the_handshake_both_sides_have_the_same_keys(scheme: int, step: int) -> None:
    client, server = handshake(), RTMPEServer(scheme)
    c2 = received(client, server.answer(client.hello), step)
    assert len(c2) == BLOCK_BYTES
    assert server.accepts(c2)
    assert server.decrypt(ciphers(client).sent.update(b"connect")) == b"connect"
    assert ciphers(client).received.update(server.encrypt(b"_result")) == b"_result"


@pytest.mark.parametrize("seed", range(5))
def test_a_handshake_succeeds_with_any_random_bytes(seed: int) -> None:
    client = handshake(Random(seed).randbytes(RANDOM_BYTES))
    server = RTMPEServer(private=seed + 2)
    assert server.accepts(received(client, server.answer(client.hello)))
    assert server.decrypt(ciphers(client).sent.update(b"connect")) == b"connect"


def test_leading_zero_bytes_of_the_shared_secret_are_omitted_as_by_librtmp() -> None:
    # The exponents of a server at which the secret of this client begins with a zero byte.
    base = int.from_bytes(_public(handshake().hello[1:]), "big")
    exponent = 2**150
    while pow(base, exponent, PRIME) >> 1016:
        exponent += 1
    client, server = handshake(), RTMPEServer(private=exponent)
    received(client, server.answer(client.hello))
    assert server.secret[-1] == 0
    assert server.decrypt(ciphers(client).sent.update(b"connect")) == b"connect"


def _public(c1: bytes) -> bytes:
    at = sum(c1[768:772]) % 632 + 8
    return c1[at : at + 128]


def test_data_behind_s2_is_kept_encrypted() -> None:
    client, server = handshake(), RTMPEServer()
    data = server.answer(client.hello)
    received(client, data + server.encrypt(b"early"))
    assert ciphers(client).received.update(client.rest) == b"early"


def test_the_digest_of_c2_is_encrypted_if_the_server_answers_with_version_8() -> None:
    client, server = handshake(), RTMPEServer(version=8)
    c2 = received(client, server.answer(client.hello))
    assert not server.accepts(c2)
    # test_rtmpe.py compares the encryption with librtmp's, and tests/interop C2 with real clients'.
    signed = sign_answer(c2[:-32], server.digest, PLAYER)
    assert server.accepts(signed)
    assert c2 == encrypt_digest(signed, answer_key(server.digest, PLAYER))


def test_the_gateways_own_server_is_understood() -> None:
    for version in (6, 8):
        client = handshake()
        given = answer(version, client.hello[1:], 7, RANDOM)
        received(client, given.data)
        assert given.ciphers.received.update(ciphers(client).sent.update(b"up")) == b"up"
        assert ciphers(client).received.update(given.ciphers.sent.update(b"down")) == b"down"


@pytest.mark.parametrize("version", [3, 9, 0x48])
def test_another_version_is_refused_at_its_first_byte(version: int) -> None:
    with pytest.raises(RTMPError, match=f"answers with version {version}, which is not RTMPE"):
        handshake().receive(bytes([version]))


def test_s1_without_a_digest_is_refused() -> None:
    with pytest.raises(RTMPError, match="no digest"):
        handshake().receive(b"\x06" + bytes(2 * BLOCK_BYTES))


@pytest.mark.parametrize("key", [0, 1, PRIME - 1, PRIME, 2**1024 - 1])
@SCHEME
def test_a_public_key_whose_secret_everyone_knows_is_refused(scheme: int, key: int) -> None:
    block = bytearray(BLOCK_BYTES)
    at = (772, 8)[scheme]
    block[at : at + 128] = key.to_bytes(128, "big")
    signed = put_digest(bytes(block), SCHEMES[scheme], SERVER)
    with pytest.raises(RTMPError, match="public key"):
        handshake().receive(b"\x06" + signed + bytes(BLOCK_BYTES))
