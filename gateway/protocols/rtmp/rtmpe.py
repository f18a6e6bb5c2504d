"""RTMPE: the server's side of its handshake, and the ciphers that follow it.

    client   C0 (1 byte: 6 or 8)  C1 (1536)                               C2 (1536)
    server                                   S0 (= C0)  S1 (1536)  S2 (1536)

C1 and S1 have a digest (``digest``) and a Diffie-Hellman public key. C2 and S2 are answers to the digests.
What follows is encrypted with RC4, with a key for each direction: an HMAC-SHA256 of the receiver's public
key, keyed by the shared secret. The first 1536 bytes of each key stream are not used. In version 8, the
digest in C2 and S2 is encrypted with XTEA.

RTMPE hides data. It does not protect it: the peer is not authenticated, and RC4 and the group are too weak.

Rules:

- C2 is ignored, as in the plain handshake.
- S1 has the scheme of C1.
- The shared secret has no leading zero byte. Librtmp omits such bytes, and other clients may not.

Sources: librtmp's ``handshake.h``, FFmpeg's ``rtmpcrypt.c``, and RFC 2409, section 6.2, for the group. The
time and the random bytes are parameters.
"""

from __future__ import annotations

import hmac
from struct import Struct
from typing import Final

from attrs import frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext

from gateway.errors import RTMPError
from gateway.protocols.rtmp.digest import (
    ANSWER_RANDOM_BYTES,
    DIGEST_BYTES,
    PLAYER,
    SCHEMES,
    SERVER,
    Place,
    answer_key,
    find_digest,
    put_digest,
    sign_answer,
)
from gateway.protocols.rtmp.handshake import BLOCK_BYTES
from gateway.protocols.rtmp.handshake import RANDOM_BYTES as BLOCK_RANDOM_BYTES

XTEA_VERSION: Final = 8
VERSIONS: Final = frozenset({6, XTEA_VERSION})
_KEY_BYTES: Final = 128
# Twice the strength of the group, which is below 80 bits (RFC 3766). More takes longer, and adds nothing.
_PRIVATE_KEY_BYTES: Final = 20
RANDOM_BYTES: Final = BLOCK_RANDOM_BYTES + ANSWER_RANDOM_BYTES + _PRIVATE_KEY_BYTES
_GENERATOR: Final = 2
_PRIME: Final = int(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd"
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff",
    16,
)
# Flash Media Server's. FFmpeg expects no digests of a server with a version below 3.
_SERVER_VERSION: Final = bytes([3, 5, 1, 1])
_CIPHER_KEY_BYTES: Final = 16

# The place of the public key in each scheme.
_KEY_PLACES: Final = dict(zip(SCHEMES, (Place(1532, 632, 772), Place(768, 632, 8)), strict=True))

_XTEA_ROUNDS: Final = 32
_XTEA_DELTA: Final = 0x9E3779B9
_WORD: Final = 0xFFFFFFFF
_XTEA_KEYS: Final = tuple(
    Struct(">4I").unpack(bytes.fromhex(key))
    for key in (
        "bff034b211d9081fccdfb795748de732",
        "086a5eb61743090e6ef05ab8fe5a39e2",
        "7b10956f76ce05212388a73a440149a1",
        "a943f317ebf11bb2a691a5ee17f36339",
        "7a30e00ab529e22ca087aea5c0cb79ac",
        "bdce0c232febdeff1cfaae161123239d",
        "55dd3f7b77e7e62e9bb8c499c9481ee4",
        "407bb6b471e89136a7aebf55ca33b839",
        "fcf6bdc3b63c36977ce4f82504d959b2",
        "28e091fd41954c4c7fb7db00e3a066f8",
        "57845b764f251b0346d45bcda2c30d29",
        "0acceef8da55b546034734525863713b",
        "b82075dca75f1feed84268e8a72a44cc",
        "07cf6e9ea16d7b259fa7ae6cd92f5629",
        "feb1eae48c8c3ce14e0064a76a387c2a",
    )
)
_xtea_block: Final = Struct("<2I")


@frozen
class Ciphers:
    """The ciphers of both directions. Each must process all bytes of its direction, in order."""

    received: CipherContext
    sent: CipherContext


@frozen
class Answer:
    """S0, S1 and S2, and the ciphers for the data behind C2 and S2."""

    data: bytes
    ciphers: Ciphers


