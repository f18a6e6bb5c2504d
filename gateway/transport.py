"""Twisted's TCP transports with immediate writes.

Twisted's ``write`` buffers the data, has the reactor watch the socket, and sends in the next iteration of
the reactor: two additional epoll system calls and a delay for each answer, although the socket buffer
nearly always has room. ``EagerWrites`` sends immediately, and passes only the remainder to Twisted's
``write``, so that back-pressure, half-close, connection loss and ordering remain Twisted's.

Internals in use, which the tests check on every supported Twisted: ``dataBuffer``, ``offset``,
``_tempDataBuffer``, ``_tempDataLen`` and ``_isSendBufferFull`` of ``abstract.FileDescriptor``,
and ``protocol``, ``socket`` and ``fileno`` of ``tcp.Connection``.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD, TIOCOUTQ
from typing import Any

from twisted.internet import abstract, error, main, tcp, unix
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.vanished_peers import VANISHED

# Size of a read. Socket buffers start at 128 KiB; larger reads are not measurably faster.
READ_BYTES = 64 * 1024
# Above this size, ``sendmsg`` with two buffers is faster than joining them.
JOIN_BYTES = 16 * 1024

# TCP_NOTSENT_LOWAT of client connections. Without it, the kernel accepts megabytes for a client that
# reads nothing, and a thousand of those take gigabytes. With less than a read or two, a fast client would
# have to wait.
_UNSENT_BYTES = 128 * 1024

# The most that is read from a connection that was lost while reading was paused: the pending commands of a
# client; and of a connection that carries a stream, all that the kernel has. Its receive buffer is 6 MiB at
# most by default, and 32 MiB on some systems (tcp(7), tcp_rmem). The limit only ends the loop.
_LAST_BYTES = 256 * 1024
LAST_BYTES_OF_STREAM = 64 * 1024 * 1024

_CLIENT_CONNECTION = "a client's connection"

# In linux/tcp.h's struct tcp_info: ``tcpi_min_rtt``, 32 bits of microseconds.
_ROUND_TRIP_AT = 148
_TCP_INFO_BYTES = _ROUND_TRIP_AT + 4
_NO_ROUND_TRIP = 0xFFFFFFFF

_log = Logger()


def join_unsent(transport: object) -> None:
    """Join the unsent writes of a transport of Twisted into one: each takes 50 bytes beside its own.

    ``bufferSize`` limits their bytes, not their number.
    """
    if isinstance(transport, abstract.FileDescriptor) and len(transport._tempDataBuffer) > 1:
        transport._tempDataBuffer = [b"".join(transport._tempDataBuffer)]


def has_unsent(transport: object) -> bool:
    """Whether a transport of Twisted has writes that the socket has not accepted yet."""
    return isinstance(transport, abstract.FileDescriptor) and bool(
        transport.dataBuffer or transport._tempDataBuffer
    )


def adopt_connection(connection: socket.socket, protocol: Any, reactor: Any) -> None:
    """Connect ``protocol`` to a connected socket, by an ``EagerUnixServer`` or ``EagerServer``."""
    make: Any = EagerUnixServer if connection.family == socket.AF_UNIX else EagerServer
    protocol.makeConnection(make(connection, protocol, ("", 0), None, 0, reactor))


class EagerWrites:
    """Mixed in before ``tcp.Connection``'s descendants.

    ``high_water_bytes``: a registered streaming producer is paused while more than this is unsent, and
    resumed when nothing is. With 0, it is paused as soon as the kernel does not accept all data.
    """

    bufferSize = READ_BYTES
    high_water_bytes = READ_BYTES
    last_bytes = _LAST_BYTES
    # The number of the last error of a call.
    _cause: int | None = None
    _holds_writes = False

    # Of tcp.Connection
    socket: socket.socket
    protocol: Any
    abortConnection: Any
    stopReading: Any
    stopWriting: Any
    fileno: Any
    connected: int
    disconnected: int
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
        """Bytes written that the socket has not accepted yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def unacknowledged(self) -> int:
        """Bytes written that the peer has not acknowledged yet (tcp(7), SIOCOUTQ).

        Shows the progress of a slow peer, which a buffer that stays full does not.
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
        """Bytes received that have not been read yet (tcp(7), SIOCINQ)."""
        try:
            arrived = ioctl(self.socket, FIONREAD, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(arrived, sys.byteorder)

    @property
    def round_trip_s(self) -> float:
        """The kernel's minimum round trip time, in seconds; 0.0 if it has none (tcp(7), TCP_INFO).

        The smoothed round trip time includes delayed acknowledgements of 40 ms.
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
        """Send ``data``; buffer what the socket does not accept."""
        # ``_must_queue``, inlined, since this runs for every command.
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
            # Would block, or the connection is lost: Twisted handles both at its next attempt.
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

    def hold_writes(self, on: bool) -> None:
        """Buffer all writes, or send what was buffered."""
        self._holds_writes = on
        if not on:
            if self.connected:
                self.startWriting()
            return
        # So that ``write`` queues.
        self._tempDataBuffer.append(b"")
        self.stopWriting()

    def startWriting(self) -> None:
        if not self._holds_writes:
            super().startWriting()  # type: ignore[misc]

    def abort_now(self) -> None:
        """Abort the connection before any data that is written to other connections from now on.

        Twisted's ``abortConnection`` closes the socket in the next iteration of the reactor.
        """
        if self.connected:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        self.abortConnection()

    def give_away(self) -> None:
        """Close this process's descriptor of a connection that another process has taken over.

        Nothing is sent to the peer, and the protocol is not notified. Nothing may be unsent.
        """
        # epoll would continue to report events of a closed descriptor whose connection is open in another
        # process.
        self.stopReading()
        self.stopWriting()
        self.connected, self.disconnected = 0, 1
        self.socket.close()
        # As ``tcp.Connection.connectionLost`` does, which has no effect afterwards.
        del self.protocol, self.socket, self.fileno

    def acknowledge_now(self) -> None:
        """Acknowledge received data now instead of up to 40 ms later (tcp(7), TCP_QUICKACK).

        The option is not permanent; it must be set each time.
        """
        if self.connected:
            with suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def mark_idle(self) -> None:
        """Let the kernel know that the application, not the network, limits the connection now.

        Linux checks this on each send, of no bytes too (net/ipv4/tcp_rate.c, tcp_rate_check_app_limited).
        Otherwise a segment that is retransmitted while nothing is sent counts as a measurement of the
        path's bandwidth, and BBR paces all data at that rate for seconds.
        """
        if self.connected:
            with suppress(OSError):
                self.socket.send(b"")

    def doRead(self) -> Exception | None:
        """As ``tcp.Connection.doRead``, without two intermediate calls."""
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
        # A failed write is reported before the data that the peer sent earlier: it is still in the kernel.
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
        """Whether the peer has vanished. The kernel reports an error once, to the first call that fails."""
        with suppress(OSError):
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._cause = number or self._cause
        return self._cause in VANISHED

    def _read_out(self) -> None:
        """Deliver the data that is left in the receive buffer."""
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
        """Whether a write must go through Twisted's buffer: behind other data, or after half-close."""
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
        # Twisted pauses the producer at each write above the mark; here, a pause starts a deadline.
        if not self.producerPaused:
            super()._maybePauseProducer()  # type: ignore[misc]


class EagerServer(EagerWrites, tcp.Server):  # type: ignore[misc]
    """A connection accepted by a listener."""

    def __init__(self, sock: socket.socket, *args: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        super().__init__(sock, *args)
        # Twisted makes two strings for each connection, which take 200 bytes and are not used here.
        self.logstr = self.repstr = _CLIENT_CONNECTION


class EagerUnixServer(EagerWrites, unix.Server):  # type: ignore[misc]
    """A connection accepted by a listener on a UNIX socket."""
