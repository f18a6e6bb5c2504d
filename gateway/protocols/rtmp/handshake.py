"""The plain RTMP handshake, for clients and servers: bytes in, bytes out.

    client   C0 (1 byte: 3)  C1 (1536)                                C2 (1536) = S1
    server                              S0 (1: 3)  S1 (1536)  S2 (1536) = C1

Rules:

- C1 and S1 have the version zero. Any other version makes Flash Player, FFmpeg and librtmp look for an HMAC
  digest in the block; zero makes each of them use this plain handshake.
- S2 is an exact copy of C1, and C2 of S1: librtmp compares all 1536 bytes.
- The peer's last block is ignored. Clients with digests put a digest there, old encoders send zeros, and
  nothing on a connection depends on it.
- A first byte other than 3 is an error. 6 and 8 are RTMPE, which is encrypted.

``digest_handshake`` has sides that use digests. The time and the random bytes are parameters.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import RTMPError

VERSION: Final = 3
BLOCK_BYTES: Final = 1536
# The rest of a block, after four bytes of time and four of version.
RANDOM_BYTES: Final = BLOCK_BYTES - 8
# C0, C1 and C2, or S0, S1 and S2. The chunks follow.
HANDSHAKE_BYTES: Final = 1 + 2 * BLOCK_BYTES


def _block(time_ms: int, random: bytes) -> bytes:
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a handshake block takes {RANDOM_BYTES} random bytes, not {len(random)}")
    return (time_ms & 0xFFFFFFFF).to_bytes(4, "big") + bytes(4) + random


class HandshakeSide:
    """One side: answers the peer's first block once, and waits for its second."""

    __slots__ = ("_answered", "_own", "_received", "done", "rest")

    def __init__(self, time_ms: int, random: bytes) -> None:
        self._own = _block(time_ms, random)
        self._received = bytearray()
        self._answered = False
        self.done = False
        self.rest = b""

    @property
    def begun(self) -> bool:
        """Whether any byte of the peer's has been received."""
        return self.done or bool(self._received)

    def receive(self, data: bytes) -> bytes:
        """Process bytes from the peer. The returned bytes must be sent to it immediately.

        Must not be called once ``done``; ``rest`` then has the bytes after the handshake. Raises RTMPError
        if the first byte is another version.
        """
        self._received += data
        if self._received and self._received[0] != VERSION:
            raise RTMPError(f"handshake version {self._received[0]}, only {VERSION} is plain RTMP")
        answer = self._answer()
        if len(self._received) >= HANDSHAKE_BYTES:
            self.done = True
            self.rest = bytes(self._received[HANDSHAKE_BYTES:])
            self._received.clear()
        return answer

    def _answer(self) -> bytes:
        if self._answered or len(self._received) <= BLOCK_BYTES:
            return b""
        self._answered = True
        return self._answer_to(bytes(self._received[1 : 1 + BLOCK_BYTES]))

    def _answer_to(self, block: bytes) -> bytes:
        raise NotImplementedError


class ServerHandshake(HandshakeSide):
    """A server's side of one handshake: ``time_ms`` is any clock, ``random`` fills S1."""

    __slots__ = ()

    def _answer_to(self, block: bytes) -> bytes:
        return bytes([VERSION]) + self._own + block


class ClientHandshake(HandshakeSide):
    """A client's side of one handshake: send ``hello`` first, then what ``receive`` returns (C2).

    It is ``done`` when S2 is there too, unread: servers with digests put one there.
    """

    __slots__ = ("hello",)

    def __init__(self, time_ms: int, random: bytes) -> None:
        super().__init__(time_ms, random)
        self.hello = bytes([VERSION]) + self._own

    def _answer_to(self, block: bytes) -> bytes:
        return block


def after_handshake(left: int, data: bytes) -> tuple[int, bytes]:
    """For readers of relayed connections: the remaining size of one side's handshake after ``data``, and
    the part of ``data`` that follows it. ``left`` is ``HANDSHAKE_BYTES`` at first.

    Raises RTMPError for RTMPE.
    """
    if not left:
        return 0, data
    if left == HANDSHAKE_BYTES and data and data[0] != VERSION:
        raise RTMPError(f"handshake version {data[0]}")
    return max(0, left - len(data)), data[left:]
