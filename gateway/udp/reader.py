"""Read events of a UDP socket, as the reactor delivers them.

Unlike Twisted's UDP port, a reader neither copies datagrams to a protocol nor handles errors: ``read``
does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, final

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


@final
@implementer(IReadDescriptor)
class DatagramReader:
    """``read`` reads datagrams until none is left, or as many as one turn may take. ``failed`` is called
    with an error of the socket, such as an ICMP message, unless a call of ``read`` gets it.
    """

    def __init__(
        self,
        reactor: Any,
        udp: socket.socket,
        read: Callable[[], None],
        failed: Callable[[BaseException | None], None],
    ) -> None:
        self._reactor = reactor
        self._read = read
        self._failed = failed
        self.socket = udp

    def start(self) -> None:
        self._reactor.addReader(self)

    def close(self) -> None:
        """Stop reading, and close the socket."""
        if self.fileno() != -1:
            self._reactor.removeReader(self)
            self.socket.close()

    # Called by the reactor

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> None:
        self._read()

    def logPrefix(self) -> str:
        return "udp"

    def connectionLost(self, reason: Failure) -> None:
        """The socket has an error and no datagram, or ``read`` has failed. The reactor has removed it."""
        if self.fileno() == -1:
            return
        if not reason.check(ConnectionDone, ConnectionLost):
            self._failed(reason.value)
            return
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._failed(OSError(number, os.strerror(number)))
        else:
            # A failed send has reported the error in the meantime.
            self.start()
