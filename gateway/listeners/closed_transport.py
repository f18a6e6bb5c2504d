"""A transport that discards everything, for the requests of a connection that has been lost."""

from __future__ import annotations

from typing import final


@final
class ClosedTransport:
    """The transport methods that ``HTTPConnection`` calls, without effect."""

    round_trip_s = 0.0

    def write(self, data: bytes) -> None: ...

    def write_two(self, first: bytes, second: bytes) -> None: ...

    def acknowledge_now(self) -> None: ...

    def mark_idle(self) -> None: ...

    def unregisterProducer(self) -> None: ...

    def loseWriteConnection(self) -> None: ...

    def abortConnection(self) -> None: ...
