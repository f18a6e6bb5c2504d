"""The figures of one relayed stream, as a ``Relay`` takes them, and in words.

The kernel's round trip time is that of the connection to the gateway, or to the proxy before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from gateway.protocols.tunnel_client.answer_times import AnswerTimes
from gateway.protocols.tunnel_options import ClientFigures
from gateway.telemetry.logs.formatting import duration, size
from gateway.telemetry.measurement.tcp_info import read_tcp_info
from gateway.upstreams.tunnel_transport import TunnelTransport

# The figures are sent to the gateway at every fifth sample, because each time costs a command.
_TOLD_SAMPLES: Final = 5


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
class AnswerFigures:
    """The times from a read of the program's data to the answer of the gateway, in seconds: their number,
    their sum, the last and the longest.
    """

    __slots__ = ("count", "last_s", "longest_s", "total_s")

    def __init__(self) -> None:
        self.count = 0
        self.total_s = self.last_s = self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total_s += seconds
        self.last_s = seconds
        self.longest_s = max(self.longest_s, seconds)


@final
class Figures:
    """``way``: by its name. ``took_s``: until the server's handshake had arrived.

    ``downstream_wait``: of the gateway's data for the local program. ``upstream_wait``: of the program's
    data for the gateway. ``round_trip_s``: at the last sample; None before the first. ``answers``: of a
    tunnel. ``observe``: called with each time of an answer.
    """

    def __init__(
        self, way: str, took_s: float, transport: Any, observe: Callable[[float], object]
    ) -> None:
        self._transport = transport
        self._observe = observe
        self._tunnel: TunnelTransport | None = None
        self._times: AnswerTimes | None = None
        if isinstance(transport, TunnelTransport):
            self._tunnel = transport
            self._times = transport.answer_times = AnswerTimes()
        # Since figures were last sent to the gateway: the number of samples, and the longest time of an
        # answer.
        self._untold = 0
        self._longest_s: float | None = None
        self.answers = AnswerFigures()
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
        """Read the kernel's figures, while the connection is open, and the times of answers.

        Sends them to the gateway at the other end of a tunnel.
        """
        info = read_tcp_info(self._transport)
        if info is not None:
            self.round_trip_s = info.round_trip_s
        for seconds in self._times.take() if self._times is not None else ():
            self.answers.add(seconds)
            self._observe(seconds)
            self._longest_s = max(self._longest_s or 0.0, seconds)
        self._untold += 1
        if self._tunnel is not None and self._untold == _TOLD_SAMPLES:
            self._tunnel.tell(ClientFigures(self.round_trip_s, self._longest_s))
            self._untold, self._longest_s = 0, None

    def words(self, seconds: float, bytes_up: int, bytes_down: int) -> str:
        """All figures for a log line."""
        parts = [
            f"{duration(seconds)}, {size(bytes_up)} up, {size(bytes_down)} down",
            f"{self.reconnects} reconnects",
        ]
        if self.round_trip_s is not None:
            parts.append(f"round trip {duration(self.round_trip_s)}")
        answers = self.answers
        if answers.count:
            mean_s = answers.total_s / answers.count
            parts.append(
                f"answered after {duration(mean_s)} on average, {duration(answers.longest_s)} at most"
            )
        for name, waits in (("gateway", self.upstream_wait), ("program", self.downstream_wait)):
            if waits.longest_s:
                parts.append(f"waited for the {name} up to {duration(waits.longest_s)}")
        return ", ".join(parts)

    # The relay calls

    def take_reading(self) -> None:
        """None: RTMP is not read here."""

    def upstream_delayed(self, late_s: float, reads: int) -> None:
        self.upstream_wait.add_late(late_s, reads)
