"""Media servers that misbehave in TLS: what they send is bounded."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost

from gateway.tls import TLSConnection
from gateway.upstreams.tls_client import ClientTLS, ServerTLS, client_context
from tests.helpers.line import Line
from tests.helpers.renegotiations import CIPHER, renegotiations

NAME = "media.example"


class Above:
    """The protocol inside TLS, or in its place during the handshake."""

    def __init__(self) -> None:
        self.losses: list[Any] = []
        self.received = 0

    def makeConnection(self, _: object) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)

    def connectionLost(self, reason: Any) -> None:
        self.losses.append(reason.value)


class Gateway:
    """The gateway's end of a connection to a server, on a line."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.above = Above()
        self.handshakes = 0
        self.line = Line()
        self.tls = ServerTLS(ClientTLS(context), NAME, NAME).connection(self._handshaken)
        self.tls.protocol = self.above
        self.line.connect(self.tls)

    def _handshaken(self, _: TLSConnection) -> None:
        self.handshakes += 1


def test_a_handshake_message_without_end_closes_the_connection() -> None:
    gateway = Gateway(client_context())
    # A ServerHello of 16 MB, in records of 16 KiB.
    message = b"\x02\xff\xff\xff" + bytes(1 << 20)
    for start in range(0, len(message), 1 << 14):
        piece = message[start : start + (1 << 14)]
        gateway.line.says(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece)
        assert gateway.tls._incoming.pending <= (1 << 14) + 5
    assert gateway.line.is_gone
    assert [type(loss) for loss in gateway.above.losses] == [ssl.SSLError]


def test_repeated_requests_for_renegotiation_close_the_connection(
    authority: trustme.CA,
) -> None:
    context = client_context(ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode()))
    gateway = Gateway(context)
    server = accepted(gateway, authority)
    asked = renegotiations(server, is_server=True)
    before = len(gateway.line.writes)
    gateway.line.says(next(asked))
    # A refusal, after which the connection can be used.
    assert gateway.line.received[-31:-28] == b"\x15\x03\x03"
    assert not gateway.line.is_gone
    for _ in range(100):
        gateway.line.says(next(asked))
    assert gateway.line.is_gone
    assert len(gateway.line.writes) - before < 10
    assert gateway.handshakes == 1
    assert [type(loss) for loss in gateway.above.losses] == [ConnectionLost]


def accepted(gateway: Gateway, authority: trustme.CA) -> SSL.Connection:
    """A server of TLS 1.2 at the other end, after its handshake."""
    issued = authority.issue_cert(NAME, key_type=trustme.KeyType.ECDSA)
    context = SSL.Context(SSL.TLSv1_2_METHOD)
    context.set_cipher_list(CIPHER)
    key, certificate = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    context.use_privatekey(load_pem_private_key(key, None))  # type: ignore[arg-type]
    context.use_certificate(load_pem_x509_certificate(certificate))
    server = SSL.Connection(context, None)
    server.set_accept_state()
    taken = 0
    for _ in range(4):
        if gateway.line.received[taken:]:
            server.bio_write(bytes(gateway.line.received[taken:]))
            taken = len(gateway.line.received)
        with suppress(SSL.WantReadError):
            server.do_handshake()
        with suppress(SSL.WantReadError):
            gateway.line.says(server.bio_read(65536))
    assert gateway.handshakes == 1
    return server
