"""An upstream without network, for the tests of tunnels."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


class UpstreamTransport(StringTransport):
    """Behaves as the eager transport. All data is accepted until a test sets the high-water mark."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.high_water_bytes: int | None = None
        self.unsent = 0
        self.producer_paused = False
        self.write_closed = False

    @property
    def unacknowledged(self) -> int:
        return self.unsent

    def abort_now(self) -> None:
        self.abortConnection()

    def loseWriteConnection(self) -> None:
        self.write_closed = True

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.high_water_bytes is None:
            return
        self.unsent += len(data)
        if self.unsent > self.high_water_bytes and not self.producer_paused:
            self.producer_paused = True
            self.producer.pauseProducing()

    def drain(self) -> None:
        """The upstream accepts all unsent data."""
        self.unsent, self.high_water_bytes = 0, None
        if self.producer_paused:
            self.producer_paused = False
            self.producer.resumeProducing()

    def say(self, data: bytes) -> None:
        """The upstream sends ``data``; the transport must not be paused."""
        assert self.producerState == "producing"
        self.protocol.dataReceived(data)

    def hang_up(self, clean: bool = True) -> None:
        """The upstream ends the connection."""
        if self.producer is not None:
            self.producer.stopProducing()
        self.connected = False
        self.protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))
