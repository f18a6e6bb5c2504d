"""The plain RTMP handshake, both sides: bytes in, bytes out.

    client   C0 (1 byte: 3)  C1 (1536)                                C2 (1536) = S1
    server                              S0 (1: 3)  S1 (1536)  S2 (1536) = C1

Rules:

- S1 and C1 carry zeros as their version. A version tells Flash Player, FFmpeg and librtmp to look for
  an HMAC digest in the block; zeros make each of them fall back to this plain exchange.
- S2 is C1 to the byte and C2 is S1 to the byte: librtmp compares all 1536 bytes.
- The peer's last block is taken unread. Clients with digests put one there, old encoders send zeros,
  and nothing on a connection depends on it.
- A first byte other than 3 is refused: 6 and 8 are RTMPE, whose bytes cannot be read from outside.

It refuses to know the time and to make random bytes: both come in.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import RTMPError

VERSION: Final = 3
BLOCK_BYTES: Final = 1536
# What follows the four bytes of time and the four of version in a block.
RANDOM_BYTES: Final = BLOCK_BYTES - 8
# C0, C1 and C2, or S0, S1 and S2: where the chunks begin.
HANDSHAKE_BYTES: Final = 1 + 2 * BLOCK_BYTES


def _block(time_ms: int, random: bytes) -> bytes:
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a handshake block takes {RANDOM_BYTES} random bytes, not {len(random)}")
    return (time_ms & 0xFFFFFFFF).to_bytes(4, "big") + bytes(4) + random


class _Side:
    """What both sides do: answer the peer's first block once, and wait for its second."""

    __slots__ = ("_answered", "_own", "_received", "done", "rest")

    def __init__(self, time_ms: int, random: bytes) -> None:
        self._own = _block(time_ms, random)
        self._received = bytearray()
        self._answered = False
        self.done = False
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """Take the peer's bytes; what is returned is owed to it at once.

        Not to be called once ``done``: the bytes after the handshake are in ``rest`` then. Raises
        ``RTMPError`` on another version, at its first byte.
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


class ServerHandshake(_Side):
    """A server's side of one handshake: ``time_ms`` is any clock, ``random`` fills S1."""

    __slots__ = ()

    def _answer_to(self, block: bytes) -> bytes:
        return bytes([VERSION]) + self._own + block


class ClientHandshake(_Side):
    """A client's side of one handshake: send ``hello`` first, then what ``receive`` returns (C2).

    It is ``done`` when S2 is there too, unread: servers with digests put one there.
    """

    __slots__ = ("hello",)

    def __init__(self, time_ms: int, random: bytes) -> None:
        super().__init__(time_ms, random)
        self.hello = bytes([VERSION]) + self._own

    def _answer_to(self, block: bytes) -> bytes:
        return block
