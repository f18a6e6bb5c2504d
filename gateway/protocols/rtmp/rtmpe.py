"""RTMPE: the server's side of its handshake.

    client   C0 (1 byte: 6 or 8)  C1 (1536)                               C2 (1536)
    server                                   S0 (= C0)  S1 (1536)  S2 (1536)

C1 and S1 have a digest (``digest``) and a public key (``rtmpe_keys``). C2 and S2 are answers to the
digests. What follows is encrypted.

RTMPE hides data. It does not protect it: the peer is not authenticated, and RC4 and the group are too weak.

Rules:

- C2 is ignored, as in the plain handshake.
- S1 has the scheme of C1.
- The shared secret has no leading zero byte. Librtmp omits such bytes, and other clients may not.

Source: librtmp's ``handshake.h``. The time and the random bytes are parameters. ``rtmpe_client`` has the
client's side.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from gateway.errors import RTMPError
from gateway.protocols.rtmp.digest import (
    ANSWER_RANDOM_BYTES,
    PLAYER,
    SERVER,
    answer_key,
    find_digest,
    sign_answer,
)
from gateway.protocols.rtmp.handshake import RANDOM_BYTES as BLOCK_RANDOM_BYTES
from gateway.protocols.rtmp.rtmpe_keys import (
    PRIVATE_KEY_BYTES,
    XTEA_VERSION,
    Ciphers,
    block_with_key,
    cipher,
    encrypt_digest,
    peers_key,
    power,
    public_key,
)

RANDOM_BYTES: Final = BLOCK_RANDOM_BYTES + ANSWER_RANDOM_BYTES + PRIVATE_KEY_BYTES
# Flash Media Server's. FFmpeg expects no digests of a server with a version below 3.
_SERVER_VERSION: Final = bytes([3, 5, 1, 1])


@frozen
class Answer:
    """S0, S1 and S2, and the ciphers for the data behind C2 and S2."""

    data: bytes
    ciphers: Ciphers


def answer(version: int, block: bytes, time_ms: int, random: bytes) -> Answer:
    """The answer to C0, one of ``VERSIONS``, and C1. ``random``: ``RANDOM_BYTES``, which must be secret.

    Raises RTMPError if ``block`` has no digest or no valid public key.
    """
    found = find_digest(block, PLAYER)
    if found is None:
        raise RTMPError("RTMPE handshake without a digest")
    filling, for_answer, private_key = split(random)
    its_key = peers_key(block, found.scheme)
    own_key, secret = _exchange(its_key, private_key)
    start = (time_ms & 0xFFFFFFFF).to_bytes(4, "big") + _SERVER_VERSION
    s1 = block_with_key(start, filling, found.scheme, own_key, SERVER)
    s2 = sign_answer(for_answer, found.value, SERVER)
    if version == XTEA_VERSION:
        s2 = encrypt_digest(s2, answer_key(found.value, SERVER))
    ciphers = Ciphers(received=cipher(secret, own_key), sent=cipher(secret, its_key))
    return Answer(bytes([version]) + s1 + s2, ciphers)


def split(random: bytes) -> tuple[bytes, bytes, bytes]:
    """``RANDOM_BYTES`` as those for a block, for an answer, and for the private key."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"an RTMPE handshake takes {RANDOM_BYTES} random bytes, not {len(random)}")
    answer_at, key_at = BLOCK_RANDOM_BYTES, BLOCK_RANDOM_BYTES + ANSWER_RANDOM_BYTES
    return random[:answer_at], random[answer_at:key_at], random[key_at:]


def _exchange(its_key: bytes, private_key: bytes) -> tuple[bytes, bytes]:
    """The own public key and the shared secret."""
    base, exponent = int.from_bytes(its_key, "big"), int.from_bytes(private_key, "big")
    while not (secret := power(base, exponent))[0]:
        exponent += 1
    return public_key(exponent.to_bytes(PRIVATE_KEY_BYTES + 1, "big")), secret
