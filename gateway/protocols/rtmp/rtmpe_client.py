"""RTMPE: the client's side of its handshake (``rtmpe`` has the server's, and the sequence).

Rules:

- C0 is 6. A server may answer with 8, which concerns the digest in C2 only.
- C1 has the version and the scheme of librtmp and FFmpeg. S1 may have either scheme.
- S2 is ignored, as in the plain handshake: every server can compute it.
- The shared secret is computed as by librtmp and FFmpeg: without leading zero bytes, and with as many at
  its end. One secret of 256 has any.

Sources: librtmp's ``handshake.h``, FFmpeg's ``rtmpproto.c``. The time and the random bytes are parameters.
"""

from __future__ import annotations

from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.digest import (
    PLAYER,
    SCHEMES,
    SERVER,
    answer_key,
    find_digest,
    sign_answer,
)
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, HANDSHAKE_BYTES
from gateway.protocols.rtmp.rtmpe import split
from gateway.protocols.rtmp.rtmpe_keys import (
    VERSIONS,
    XTEA_VERSION,
    Ciphers,
    block_with_key,
    cipher,
    encrypt_digest,
    peers_key,
    power,
    public_key,
)

_VERSION: Final = 6
# With any other, servers may expect no RTMPE, or the other scheme.
_PLAYER_VERSION: Final = bytes([128, 0, 3, 2])
_SCHEME: Final = SCHEMES[1]


@final
class RTMPEClientHandshake:
    """Send ``hello`` first, then what ``receive`` returns (C2). ``random``: ``RANDOM_BYTES`` of ``rtmpe``,
    which must be secret.

    ``ciphers`` is set when the handshake is done, and ``rest`` has the bytes behind it, still encrypted.
    """

    __slots__ = (
        "_answer_random",
        "_own_key",
        "_private_key",
        "_received",
        "ciphers",
        "hello",
        "rest",
    )

    def __init__(self, time_ms: int, random: bytes) -> None:
        filling, self._answer_random, self._private_key = split(random)
        self._own_key = public_key(self._private_key)
        start = (time_ms & 0xFFFFFFFF).to_bytes(4, "big") + _PLAYER_VERSION
        block = block_with_key(start, filling, _SCHEME, self._own_key, PLAYER)
        self._received = bytearray()
        self.hello = bytes([_VERSION]) + block
        self.ciphers: Ciphers | None = None
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """Process bytes from the server. The returned bytes must be sent to it. Raises RTMPError.

        Must not be called once ``ciphers`` is set.
        """
        self._received += data
        if self._received and self._received[0] not in VERSIONS:
            raise RTMPError(
                f"the server answers with version {self._received[0]}, which is not RTMPE"
            )
        if len(self._received) < HANDSHAKE_BYTES:
            return b""
        received, self._received = bytes(self._received), bytearray()
        self.rest = received[HANDSHAKE_BYTES:]
        return self._answer(received[0], received[1 : 1 + BLOCK_BYTES])

    def _answer(self, version: int, block: bytes) -> bytes:
        """C2, the answer to S0 and S1."""
        found = find_digest(block, SERVER)
        if found is None:
            raise RTMPError("the server's RTMPE handshake has no digest")
        its_key = peers_key(block, found.scheme)
        secret = _aligned(
            power(int.from_bytes(its_key, "big"), int.from_bytes(self._private_key, "big"))
        )
        self.ciphers = Ciphers(received=cipher(secret, self._own_key), sent=cipher(secret, its_key))
        c2 = sign_answer(self._answer_random, found.value, PLAYER)
        if version == XTEA_VERSION:
            c2 = encrypt_digest(c2, answer_key(found.value, PLAYER))
        return c2


def _aligned(secret: bytes) -> bytes:
    """``secret`` with its leading zero bytes at its end."""
    return secret.lstrip(b"\0").ljust(len(secret), b"\0")
