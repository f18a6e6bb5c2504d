"""Exhaustion of local resources: file descriptors, memory for sockets, and local ports.

A connection to a server that fails for one of these causes is not counted as a failure of the server. When
file descriptors run low, the last ones are reserved for the admin server and for files, and some more for
clients' connections, since existing sessions need new ones. So new sessions are refused first.

The system gives a new descriptor the lowest free number. If that is N, at least N descriptors are open; to
test the number is cheaper than to count descriptors.
"""

from __future__ import annotations

import os
from errno import EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Final, final

# For the admin server's 64 connections, logs that are reopened, and files of libraries.
_RESERVED: Final = 100
# For clients' connections.
_RESERVED_FOR_CLIENTS: Final = 1000
# With a low limit, each of the two reserves is at most the limit divided by this.
_RESERVE_DIVISOR: Final = 8

_NO_MEMORY = (
    "the system has no memory for more sockets; see net.ipv4.tcp_mem and the machine's memory"
)
CAUSES: Final = {
    EMFILE: "no file descriptors are left; raise LimitNOFILE= (systemd) or ulimit -n, or lower sessions"
    " and connections in [limits]",
    ENFILE: "the system's file descriptors are used up; raise fs.file-max (sysctl)",
    ENOBUFS: _NO_MEMORY,
    ENOMEM: _NO_MEMORY,
    # Local ports are used up for one server only; connections to others are still possible.
    EADDRNOTAVAIL: "no local port is left for more connections to the server; widen"
    " net.ipv4.ip_local_port_range (sysctl), or name more of the server's addresses",
}


@final
class Descriptors:
    """Decides whether a connection may be opened. Before ``set_limit``, all may."""

    def __init__(self) -> None:
        self._clients_below: float = float("inf")
        self._others_below: float = float("inf")

    def set_limit(self, limit: int, needed: int) -> None:
        """``limit``: how many descriptors may be open. ``needed``: how many [limits] can need at most."""
        self._clients_below = limit - min(_RESERVED, limit // _RESERVE_DIVISOR)
        kept = min(_RESERVED_FOR_CLIENTS, limit // _RESERVE_DIVISOR) if limit < needed else 0
        self._others_below = self._clients_below - kept

    def allow_client(self) -> bool:
        """Whether an accepted connection of a client leaves the reserved descriptors free."""
        return _lowest_free() <= self._clients_below

    def allow_server(self) -> bool:
        """As ``allow_client``, for a connection to a server."""
        return _lowest_free() <= self._others_below


def _lowest_free() -> float:
    try:
        number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return float("inf")
    os.close(number)
    return number


descriptors: Final = Descriptors()
