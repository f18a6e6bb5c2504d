"""The kernel's figures of a TCP connection: round trip time and retransmissions (tcp(7), TCP_INFO).

They are read on request, never on the hot path.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

from attrs import frozen

# The beginning of struct tcp_info in linux/tcp.h, which all kernels in use have: 8 octets, 24 numbers.
_INFO: Final = struct.Struct("8x24I")
_ROUND_TRIP, _VARIATION, _RETRANSMITS = 15, 16, 23
_US: Final = 1_000_000


@frozen
class TcpInfo:
    """The figures of one connection. Times are in seconds, smoothed by the kernel."""

    round_trip_s: float
    variation_s: float
    retransmits: int


def read_tcp_info(transport: Any) -> TcpInfo | None:
    """The figures of a Twisted ``transport``; None if it is closed, or not TCP."""
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
