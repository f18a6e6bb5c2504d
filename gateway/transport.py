"""Twisted's TCP transports with the write tried at once; the only code that knows them from inside.

Twisted's own ``write`` puts the bytes into a buffer, asks the reactor to watch the socket for room, and
sends on the next turn: two system calls for epoll and a turn's delay for each answer. Nearly always the
kernel has room. ``EagerWrites`` sends first and hands over to Twisted's path only what the kernel did not
take, so that back-pressure, half-close, loss and ordering stay Twisted's.

What is used from inside, and what the tests hold on every supported Twisted: ``dataBuffer``, ``offset``,
``_tempDataBuffer``, ``_tempDataLen`` and ``_isSendBufferFull`` of ``abstract.FileDescriptor``,
``Connector._makeTransport``, ``Port.transport``, ``Port._logger``, ``_FileDescriptorReservation._log``, and
for ``dispatch_directly`` the ``_poller`` and ``_selectables`` of ``EPollReactor``.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from errno import EHOSTUNREACH, EMFILE, ENETDOWN, ENETUNREACH, ETIMEDOUT
from fcntl import ioctl
from functools import partial
from select import EPOLLIN
from termios import FIONREAD, TIOCOUTQ
from typing import Any

from twisted.internet import error, main, tcp, unix
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.descriptors import CAUSES, descriptors
from gateway.logs import repeated

# One read; the kernel's own socket buffers start at 128 KiB, and larger reads gain nothing measurable.
READ_BYTES = 64 * 1024
# Above this, two buffers handed to the kernel in one call beat joining them first.
JOIN_BYTES = 16 * 1024

# What the kernel may keep of a client's that its window has no room for yet. Without a bound it takes
# megabytes from us for a client that reads nothing, and a thousand of those cost gigabytes, moved at once;
# with less than a read or two, a fast client would wait for us.
_UNSENT_BYTES = 128 * 1024

# What is read of a connection that was lost while nobody read it: all that the kernel may hold
# (tcp(7), tcp_rmem) of a server of ours, and of a client its commands, of which the answers did not fit.
_LAST_OF_SERVER_BYTES = 8 * 1024 * 1024
_LAST_OF_CLIENT_BYTES = 256 * 1024

# How long a port rests that could not accept a connection.
_ACCEPT_PAUSE_S = 0.1
# In linux/tcp.h's struct tcp_info: ``tcpi_min_rtt``, 32 bits of microseconds.
_ROUND_TRIP_AT = 148
_TCP_INFO_BYTES = _ROUND_TRIP_AT + 4
_NO_ROUND_TRIP = 0xFFFFFFFF

# What the kernel says of a peer whose network takes no packets any more: the probes' own time-out, or what
# the last router, or this machine's neighbour table, said of the address meanwhile.
_VANISHED = frozenset((ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN))

_log = Logger()


def notice_vanished(sock: socket.socket, vanished_s: float) -> None:
    """Have the kernel give up a TCP connection whose peer has acknowledged nothing for so long.

    Set on a listening socket, it holds for all connections that are accepted there. A silent connection is
    probed (tcp(7), SO_KEEPALIVE) once a third of the time has passed, then each second. TCP_USER_TIMEOUT
    bounds both the probes and data that is not acknowledged. It also bounds how long a peer may keep its
    window shut: a client that reads nothing for so long is given up too.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (
        (socket.TCP_KEEPIDLE, max(1, int(vanished_s / 3))),
        (socket.TCP_KEEPINTVL, 1),
        # The user time-out decides.
        (socket.TCP_KEEPCNT, 127),
        (socket.TCP_USER_TIMEOUT, int(vanished_s * 1000)),
    )
    for option, value in options:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def has_vanished(reason: Failure) -> bool:
    """Whether a connection was lost because its peer vanished."""
    return reason.check(error.TimeoutError) is not None


