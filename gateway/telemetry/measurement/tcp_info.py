"""What the kernel knows of a connection: its round trip and what it had to send again (tcp(7), TCP_INFO).

Read when somebody asks, never on the way of a byte.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

from attrs import frozen

# linux/tcp.h, struct tcp_info, as far as it is older than any kernel in use: 8 octets, 24 numbers.
_INFO: Final = struct.Struct("8x24I")
_ROUND_TRIP, _VARIATION, _RETRANSMITS = 15, 16, 23
_US: Final = 1_000_000


@frozen
class TcpInfo:
    """One connection; the times in seconds, smoothed by the kernel."""

    round_trip_s: float
    variation_s: float
    retransmits: int


def read_tcp_info(transport: Any) -> TcpInfo | None:
    """That of Twisted's ``transport``; None if it is gone, or no TCP connection."""
    handle = getattr(transport, "getHandle", None)
    if handle is None:
        return None
    try:
        raw = handle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except (AttributeError, OSError):
        return None
    if len(raw) < _INFO.size:
        return None
    numbers = _INFO.unpack(raw)
    return TcpInfo(numbers[_ROUND_TRIP] / _US, numbers[_VARIATION] / _US, numbers[_RETRANSMITS])
