"""Servers with TLS on a test's network, and the certificates for them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from zope.interface import implementer

from gateway.addresses import ServerAddress
from gateway.listeners.tls_profile import server_context
from gateway.tls import TLSConnection, of_server
from gateway.upstreams.tls_client import client_context
from tests.upstreams.network import LOOPBACK, Network

NAME = "media.example"
_DAY = timedelta(days=1)


@implementer(IHalfCloseableProtocol)
class Connection:
    """One accepted connection, inside TLS. ``reused``: whether an earlier session was resumed.
    ``has_ended``: the client has ended its stream.
    """

    def __init__(self) -> None:
        self.transport: Any = None
        self.reused = False
        self.received = b""
        self.has_ended = False

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.has_ended = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, _: object) -> None:
        self.has_ended = True


class SecureServer:
    """A server that listens on ``network``. ``connections`` are those with a complete handshake."""

    def __init__(self, network: Network, context: ssl.SSLContext) -> None:
        self.connections: list[Connection] = []
        self.names: list[str | None] = []
        context.sni_callback = lambda _, name, __: self.names.append(name)
        self.address = network.listen(_Accepting(self._accept, context), "rtmps")

    def _accept(self, tls: TLSConnection) -> None:
        connection = Connection()
        connection.reused = bool(tls._tls.session_reused)
        self.connections.append(connection)
        tls.protocol = connection
        connection.makeConnection(tls)


class _Accepting(Factory):
    def __init__(self, accept: Callable[[TLSConnection], None], context: ssl.SSLContext) -> None:
        self._accept = accept
        self._context = context

    def buildProtocol(self, addr: object) -> Any:
        return TLSConnection(of_server(self._context), self._accept)


class Certificates:
    """Contexts and files with certificates of one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA(key_type=trustme.KeyType.ECDSA)

    @property
    def authorities(self) -> bytes:
        """The authority's certificate in DER."""
        return ssl.PEM_cert_to_DER_cert(self.ca.cert_pem.bytes().decode())

    def server(self, *names: str, starts: int = -1, ends: int = 60) -> ssl.SSLContext:
        """A server's context for these names; ``starts`` and ``ends`` are days from now."""
        return server_context(self.file(*names, starts=starts, ends=ends))

    def file(self, *names: str, starts: int = -1, ends: int = 60) -> str:
        """The path of a file with a certificate for these names, and its key."""
        now = datetime.now(UTC)
        issued = self.ca.issue_cert(
            *names,
            not_before=now + starts * _DAY,
            not_after=now + ends * _DAY,
            key_type=trustme.KeyType.ECDSA,
        )
        path = self.folder / f"{len([*self.folder.iterdir()])}.pem"
        path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        return str(path)

    def client(self, certificate: str = "") -> ssl.SSLContext:
        """A client's context, which trusts the authority alone."""
        return client_context(self.authorities, certificate)


def named(address: ServerAddress, network: Network, name: str = NAME) -> ServerAddress:
    """The same server, by its name."""
    network.names.hosts[name] = [LOOPBACK]
    return ServerAddress(name, address.port, address.scheme)