def is_available() -> bool:
    """Whether the installed OpenSSL has RC4: it is in the legacy provider, which may be disabled."""
    try:
        _cipher(b"", b"")
    except UnsupportedAlgorithm:
        return False
    return True


def answer(version: int, block: bytes, time_ms: int, random: bytes) -> Answer:
    """The answer to C0, one of ``VERSIONS``, and C1. ``random``: ``RANDOM_BYTES``, which must be secret.

    Raises RTMPError if ``block`` has no digest or no valid public key.
    """
    found = find_digest(block, PLAYER)
    if found is None:
        raise RTMPError("RTMPE handshake without a digest")
    filling, for_answer, private_key = _split(random)
    its_key = _public_key(block, found.scheme)
    own_key, secret = _exchange(its_key, private_key)
    s1 = _block(time_ms, filling, found.scheme, own_key)
    s2 = sign_answer(for_answer, found.value, SERVER)
    if version == XTEA_VERSION:
        s2 = _encrypt_digest(s2, answer_key(found.value, SERVER))
    ciphers = Ciphers(received=_cipher(secret, own_key), sent=_cipher(secret, its_key))
    return Answer(bytes([version]) + s1 + s2, ciphers)


def _split(random: bytes) -> tuple[bytes, bytes, bytes]:
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"an RTMPE handshake takes {RANDOM_BYTES} random bytes, not {len(random)}")
    answer_at, key_at = BLOCK_RANDOM_BYTES, BLOCK_RANDOM_BYTES + ANSWER_RANDOM_BYTES
    return random[:answer_at], random[answer_at:key_at], random[key_at:]


def _exchange(its_key: bytes, private_key: bytes) -> tuple[bytes, bytes]:
    """The own public key and the shared secret. Raises RTMPError if the secret would be known to anyone."""
    base, exponent = int.from_bytes(its_key, "big"), int.from_bytes(private_key, "big")
    if not 1 < base < _PRIME - 1:
        raise RTMPError("RTMPE handshake with an invalid public key")
    while not (secret := _power(base, exponent))[0]:
        exponent += 1
    return _power(_GENERATOR, exponent), secret


def _power(base: int, exponent: int) -> bytes:
    return pow(base, exponent, _PRIME).to_bytes(_KEY_BYTES, "big")


def _block(time_ms: int, filling: bytes, scheme: Place, key: bytes) -> bytes:
    """S1."""
    block = (time_ms & 0xFFFFFFFF).to_bytes(4, "big") + _SERVER_VERSION + filling
    at = _KEY_PLACES[scheme].offset(block)
    return put_digest(block[:at] + key + block[at + _KEY_BYTES :], scheme, SERVER)


def _public_key(block: bytes, scheme: Place) -> bytes:
    at = _KEY_PLACES[scheme].offset(block)
    return block[at : at + _KEY_BYTES]


def _cipher(secret: bytes, receivers_key: bytes) -> CipherContext:
    key = hmac.digest(secret, receivers_key, "sha256")[:_CIPHER_KEY_BYTES]
    cipher = Cipher(ARC4(key), mode=None).encryptor()
    cipher.update(bytes(BLOCK_BYTES))
    return cipher


def _encrypt_digest(s2: bytes, key: bytes) -> bytes:
    """``s2`` with its digest encrypted; ``key`` is that of the digest, and selects the keys of XTEA."""
    blocks = [
        _xtea(s2[ANSWER_RANDOM_BYTES + at :][:8], _XTEA_KEYS[key[at] % len(_XTEA_KEYS)])
        for at in range(0, DIGEST_BYTES, 8)
    ]
    return s2[:ANSWER_RANDOM_BYTES] + b"".join(blocks)


def _xtea(block: bytes, key: tuple[int, ...]) -> bytes:
    left, right = _xtea_block.unpack(block)
    total = 0
    for _ in range(_XTEA_ROUNDS):
        left = left + _mixed(right, total + key[total & 3]) & _WORD
        total = total + _XTEA_DELTA & _WORD
        right = right + _mixed(left, total + key[total >> 11 & 3]) & _WORD
    return _xtea_block.pack(left, right)


def _mixed(word: int, addend: int) -> int:
    return ((word << 4 ^ word >> 5) + word) ^ addend
