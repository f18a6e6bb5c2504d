"""Peers of TCP connections that have vanished without closing them."""

from __future__ import annotations

import socket
from errno import EHOSTUNREACH, ENETDOWN, ENETUNREACH, ETIMEDOUT
from typing import Final

from twisted.internet import error
from twisted.python.failure import Failure

# Errors of a connection whose peer has vanished: the timeout of the probes, or an ICMP or neighbour
# discovery error in the meantime.
VANISHED: Final = frozenset((ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN))


def notice_vanished(sock: socket.socket, vanished_s: float) -> None:
    """Have the kernel abort a TCP connection whose peer acknowledges nothing for ``vanished_s`` seconds.

    Connections inherit the options of the listening socket. An idle connection is probed (tcp(7),
    SO_KEEPALIVE) after a third of the time, then every second. TCP_USER_TIMEOUT limits both the probes
    and unacknowledged data. It also limits how long a peer can advertise a zero window: a client that
    reads nothing for that long is disconnected too.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (
        (socket.TCP_KEEPIDLE, max(1, int(vanished_s / 3))),
        (socket.TCP_KEEPINTVL, 1),
        # TCP_USER_TIMEOUT applies first.
        (socket.TCP_KEEPCNT, 127),
        (socket.TCP_USER_TIMEOUT, int(vanished_s * 1000)),
    )
    for option, value in options:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def has_vanished(reason: Failure) -> bool:
    """Whether a connection was lost because its peer vanished."""
    return reason.check(error.TimeoutError) is not None
