"""Twisted's listening ports, with accepted connections of ``transport`` and a pause after a failed accept.

Internals in use, which the tests check on every supported Twisted: ``Port.transport``, ``Port._logger`` and
``_FileDescriptorReservation._log``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from errno import EMFILE
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.logger import ILogObserver, LogEvent, Logger
from zope.interface import implementer

from gateway.descriptors import CAUSES
from gateway.logs import repeated
from gateway.transport import EagerServer, EagerUnixServer

_log = Logger()

# How long accepting is paused after a failed accept.
_ACCEPT_PAUSE_S = 0.1
# How long a worker with more connections than others leaves the next ones to them. The others take a
# connection within a fraction of this, unless they are busy or stopped.
_LEAVE_S = 0.002
# Connections accepted at once, if several workers accept on the same socket.
_AT_ONCE = 16


@implementer(ILogObserver)
def _report_accept(event: LogEvent) -> None:
    """Twisted's log events of an accept that failed, three or more for each, as one warning a minute."""
    if "address" in event:
        repeated.warn(
            _log,
            "no_descriptors",
            "connection refused: {cause}",
            cause=CAUSES[EMFILE],
        )
    elif "acceptError" in event:
        error = event["acceptError"]
        repeated.warn(
            _log, f"accept {error}", "connection not accepted: {error} (accept(2))", error=error
        )
    elif "log_failure" in event:
        repeated.warn(_log, "no_reserve", "the reserved file descriptor was taken by another use")


# What the ports below log of ``accept``, and Twisted of the descriptor that it keeps for it.
_ACCEPTS = Logger("gateway.listeners.accept", observer=_report_accept)
tcp._FileDescriptorReservation._log = _ACCEPTS


class ListeningSocket(socket.socket):
    """``failed`` is set if ``accept`` failed for lack of descriptors or memory."""

    failed = False

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            self.failed = self.failed or error.errno in CAUSES
            raise


class PausingPort:
    """Mix-in for subclasses of ``tcp.Port``: pauses after a failed ``accept``.

    The connection stays in the accept queue and the port readable, so that without a pause the reactor
    would retry in every iteration.

    ``leaves_to_others``: whether another worker should take the next connection; None if no other accepts.
    Then this one pauses briefly, and takes what is still there.
    """

    leaves_to_others: Callable[[], bool] | None = None
    _has_left = False

    # Of tcp.Port
    socket: ListeningSocket
    reactor: Any
    connected: Any
    numberAccepts: int
    startReading: Any
    stopReading: Any

    def startListening(self) -> None:
        super().startListening()  # type: ignore[misc]
        self._watch()

    def _watch(self) -> None:
        plain: socket.socket = self.socket
        self.socket = ListeningSocket(plain.family, plain.type, plain.proto, plain.detach())
        self.socket.setblocking(False)
        self.fileno = self.socket.fileno

    def doRead(self) -> None:
        if self.leaves_to_others is not None:
            if not self._has_left and self.leaves_to_others():
                self._has_left = True
                self._pause(_LEAVE_S)
                return
            self._has_left = False
            self.numberAccepts = _AT_ONCE
        super().doRead()  # type: ignore[misc]
        if self.socket.failed:
            self.socket.failed = False
            self._pause(_ACCEPT_PAUSE_S)

    def _pause(self, seconds: float) -> None:
        self.stopReading()
        self.reactor.callLater(seconds, self._read_again)

    def _read_again(self) -> None:
        if self.connected:
            self.startReading()


class EagerUnixPort(PausingPort, unix.Port):  # type: ignore[misc]
    """A UNIX listener whose connections are ``EagerUnixServer``s."""

    transport = EagerUnixServer
    _logger = _ACCEPTS


class AdoptedUnixPort(EagerUnixPort):
    """A UNIX listener opened by another process (systemd). Its file and mode are not changed.

    ``owns_file``: whether this process has made the file before it replaced its program, and removes it.
    """

    owns_file = False
    factory: Any
    fileno: Any
    startReading: Any

    def startListening(self) -> None:
        self.factory.doStart()
        adopted: Any = self._preexistingSocket
        self._preexistingSocket = None
        self.socket = adopted
        self._watch()
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        path = self.socket.getsockname()
        # Not unix.Port's, which always removes the file.
        tcp.Port.connectionLost(self, reason)
        if self.owns_file:
            Path(path).unlink(missing_ok=True)


class EagerPort(PausingPort, tcp.Port):  # type: ignore[misc]
    """A listener whose connections are ``EagerServer``s; on an IPv6 address, for IPv6 alone."""

    transport = EagerServer  # type: ignore[assignment]
    _logger = _ACCEPTS
    addressFamily: socket.AddressFamily

    def createInternetSocket(self) -> socket.socket:
        created: socket.socket = super().createInternetSocket()  # type: ignore[no-untyped-call]
        if self.addressFamily == socket.AF_INET6:
            created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return created