class EagerWrites:
    """Mixed in before ``tcp.Connection``'s descendants.

    ``high_water_bytes``: a registered streaming producer is paused while more than this is unsent, and
    resumed when nothing is. 0 means: told as soon as the kernel does not take everything.
    """

    bufferSize = READ_BYTES
    high_water_bytes = READ_BYTES
    last_bytes = _LAST_OF_CLIENT_BYTES
    # The number of the last error of a call.
    _cause: int | None = None

    # Of tcp.Connection
    socket: socket.socket
    protocol: Any
    abortConnection: Any
    connected: int
    disconnecting: int
    dataBuffer: bytes
    offset: int
    _tempDataBuffer: list[bytes]
    _tempDataLen: int
    _writeDisconnecting: bool
    _aborting: bool
    producerPaused: bool

    @property
    def unsent(self) -> int:
        """How many bytes were written that the kernel has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def unacknowledged(self) -> int:
        """How many bytes were written that the peer's kernel has not got yet (tcp(7), SIOCOUTQ).

        When it shrinks, the peer takes: a buffer that stays full does not say so.
        """
        if not self.connected:
            return 0
        try:
            in_kernel = ioctl(self.socket, TIOCOUTQ, bytes(4))
        except OSError:
            return self.unsent
        return self.unsent + int.from_bytes(in_kernel, sys.byteorder)

    @property
    def unread(self) -> int:
        """How many bytes have arrived that were not read yet (tcp(7), SIOCINQ)."""
        try:
            arrived = ioctl(self.socket, FIONREAD, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(arrived, sys.byteorder)

    @property
    def round_trip_s(self) -> float:
        """The least round trip time that the kernel saw lately; 0.0 where it saw none (tcp(7), TCP_INFO).

        Its average counts delayed acknowledgements too, of 40 ms on any network.
        """
        if not self.connected:
            return 0.0
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return 0.0
        least_us = int.from_bytes(info[_ROUND_TRIP_AT:], sys.byteorder)
        return 0.0 if least_us == _NO_ROUND_TRIP else least_us / 1e6

    def write(self, data: bytes) -> None:
        """Send ``data``, at once as far as the kernel takes it."""
        # ``_must_queue``, without the call: this runs for each command.
        if (
            self.dataBuffer
            or self._tempDataBuffer
            or not self.connected
            or self._writeDisconnecting
            or self._aborting
        ):
            super().write(data)  # type: ignore[misc]
            return
        try:
            sent = self.socket.send(data)
        except OSError as refusal:
            # Would block, or is lost: either way Twisted's next attempt finds out and deals with it.
            self._cause = refusal.errno
            sent = 0
        if sent < len(data):
            super().write(data[sent:] if sent else data)  # type: ignore[misc]

    def write_two(self, first: bytes, second: bytes) -> None:
        """Send ``first`` and ``second`` as one write."""
        if len(second) <= JOIN_BYTES or self._must_queue():
            self.write(first + second)
            return
        try:
            sent = self.socket.sendmsg((first, second))
        except OSError as refusal:
            self._cause = refusal.errno
            sent = 0
        if sent < len(first) + len(second):
            self.write((first + second)[sent:])

    def abort_now(self) -> None:
        """Abort the connection; the peer is told before what is written elsewhere from now on.

        Twisted's own ``abortConnection`` closes in the reactor's next turn.
        """
        if self.connected:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        self.abortConnection()

    def acknowledge_now(self) -> None:
        """Have the kernel acknowledge what has come, instead of waiting up to 40 ms for an answer.

        tcp(7), TCP_QUICKACK: not permanent, so it is asked for whenever it is needed.
        """
        if self.connected:
            with suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def doRead(self) -> Exception | None:
        """As ``tcp.Connection``'s, without the two calls between the socket and the protocol."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as refusal:
            self._cause = refusal.errno
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def connectionLost(self, reason: Failure) -> None:
        # A write that fails is told before what the peer had said: that still is in the kernel.
        is_ours = self._aborting or self.disconnecting
        if (
            self.connected
            and not is_ours
            and reason.check(error.ConnectionLost, error.ConnectionDone)
        ):
            self._read_out()
            if self._peer_vanished():
                reason = Failure(error.TimeoutError())
        super().connectionLost(reason)  # type: ignore[misc]

    def _peer_vanished(self) -> bool:
        """The kernel tells its reason once, to whichever call comes first."""
        with suppress(OSError):
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._cause = number or self._cause
        return self._cause in _VANISHED

    def _read_out(self) -> None:
        """Hand up what the kernel still has."""
        left = self.last_bytes
        try:
            while left > 0 and not self._aborting and (data := self.socket.recv(READ_BYTES)):
                left -= len(data)
                self.protocol.dataReceived(data)
        except BlockingIOError:
            return
        except OSError as refusal:
            self._cause = refusal.errno
        except Exception:
            _log.failure("A connection failed")

    def _must_queue(self) -> bool:
        """Whether a write is Twisted's: behind what is queued already, or after the end of writing."""
        return bool(
            self.dataBuffer
            or self._tempDataBuffer
            or not self.connected
            or self._writeDisconnecting
            or self._aborting
        )

    def _isSendBufferFull(self) -> bool:
        return self.unsent > self.high_water_bytes

    def _maybePauseProducer(self) -> None:
        # Twisted pauses again at each write over the mark; here a pause starts a deadline.
        if not self.producerPaused:
            super()._maybePauseProducer()  # type: ignore[misc]


