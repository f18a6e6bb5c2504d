"""The figures of one relayed stream, as a ``Relay`` takes them, and in words.

The kernel's round trip time is that of the connection to the gateway, or to the proxy before it.
"""

from __future__ import annotations

from typing import Any, final

from gateway.telemetry.logs.formatting import duration, size
from gateway.telemetry.measurement.tcp_info import read_tcp_info


@final
class Waits:
    """The waits of data for a peer that does not read: their sum and the longest, in seconds."""

    __slots__ = ("longest_s", "total_s")

    def __init__(self) -> None:
        self.total_s = self.longest_s = 0.0

    def add_late(self, late_s: float, _reads: int) -> None:
        """A wait has ended."""
        self.total_s += late_s
        self.longest_s = max(self.longest_s, late_s)


@final
class Figures:
    """``way``: by its name. ``took_s``: until the server's handshake had arrived.

    ``downstream_wait``: of the gateway's data for the local program. ``upstream_wait``: of the program's
    data for the gateway. ``round_trip_s``: at the last sample; None before the first.
    """

    def __init__(self, way: str, took_s: float, transport: Any) -> None:
        self._transport = transport
        self.way = way
        self.took_s = took_s
        self.downstream_wait = Waits()
        self.upstream_wait = Waits()
        self.round_trip_s: float | None = None

    @property
    def reconnects(self) -> int:
        """How often a connection of the tunnel was lost, and the stream went on; 0 without a tunnel."""
        return int(getattr(self._transport, "losses", 0))

    def sample(self) -> None:
        """Read the kernel's figures, while the connection is open."""
        info = read_tcp_info(self._transport)
        if info is not None:
            self.round_trip_s = info.round_trip_s

    def words(self, seconds: float, bytes_up: int, bytes_down: int) -> str:
        """All figures for a log line."""
        parts = [
            f"{duration(seconds)}, {size(bytes_up)} up, {size(bytes_down)} down",
            f"{self.reconnects} reconnects",
        ]
        if self.round_trip_s is not None:
            parts.append(f"round trip {duration(self.round_trip_s)}")
        for name, waits in (("gateway", self.upstream_wait), ("program", self.downstream_wait)):
            if waits.longest_s:
                parts.append(f"waited for the {name} up to {duration(waits.longest_s)}")
        return ", ".join(parts)

    # The relay calls

    def take_reading(self) -> None:
        """None: RTMP is not read here."""

    def upstream_delayed(self, late_s: float, reads: int) -> None:
        self.upstream_wait.add_late(late_s, reads)
