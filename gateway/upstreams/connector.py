"""Connections to servers: Twisted's, with immediate writes (``transport``) and a source address.

Internals in use, which the tests check on every supported Twisted: ``Connector._makeTransport`` and
``BaseClient._connectDone``; and of an established ``tcp.Client``, that it only reports its loss to its
``connector``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import EMFILE
from typing import Any, Final, final

from twisted.internet import tcp
from twisted.python.failure import Failure

from gateway.descriptors import descriptors
from gateway.transport import LAST_BYTES_OF_STREAM, EagerWrites
from gateway.vanished_peers import notice_vanished

_SERVER_CONNECTION: Final = "a server's connection"

# IP_BIND_ADDRESS_NO_PORT of linux/in.h, which ``socket`` has since Python 3.12. Without it, binding a
# source address takes a port that connections to other servers cannot share.
_BIND_ADDRESS_NO_PORT: Final = 24


class EagerClient(EagerWrites, tcp.Client):  # type: ignore[misc]
    """A connection to an upstream."""

    last_bytes = LAST_BYTES_OF_STREAM
    connector: Any

    def createInternetSocket(self) -> socket.socket:
        created: socket.socket = super().createInternetSocket()  # type: ignore[no-untyped-call]
        if not descriptors.allow_server():
            created.close()
            raise OSError(EMFILE, os.strerror(EMFILE))
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.connector.source_address:
            _bind(created, self.connector.source_address)
        return created

    def _connectDone(self) -> None:
        super()._connectDone()  # type: ignore[no-untyped-call]
        # Twisted makes a string for each connection, which is not used here.
        self.logstr = _SERVER_CONNECTION


def _bind(unconnected: socket.socket, source_address: str) -> None:
    """Closes the socket if the address cannot be bound; Twisted's own binding leaves it open."""
    try:
        unconnected.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        unconnected.bind((source_address, 0))
    except OSError:
        unconnected.close()
        raise


class EagerConnector(tcp.Connector):
    """A connector whose connections are ``EagerClient``s, with detection of vanished servers.

    ``source_address``: an address of this machine; empty if the system chooses it.
    """

    vanished_s = 15.0
    source_address = ""

    def _makeTransport(self) -> EagerClient:
        make: Any = EagerClient
        client: EagerClient = make(self.host, self.port, self.bindAddress, self, self.reactor)
        # There is none if creating it failed; Twisted reports that.
        if getattr(client, "socket", None) is not None:
            notice_vanished(client.socket, self.vanished_s)
        return client

    def release(self, lost: Callable[[], object]) -> None:
        """The connection is established: ``lost`` is called when it has ended, and nothing else is.

        Without this, each connection would keep its connector and all that has begun the connect.
        """
        transport: Any = self.transport
        transport.connector = _Established(lost)
        del self.factory


@final
class _Established:
    """What Twisted uses as the connector of an established connection."""

    __slots__ = ("_lost",)

    def __init__(self, lost: Callable[[], object]) -> None:
        self._lost = lost

    def connectionLost(self, reason: Failure) -> None:
        self._lost()
