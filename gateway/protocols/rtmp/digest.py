"""Digests in the blocks of a handshake, by which Flash Player and its servers recognise each other.

    C1, S1   time (4 bytes), version (4 bytes, not zero), random bytes; among these, at an offset that the
             block itself gives, an HMAC-SHA256 of the block's other bytes
    C2, S2   random bytes, and in the last 32 bytes an HMAC-SHA256 of them, keyed by the peer's digest

There are two schemes for the offset. The sender selects one without saying so, and the receiver tries both.
FFmpeg and librtmp use the first for plain RTMP and the second for RTMPE. The answer to a block uses the
block's own scheme.

Every player and server has the same keys, so a digest proves nothing about the peer. Source of the keys and
offsets: librtmp's ``handshake.h`` and FFmpeg's ``rtmpproto.c``. Adobe has not published them.
"""

from __future__ import annotations

import hmac
from typing import Final

from attrs import frozen

from gateway.protocols.rtmp.handshake import BLOCK_BYTES

DIGEST_BYTES: Final = 32
# The part of C2 or S2 before its digest.
ANSWER_RANDOM_BYTES: Final = BLOCK_BYTES - DIGEST_BYTES
# The end of every key for C2 and S2.
_COMMON: Final = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")


@frozen
class Signer:
    """A maker of digests. ``block_key`` is for C1 and S1, ``answer_key`` for C2 and S2."""

    block_key: bytes

    @property
    def answer_key(self) -> bytes:
        return self.block_key + _COMMON


PLAYER: Final = Signer(b"Genuine Adobe Flash Player 001")
SERVER: Final = Signer(b"Genuine Adobe Flash Media Server 001")


@frozen
class Place:
    """A place in a block: ``first`` plus the sum of the four bytes at ``sum_at``, modulo ``span``."""

    sum_at: int
    span: int
    first: int

    def offset(self, block: bytes) -> int:
        return self.first + sum(block[self.sum_at : self.sum_at + 4]) % self.span


# The place of the digest in each scheme.
SCHEMES: Final = (Place(8, 728, 12), Place(772, 728, 776))


@frozen
class Digest:
    """The digest of a C1 or S1, and its scheme."""

    scheme: Place
    value: bytes


def find_digest(block: bytes, signer: Signer) -> Digest | None:
    """The digest that ``signer`` put into ``block``, a C1 or S1; None if it has none."""
    for scheme in SCHEMES:
        at = scheme.offset(block)
        value = block[at : at + DIGEST_BYTES]
        if hmac.compare_digest(value, _digest(block, at, signer)):
            return Digest(scheme, value)
    return None


def put_digest(block: bytes, scheme: Place, signer: Signer) -> bytes:
    """``block``, a C1 or S1 with a version that is not zero, with a digest."""
    at = scheme.offset(block)
    return block[:at] + _digest(block, at, signer) + block[at + DIGEST_BYTES :]


def sign_answer(random: bytes, digest: bytes, signer: Signer) -> bytes:
    """The C2 or S2 for a peer whose block had ``digest``: ``ANSWER_RANDOM_BYTES``, and their digest."""
    key = hmac.digest(signer.answer_key, digest, "sha256")
    return random + hmac.digest(key, random, "sha256")


def _digest(block: bytes, at: int, signer: Signer) -> bytes:
    return hmac.digest(signer.block_key, block[:at] + block[at + DIGEST_BYTES :], "sha256")
