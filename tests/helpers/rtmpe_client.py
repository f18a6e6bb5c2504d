"""An RTMPE client and a server without sockets, which share no code with the gateway.

Written after librtmp's ``handshake.h``: C1 with its public key and digest, checks of S1 and S2, and RC4;
and the same of a server.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

_COMMON = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_PLAYER = b"Genuine Adobe Flash Player 001"
_SERVER = b"Genuine Adobe Flash Media Server 001"
# RFC 2409, 6.2.
PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)


def _sha256(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"".join(parts), "sha256").digest()


def _places(block: bytes, scheme: int) -> tuple[int, int]:
    """Where the digest and the public key are, in scheme 0 or 1 as librtmp numbers them."""
    if scheme == 0:
        return sum(block[8:12]) % 728 + 12, sum(block[1532:1536]) % 632 + 772
    return sum(block[772:776]) % 728 + 776, sum(block[768:772]) % 632 + 8


def rc4(key: bytes) -> Iterator[int]:
    """The key stream."""
    state, other = list(range(256)), 0
    for place in range(256):
        other = (other + state[place] + key[place % len(key)]) % 256
        state[place], state[other] = state[other], state[place]
    one = other = 0
    while True:
        one = (one + 1) % 256
        other = (other + state[one]) % 256
        state[one], state[other] = state[other], state[one]
        yield state[(state[one] + state[other]) % 256]


def _secret(its: bytes, private: int) -> bytes:
    """The shared secret as long as it is, at the beginning of 128 bytes."""
    secret = pow(int.from_bytes(its, "big"), private, PRIME)
    return secret.to_bytes((secret.bit_length() + 7) // 8, "big").ljust(128, b"\0")


class RTMPEClient:
    """``hello`` is C0 and C1. ``answer`` takes S0, S1 and S2; then ``encrypt`` and ``decrypt`` work."""

    def __init__(self, scheme: int = 1, version: int = 6, private: int = 3**200) -> None:
        self._scheme = scheme
        self._private = private
        block = bytearray(index * 7 % 251 for index in range(1536))
        block[4:8] = b"\x80\x00\x03\x02"
        _, key_at = _places(block, scheme)
        self._public = block[key_at : key_at + 128] = pow(2, private, PRIME).to_bytes(128, "big")
        at, _ = _places(block, scheme)
        self._digest = _sha256(_PLAYER, block[:at], block[at + 32 :])
        block[at : at + 32] = self._digest
        self.hello = bytes([version]) + block

    def answer(self, data: bytes) -> bytes:
        """Check S0, S1 and S2 as librtmp does, for version 6. Returns C2."""
        s1, s2 = data[1:1537], data[1537:]
        assert data[0] == self.hello[0]
        assert len(s2) == 1536
        at, key_at = _places(s1, self._scheme)
        assert s1[at : at + 32] == _sha256(_SERVER, s1[:at], s1[at + 32 :])
        key = _sha256(_SERVER + _COMMON, self._digest)
        assert data[0] == 8 or s2[-32:] == _sha256(key, s2[:-32])
        its = s1[key_at : key_at + 128]
        self.secret = _secret(its, self._private)
        self._sent = rc4(_sha256(self.secret, its)[:16])
        self._received = rc4(_sha256(self.secret, self._public)[:16])
        for stream in (self._sent, self._received):
            for _ in range(1536):
                next(stream)
        return bytes(1536)

    def encrypt(self, data: bytes) -> bytes:
        return bytes(octet ^ next(self._sent) for octet in data)

    def decrypt(self, data: bytes) -> bytes:
        return bytes(octet ^ next(self._received) for octet in data)


class RTMPEServer:
    """``answer`` takes C0 and C1, and returns S0, S1 and S2; then ``encrypt`` and ``decrypt`` work."""

    def __init__(self, scheme: int = 1, version: int = 6, private: int = 3**190) -> None:
        self._scheme = scheme
        self._version = version
        self._private = private
        self.digest = self.secret = b""

    def answer(self, hello: bytes) -> bytes:
        """Checks C1 as librtmp's server does: its digest in the second scheme."""
        assert len(hello) == 1537
        assert hello[0] == 6
        c1 = hello[1:]
        at, key_at = _places(c1, 1)
        asked = c1[at : at + 32]
        assert asked == _sha256(_PLAYER, c1[:at], c1[at + 32 :])
        its = c1[key_at : key_at + 128]
        block = bytearray(index * 5 % 253 for index in range(1536))
        _, key_at = _places(block, self._scheme)
        public = block[key_at : key_at + 128] = pow(2, self._private, PRIME).to_bytes(128, "big")
        at, _ = _places(block, self._scheme)
        self.digest = _sha256(_SERVER, block[:at], block[at + 32 :])
        block[at : at + 32] = self.digest
        self.secret = _secret(its, self._private)
        self._sent = rc4(_sha256(self.secret, its)[:16])
        self._received = rc4(_sha256(self.secret, public)[:16])
        for stream in (self._sent, self._received):
            for _ in range(1536):
                next(stream)
        s2 = bytes(1504)
        proof = _sha256(_sha256(_SERVER + _COMMON, asked), s2)
        return bytes([self._version]) + block + s2 + proof

    def accepts(self, c2: bytes) -> bool:
        """Whether the digest in C2, of version 6, is the right one."""
        return c2[-32:] == _sha256(_sha256(_PLAYER + _COMMON, self.digest), c2[:-32])

    def encrypt(self, data: bytes) -> bytes:
        return bytes(octet ^ next(self._sent) for octet in data)

    def decrypt(self, data: bytes) -> bytes:
        return bytes(octet ^ next(self._received) for octet in data)
