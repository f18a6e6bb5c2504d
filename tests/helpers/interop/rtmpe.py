"""An RTMPE server in front of a plain RTMP server: handshake and ciphers as in librtmp.

    https://github.com/RTMPDump/librtmp, rtmp.c and handshake.h (type 6, Flash Player 10)

    C1, S1   random, but for a public key of Diffie and Hellman, and a digest over all of it, at places
             that the bytes themselves say
    C2, S2   random, but for a signature with the digest of the other's at their end
    after    two streams of RC4, keyed by the common secret and either public key, 1536 bytes in

RTMPE has been broken since 2009 and gives no secrecy. The tests need the real protocol, so that its data
is opaque to the gateway.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import randbelow, token_bytes
from threading import Thread

from tests.helpers.interop.servers import LOOPBACK

_SIZE = 1536
_KEY_BYTES = 128
_COMMON = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_SERVER = b"Genuine Adobe Flash Media Server 001"
_PLAYER = b"Genuine Adobe Flash Player 001"
# RFC 2409, 6.2.
_PRIME = int(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd"
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff",
    16,
)


def _sha256(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def _place_of_key(signature: bytes) -> int:
    return sum(signature[768:772]) % 632 + 8


def _place_of_digest(signature: bytes) -> int:
    return sum(signature[772:776]) % 728 + 776


def _digest(signature: bytes, key: bytes) -> bytes:
    at = _place_of_digest(signature)
    return _sha256(key, signature[:at], signature[at + 32 :])


def _rc4(key: bytes) -> Iterator[int]:
    """The RC4 key stream, from the offset where RTMPE begins to use it."""
    state = list(range(256))
    other = 0
    for place in range(256):
        other = (other + state[place] + key[place % len(key)]) % 256
        state[place], state[other] = state[other], state[place]
    one = other = produced = 0
    while True:
        one = (one + 1) % 256
        other = (other + state[one]) % 256
        state[one], state[other] = state[other], state[one]
        produced += 1
        if produced > _SIZE:
            yield state[(state[one] + state[other]) % 256]


def _key_pair(peers: int) -> tuple[bytes, bytes]:
    """The server's public key and the shared secret, in full length: librtmp omits leading zeros."""
    while True:
        private = randbelow(_PRIME)
        secret = pow(peers, private, _PRIME).to_bytes(_KEY_BYTES, "big")
        if secret[0]:
            return pow(2, private, _PRIME).to_bytes(_KEY_BYTES, "big"), secret


def _some(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "the connection has ended"
        data += piece
    return data


def _signature(public: bytes) -> bytes:
    """S1."""
    signature = bytearray(token_bytes(_SIZE))
    at = _place_of_key(signature)
    signature[at : at + _KEY_BYTES] = public
    at = _place_of_digest(signature)
    signature[at : at + 32] = _digest(signature, _SERVER)
    return bytes(signature)


def _shake_hands(client: socket.socket) -> tuple[Iterator[int], Iterator[int]]:
    """The key streams for received and sent data."""
    hello = _some(client, 1 + _SIZE)
    asked = hello[1:]
    assert hello[0] == 6
    at = _place_of_digest(asked)
    digest = asked[at : at + 32]
    assert digest == _digest(asked, _PLAYER), "no digest of a player's"
    at = _place_of_key(asked)
    peers = asked[at : at + _KEY_BYTES]
    public, secret = _key_pair(int.from_bytes(peers, "big"))
    answer = token_bytes(_SIZE - 32)
    proof = _sha256(_sha256(_SERVER + _COMMON, digest), answer)
    client.sendall(b"\x06" + _signature(public) + answer + proof)
    _some(client, _SIZE)
    return _rc4(_sha256(secret, public)[:16]), _rc4(_sha256(secret, peers)[:16])


def _join_plain(port: int) -> socket.socket:
    """A connection to a plain server, after its handshake."""
    server = socket.create_connection((LOOPBACK, port))
    server.sendall(b"\x03" + bytes(_SIZE))
    _some(server, 1 + _SIZE)
    server.sendall(_some(server, _SIZE))
    return server


def _pass_on(source: socket.socket, sink: socket.socket, stream: Iterator[int]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(bytes(octet ^ mask for octet, mask in zip(data, stream, strict=False)))
        sink.shutdown(socket.SHUT_WR)


def _serve(client: socket.socket, port: int) -> None:
    with client:
        stream_in, stream_out = _shake_hands(client)
        with _join_plain(port) as server:
            up = Thread(target=_pass_on, args=[client, server, stream_in])
            up.start()
            _pass_on(server, client, stream_out)
            up.join()


@contextmanager
def encrypted(port: int) -> Iterator[int]:
    """A port that serves RTMPE to one client, from the plain server at ``port``."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        listening.settimeout(30)
        server = Thread(target=lambda: _serve(listening.accept()[0], port))
        server.start()
        yield listening.getsockname()[1]
        server.join()
