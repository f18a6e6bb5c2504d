"""Handshakes with digests, for connections whose handshake the gateway makes itself.

Flash Player plays H.264 only from servers that answer its digest with theirs, and some servers send it only
to clients with a digest. So the client's side of the gateway answers in the client's way, and the server's
side begins in that way: with the version and the scheme of the client. A peer without a digest gets the
plain handshake, whose rules are those of ``handshake``.
"""

from __future__ import annotations

from typing import Final, final

from attrs import frozen

from gateway.protocols.rtmp.digest import (
    PLAYER,
    SERVER,
    Place,
    find_digest,
    put_digest,
    sign_answer,
)
from gateway.protocols.rtmp.handshake import VERSION, HandshakeSide

# Clients look for a digest if the first byte is 3 or more. This is Flash Media Server 3.5.
_SERVER_VERSION: Final = bytes([3, 5, 0, 0])


@frozen
class PlayerBlock:
    """The version in a C1 with a digest, and the digest's scheme."""

    version: bytes
    scheme: Place


@final
class DigestServerHandshake(HandshakeSide):
    """A server's side. ``player`` is set once C1 is complete, if it has a digest.

    ``random`` fills S1, and ``answer_random``, of ``ANSWER_RANDOM_BYTES``, S2.
    """

    __slots__ = ("_answer_random", "player")

    def __init__(self, time_ms: int, random: bytes, answer_random: bytes) -> None:
        super().__init__(time_ms, random)
        self._answer_random = answer_random
        self.player: PlayerBlock | None = None

    def _answer_to(self, block: bytes) -> bytes:
        found = find_digest(block, PLAYER)
        if found is None:
            return bytes([VERSION]) + self._own + block
        self.player = PlayerBlock(block[4:8], found.scheme)
        own = put_digest(_versioned(self._own, _SERVER_VERSION), found.scheme, SERVER)
        return bytes([VERSION]) + own + sign_answer(self._answer_random, found.value, SERVER)


@final
class DigestClientHandshake(HandshakeSide):
    """A client's side, in the way of ``player``: send ``hello`` first, then what ``receive`` returns (C2).

    The random bytes are as those of ``DigestServerHandshake``, for C1 and C2.
    """

    __slots__ = ("_answer_random", "hello")

    def __init__(
        self, player: PlayerBlock, time_ms: int, random: bytes, answer_random: bytes
    ) -> None:
        super().__init__(time_ms, random)
        self._answer_random = answer_random
        block = put_digest(_versioned(self._own, player.version), player.scheme, PLAYER)
        self.hello = bytes([VERSION]) + block

    def _answer_to(self, block: bytes) -> bytes:
        found = find_digest(block, SERVER)
        return block if found is None else sign_answer(self._answer_random, found.value, PLAYER)


def _versioned(block: bytes, version: bytes) -> bytes:
    return block[:4] + version + block[8:]
