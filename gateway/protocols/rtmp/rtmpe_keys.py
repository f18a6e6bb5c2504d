"""RTMPE's keys and ciphers, for both sides of its handshake (``rtmpe`` has the handshake).

C1 and S1 have a Diffie-Hellman public key, at a place that belongs to the scheme of their digest. What
follows the handshake is encrypted with RC4, with a key for each direction: an HMAC-SHA256 of the receiver's
public key, keyed by the shared secret. The first 1536 bytes of each key stream are not used. In version 8,
the digests in C2 and S2 are encrypted with XTEA.

Sources: librtmp's ``handshake.h``, FFmpeg's ``rtmpcrypt.c``, and RFC 2409, section 6.2, for the group.
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
    SCHEMES,
    Place,
    Signer,
    put_digest,
)
from gateway.protocols.rtmp.handshake import BLOCK_BYTES

XTEA_VERSION: Final = 8
VERSIONS: Final = frozenset({6, XTEA_VERSION})
_KEY_BYTES: Final = 128
# Twice the strength of the group, which is below 80 bits (RFC 3766). More takes longer, and adds nothing.
PRIVATE_KEY_BYTES: Final = 20
_GENERATOR: Final = 2
_PRIME: Final = int(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd"
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff",
    16,
)
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


def is_available() -> bool:
    """Whether the installed OpenSSL has RC4: it is in the legacy provider, which may be disabled."""
    try:
        cipher(b"", b"")
    except UnsupportedAlgorithm:
        return False
    return True


def public_key(private_key: bytes) -> bytes:
    """The public key of ``PRIVATE_KEY_BYTES`` secret bytes."""
    return power(_GENERATOR, int.from_bytes(private_key, "big"))


def power(base: int, exponent: int) -> bytes:
    """A power in the group, as long as a public key."""
    return pow(base, exponent, _PRIME).to_bytes(_KEY_BYTES, "big")


def peers_key(block: bytes, scheme: Place) -> bytes:
    """The public key in a C1 or S1 of this scheme. Raises RTMPError for a key whose shared secrets are
    predictable.
    """
    at = _KEY_PLACES[scheme].offset(block)
    key = block[at : at + _KEY_BYTES]
    if not 1 < int.from_bytes(key, "big") < _PRIME - 1:
        raise RTMPError("RTMPE handshake with an invalid public key")
    return key


def block_with_key(
    start: bytes, filling: bytes, scheme: Place, key: bytes, signer: Signer
) -> bytes:
    """A C1 or S1 with a public key and a digest. ``start``: the four bytes of time and of version."""
    block = start + filling
    at = _KEY_PLACES[scheme].offset(block)
    return put_digest(block[:at] + key + block[at + _KEY_BYTES :], scheme, signer)


def cipher(secret: bytes, receivers_key: bytes) -> CipherContext:
    """The cipher of the direction whose receiver has this public key."""
    key = hmac.digest(secret, receivers_key, "sha256")[:_CIPHER_KEY_BYTES]
    context = Cipher(ARC4(key), mode=None).encryptor()
    context.update(bytes(BLOCK_BYTES))
    return context


def encrypt_digest(answer: bytes, key: bytes) -> bytes:
    """``answer``, a C2 or S2, with its digest encrypted; ``key`` is that of the digest, and selects the
    keys of XTEA.
    """
    blocks = [
        _xtea(answer[ANSWER_RANDOM_BYTES + at :][:8], _XTEA_KEYS[key[at] % len(_XTEA_KEYS)])
        for at in range(0, DIGEST_BYTES, 8)
    ]
    return answer[:ANSWER_RANDOM_BYTES] + b"".join(blocks)


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
