"""The issuer of a certificate that verification has refused.

OpenSSL does not return the certificate of a handshake that has failed. So it is read on a second
connection, whose handshake verifies nothing, and on which nothing is sent.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any, Final, final

from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.port_test.certificates import read_certificate
from gateway.upstreams.dial import Server, attempt
from gateway.upstreams.tls_client import ClientTLS, TLSFailed, client_context

# The failed way is not reported before that.
_READ_S: Final = 1.0


async def note_issuer(reactor: Any, server: Server, failed: TLSFailed) -> None:
    """Set the failure's ``issuer``, if verification has failed and the certificate can be read again.

    ``server``: with TLS that verifies nothing (``reading_tls``).
    """
    if not isinstance(failed.error, ssl.SSLCertVerificationError) or not server.hosts:
        return
    reader = _Reader()
    reading = attempt(reactor, server, reader, server.hosts_in_order()[0], _READ_S, opens=False)
    try:
        await reading.done
    except ConnectError:
        return
    certificate = read_certificate(reader.certificate, datetime.now(UTC))
    failed.issuer = certificate.issuer if certificate is not None else ""


def reading_tls() -> ClientTLS:
    """TLS that verifies nothing."""
    return ClientTLS(client_context(verify=False))


@final
@implementer(IProtocol)
class _Reader:
    def __init__(self) -> None:
        self.certificate = b""

    def makeConnection(self, transport: Any) -> None:
        self.certificate = transport.peer_certificate
        transport.abortConnection()

    def connectionMade(self) -> None:
        """Part of IProtocol; ``makeConnection`` has done the work."""

    def dataReceived(self, data: bytes) -> None:
        """Not called: the connection has been aborted."""

    def connectionLost(self, reason: Failure) -> None:
        """Nothing to do."""
