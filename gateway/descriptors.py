"""What this process can run out of by itself: descriptors, memory for sockets, local ports.

A connection to a server that fails for one of these causes is no failure of that server. When descriptors
run short, the last ones are kept: some for the admin server and for files, and before these some for the
connections of clients, since running sessions need new ones. So new sessions are refused first.

The system gives the lowest free number to a new descriptor. If the lowest free number is N, at least N are
open: that is cheaper than counting them.
"""

from __future__ import annotations

import os
from errno import EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Final, final

# The admin server's 64 connections, logs that are opened anew, and the libraries' files.
_KEPT: Final = 100
# For clients' connections, beyond what all sessions and their connections may use at most.
_KEPT_FOR_CLIENTS: Final = 1000
# Of a low limit, each of both gets this share instead.
_LEAST_SHARE: Final = 8

_NO_MEMORY = (
    "the system has no memory for more sockets; see net.ipv4.tcp_mem and the machine's memory"
)
CAUSES: Final = {
    EMFILE: "no file descriptors are left; raise LimitNOFILE= (systemd) or ulimit -n, or lower sessions"
    " and connections in [limits]",
    ENFILE: "the system's file descriptors are used up; raise fs.file-max (sysctl)",
    ENOBUFS: _NO_MEMORY,
    ENOMEM: _NO_MEMORY,
    # Toward one server, where others are not in the way.
    EADDRNOTAVAIL: "no local port is left for more connections to the server; widen"
    " net.ipv4.ip_local_port_range (sysctl), or name more of the server's addresses",
}


@final
class Descriptors:
    """Who may still open a connection. Until ``set_limit``, all may."""

    def __init__(self) -> None:
        self._clients_below: float = float("inf")
        self._others_below: float = float("inf")

    def set_limit(self, limit: int, needed: int) -> None:
        """``limit`` descriptors may be open, and ``needed`` are enough for all that [limits] allows."""
        self._clients_below = limit - min(_KEPT, limit // _LEAST_SHARE)
        kept = min(_KEPT_FOR_CLIENTS, limit // _LEAST_SHARE) if limit < needed else 0
        self._others_below = self._clients_below - kept

    def allow_client(self) -> bool:
        """Whether a client's connection, accepted already, leaves the descriptors that are kept."""
        return _lowest_free() <= self._clients_below

    def allow_server(self) -> bool:
        """As ``allow_client``, for the socket of a connection to a server."""
        return _lowest_free() <= self._others_below


def _lowest_free() -> float:
    try:
        number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return float("inf")
    os.close(number)
    return number


descriptors: Final = Descriptors()
