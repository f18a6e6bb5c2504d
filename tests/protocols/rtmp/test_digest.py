"""The digests here were computed with ``openssl dgst -sha256 -mac HMAC``."""

from __future__ import annotations

import pytest

from gateway.protocols.rtmp.digest import (
    ANSWER_RANDOM_BYTES,
    PLAYER,
    SCHEMES,
    SERVER,
    Digest,
    Place,
    Signer,
    find_digest,
    put_digest,
    sign_answer,
)
from gateway.protocols.rtmp.handshake import BLOCK_BYTES

BLOCK = bytes(index % 251 for index in range(BLOCK_BYTES))
FIRST, SECOND = SCHEMES
# The sums are 8 + 9 + 10 + 11 and 19 + 20 + 21 + 22.
OFFSETS = {FIRST: 50, SECOND: 858}
SIGNED = [
    (FIRST, PLAYER, "b7be42fcc7bb33c851f763986ba29397638de143f0a028ba635bcf7141307b64"),
    (FIRST, SERVER, "0edf130af38cfac3b32079fc8fbe59fba544ec34d613885036a391bac506077d"),
    (SECOND, PLAYER, "6baea6d3c17b4a429bc2ae5edc5c87b3f36b80624719ecdbdbcc608ea5a0b463"),
    (SECOND, SERVER, "5cfb46affbdb33668ecefd5b0f556a43405c092c3f986c1d47cb35d50b3ac646"),
]
EACH = pytest.mark.parametrize(("scheme", "signer", "digest"), SIGNED)


@EACH
def test_a_digest_is_put_where_its_scheme_says_and_nothing_else_changes(
    scheme: Place, signer: Signer, digest: str
) -> None:
    at = OFFSETS[scheme]
    expected = BLOCK[:at] + bytes.fromhex(digest) + BLOCK[at + 32 :]
    assert put_digest(BLOCK, scheme, signer) == expected


@EACH
def test_a_digest_is_found_with_its_scheme(scheme: Place, signer: Signer, digest: str) -> None:
    block = put_digest(BLOCK, scheme, signer)
    assert find_digest(block, signer) == Digest(scheme, bytes.fromhex(digest))


@EACH
def test_a_digest_of_another_signer_is_none(scheme: Place, signer: Signer, digest: str) -> None:
    other = SERVER if signer is PLAYER else PLAYER
    assert find_digest(put_digest(BLOCK, scheme, other), signer) is None


@EACH
@pytest.mark.parametrize("at", [0, 4, 8, 49, 50, 81, 82, 771, 857, 858, 889, 890, 1535])
def test_a_block_changed_in_any_byte_has_no_digest(
    scheme: Place, signer: Signer, digest: str, at: int
) -> None:
    block = bytearray(put_digest(BLOCK, scheme, signer))
    block[at] ^= 1
    assert find_digest(bytes(block), signer) is None


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("octet", [0, 181, 182, 255])
def test_every_offset_leaves_room_for_the_digest(scheme: Place, octet: int) -> None:
    block = bytes([octet]) * BLOCK_BYTES
    # A digest over the four bytes of the sum would change the offset.
    assert scheme.sum_at + 4 <= scheme.offset(block) <= scheme.sum_at + 4 + 727 < BLOCK_BYTES - 32
    assert find_digest(put_digest(block, scheme, SERVER), SERVER) is not None


@pytest.mark.parametrize(
    ("signer", "digest"),
    [
        (PLAYER, "d1694341b8780fbe0cf0e79a3ae518d10c8daf5b005b8a3918c060548f40a49c"),
        (SERVER, "d5a1e5e04fd7b8a0cf81344f62ba25330b06035bb641e70759b21605d3ce6dfb"),
    ],
)
def test_an_answer_ends_with_a_digest_keyed_by_the_peers_digest(
    signer: Signer, digest: str
) -> None:
    random = BLOCK[:ANSWER_RANDOM_BYTES]
    assert sign_answer(random, bytes(range(32)), signer) == random + bytes.fromhex(digest)
