"""What the kernels have of a connection's data."""

from __future__ import annotations

import socket
from array import array
from fcntl import ioctl
from termios import TIOCOUTQ


def unacknowledged_bytes(connection: socket.socket) -> int:
    """The size of the written data that the peer's kernel has not received (tcp(7), SIOCOUTQ)."""
    unsent = array("i", [0])
    ioctl(connection, TIOCOUTQ, unsent)
    return unsent[0]
