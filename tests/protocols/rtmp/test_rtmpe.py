from __future__ import annotations

import hashlib
from random import Random

import pytest

from gateway.errors import RTMPError
from gateway.protocols.rtmp.digest import PLAYER, SCHEMES, put_digest
from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from gateway.protocols.rtmp.rtmpe import RANDOM_BYTES, answer
from tests.helpers.rtmpe_client import PRIME, RTMPEClient

RANDOM = Random(1).randbytes(RANDOM_BYTES)
# A hash of digests that were computed with librtmp's rtmpe8_sig.
S2_OF_LIBRTMP = "d93291b04bc8cee07807b90c66d0aea9ae9166460226f0dd281be2157c4ad9b9"
SCHEME = pytest.mark.parametrize("scheme", [0, 1])


def ask(client: RTMPEClient, random: bytes = RANDOM) -> tuple[bytes, bytes, bytes]:
    """Shake hands, and send a text in both directions. Returns the texts received, and the answer."""
    given = answer(client.hello[0], client.hello[1:], 0x01020304, random)
    client.answer(given.data)
    up = given.ciphers.received.update(client.encrypt(b"connect"))
    down = client.decrypt(given.ciphers.sent.update(b"_result"))
    return up, down, given.data


@SCHEME
@pytest.mark.parametrize("version", [6, 8])
def test_after_the_handshake_both_sides_have_the_same_keys(scheme: int, version: int) -> None:
    assert ask(RTMPEClient(scheme, version))[:2] == (b"connect", b"_result")


@SCHEME
@pytest.mark.parametrize("seed", range(5))
def test_a_handshake_succeeds_with_any_random_bytes(scheme: int, seed: int) -> None:
    random = Random(seed).randbytes(RANDOM_BYTES)
    client = RTMPEClient(scheme, private=seed + 2)
    assert ask(client, random)[:2] == (b"connect", b"_result")


def test_s1_has_the_time_and_a_version_that_announces_digests() -> None:
    data = ask(RTMPEClient())[2]
    assert data[1:9] == b"\x01\x02\x03\x04\x03\x05\x01\x01"


def test_the_shared_secret_has_no_leading_zero_bytes_which_librtmp_would_omit() -> None:
    # The exponents at which the secret of this client begins with a zero byte.
    client = RTMPEClient(private=5)
    base, exponent = pow(2, 5, PRIME), 2**150
    while pow(base, exponent, PRIME) >> 1016:
        exponent += 1
    random = RANDOM[:-20] + exponent.to_bytes(20, "big")
    assert ask(client, random)[:2] == (b"connect", b"_result")
    assert client.secret[0]


@pytest.mark.parametrize("key", [0, 1, PRIME - 1, PRIME, PRIME + 1, 2**1024 - 1])
@SCHEME
def test_a_public_key_whose_secret_everyone_knows_is_refused(scheme: int, key: int) -> None:
    block = bytearray(BLOCK_BYTES)
    at = (772, 8)[scheme]
    block[at : at + 128] = key.to_bytes(128, "big")
    # In the second scheme, neither the key nor the digest covers the places of the sums.
    block = bytearray(put_digest(bytes(block), SCHEMES[scheme], PLAYER))
    with pytest.raises(RTMPError, match="public key"):
        answer(6, bytes(block), 0, RANDOM)


def test_a_block_without_a_digest_is_refused() -> None:
    with pytest.raises(RTMPError, match="digest"):
        answer(6, bytes(BLOCK_BYTES), 0, RANDOM)


def test_too_few_random_bytes_are_a_mistake_of_the_caller() -> None:
    client = RTMPEClient()
    with pytest.raises(ValueError, match="random bytes"):
        answer(6, client.hello[1:], 0, RANDOM[1:])


def test_the_digest_of_s2_in_version_8_is_that_of_librtmp() -> None:
    # Together they use each of its keys.
    digests = b"".join(
        answer(8, RTMPEClient(1, 8, private).hello[1:], 0, RANDOM).data[-32:]
        for private in range(2, 22)
    )
    assert (
        hashlib.sha256(digests).hexdigest()
        == "d93291b04bc8cee07807b90c66d0aea9ae9166460226f0dd281be2157c4ad9b9"
    )