class EagerServer(EagerWrites, tcp.Server):  # type: ignore[misc]
    """A connection that a listener accepted."""

    def __init__(self, sock: socket.socket, *args: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        super().__init__(sock, *args)


class EagerUnixServer(EagerWrites, unix.Server):  # type: ignore[misc]
    """A connection that a listener on a UNIX socket accepted."""


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
_ACCEPTS = Logger("gateway.transport.accept", observer=_report_accept)
tcp._FileDescriptorReservation._log = _ACCEPTS


class ListeningSocket(socket.socket):
    """``failed`` is set when the system had no descriptor or memory for a connection."""

    failed = False

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            self.failed = self.failed or error.errno in CAUSES
            raise


class PausingPort:
    """Mixed in before ``tcp.Port``'s descendants: a port that cannot accept waits a little.

    The connection stays in the kernel's queue and the port readable, so that without the pause the reactor
    would try, and fail, in each turn.
    """

    # Of tcp.Port
    socket: ListeningSocket
    reactor: Any
    connected: Any
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
        super().doRead()  # type: ignore[misc]
        if self.socket.failed:
            self.socket.failed = False
            self.stopReading()
            self.reactor.callLater(_ACCEPT_PAUSE_S, self._read_again)

    def _read_again(self) -> None:
        if self.connected:
            self.startReading()


class EagerUnixPort(PausingPort, unix.Port):  # type: ignore[misc]
    """A UNIX listener whose connections are ``EagerUnixServer``s."""

    transport = EagerUnixServer
    _logger = _ACCEPTS


class AdoptedUnixPort(EagerUnixPort):
    """A UNIX listener that was opened by another (systemd), whose file and mode stay as they are."""

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
        # Not unix.Port's, which removes the file.
        tcp.Port.connectionLost(self, reason)


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


class EagerClient(EagerWrites, tcp.Client):  # type: ignore[misc]
    """A connection to an upstream."""

    last_bytes = _LAST_OF_SERVER_BYTES

    def createInternetSocket(self) -> socket.socket:
        created: socket.socket = super().createInternetSocket()  # type: ignore[no-untyped-call]
        if not descriptors.allow_server():
            created.close()
            raise OSError(EMFILE, os.strerror(EMFILE))
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return created


class EagerConnector(tcp.Connector):
    """A connector whose connections are ``EagerClient``s; a server that vanishes is noticed in time."""

    vanished_s = 15.0

    def _makeTransport(self) -> EagerClient:
        make: Any = EagerClient
        client: EagerClient = make(self.host, self.port, self.bindAddress, self, self.reactor)
        # It has none when none was to be had, and says so itself.
        if getattr(client, "socket", None) is not None:
            notice_vanished(client.socket, self.vanished_s)
        return client


def dispatch_directly(reactor: object) -> bool:
    """Have the epoll reactor call ``doRead`` straight from its loop; whether this reactor can.

    Twisted enters a log context for each event, for the benefit of ``twisted.python.log`` users who want
    a prefix. This program logs through ``twisted.logger`` and never from the hot path, so the readable
    events of its own transports skip it. Everything else goes Twisted's way.
    """
    if type(reactor) is not EPollReactor:
        return False
    reactor.doIteration = partial(_poll, reactor)  # type: ignore[method-assign]
    return True


def _poll(reactor: EPollReactor, timeout: float | None) -> None:
    selectables: dict[int, Any] = reactor._selectables
    try:
        events = reactor._poller.poll(-1 if timeout is None else timeout, len(selectables) or 1)
    except InterruptedError:
        return
    for fd, event in events:
        selectable = selectables.get(fd)
        if event == EPOLLIN and isinstance(selectable, EagerWrites):
            try:
                why = selectable.doRead()
            except Exception as caught:
                _log.failure("A connection failed")
                why = caught
            if why:
                reactor._disconnectSelectable(selectable, why, True)
        elif selectable is not None:
            # As EPollReactor.doPoll does.
            log.callWithLogger(selectable, reactor._doReadOrWrite, selectable, fd, event)
