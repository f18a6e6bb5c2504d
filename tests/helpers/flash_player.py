"""The handshake of a client with digests, as Flash Player makes it, with fixed random bytes."""

from __future__ import annotations

from typing import final

from gateway.protocols.rtmp.digest import (
    PLAYER,
    SCHEMES,
    SERVER,
    Place,
    find_digest,
    put_digest,
    sign_answer,
)
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, HANDSHAKE_BYTES

# Flash Player 32.
VERSION = bytes([32, 0, 0, 1])


@final
class FlashPlayer:
    """Send ``hello`` first, then what ``finish`` returns for all of the server's handshake."""

    def __init__(self, scheme: Place = SCHEMES[0]) -> None:
        filled = bytes(index * 7 % 253 for index in range(BLOCK_BYTES - 8))
        self._block = put_digest(bytes(4) + VERSION + filled, scheme, PLAYER)
        self.hello = b"\x03" + self._block

    def finish(self, answer: bytes) -> bytes:
        """Check S0, S1 and S2 as Flash Player does. Returns C2."""
        assert len(answer) == HANDSHAKE_BYTES
        first, second = answer[1 : 1 + BLOCK_BYTES], answer[1 + BLOCK_BYTES :]
        own, found = find_digest(self._block, PLAYER), find_digest(first, SERVER)
        assert own is not None
        assert found is not None, "S1 has no digest"
        assert found.scheme == own.scheme
        assert second == sign_answer(second[:-32], own.value, SERVER), "S2 does not answer C1"
        return sign_answer(bytes(BLOCK_BYTES - 32), found.value, PLAYER)
