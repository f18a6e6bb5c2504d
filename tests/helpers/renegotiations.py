"""Records of TLS 1.2 that each ask for a renegotiation, which OpenSSL does not send without an answer."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from itertools import count, islice

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

# The one cipher whose records are made here.
CIPHER = b"ECDHE-ECDSA-AES128-GCM-SHA256"
# The messages that begin a renegotiation (RFC 5246, 7.4.1).
HELLO_REQUEST, CLIENT_HELLO = b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"


def renegotiations(connection: SSL.Connection, is_server: bool) -> Iterator[bytes]:
    """Records of the end ``connection`` after its handshake (RFC 5246, 6.3; RFC 5288, 3)."""
    secret = connection.master_key()
    randoms = connection.server_random() + connection.client_random()
    keys = b"".join(islice(_expanded(secret, b"key expansion" + randoms), 2))
    engine = AESGCM(keys[16:32] if is_server else keys[:16])
    salt = keys[36:40] if is_server else keys[32:36]
    message = HELLO_REQUEST if is_server else CLIENT_HELLO
    # The Finished message was the first encrypted record.
    for number in count(1):
        nonce = number.to_bytes(8, "big")
        head = nonce + b"\x16\x03\x03" + len(message).to_bytes(2, "big")
        sealed = nonce + engine.encrypt(salt + nonce, message, head)
        yield b"\x16\x03\x03" + len(sealed).to_bytes(2, "big") + sealed


def _expanded(secret: bytes, seed: bytes) -> Iterator[bytes]:
    """P_SHA256 of RFC 5246, 5."""
    link = seed
    while True:
        link = hmac.digest(secret, link, "sha256")
        yield hmac.digest(secret, link + seed, "sha256")
