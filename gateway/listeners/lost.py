"""The transport of a connection that is gone: what its protocol still says to it reaches nobody."""

from __future__ import annotations

from typing import final


@final
class LostTransport:
    """All that an HTTP connection asks of it while it takes the last requests; nothing of it is done."""

    round_trip_s = 0.0

    def write(self, data: bytes) -> None: ...

    def write_two(self, first: bytes, second: bytes) -> None: ...

    def acknowledge_now(self) -> None: ...

    def unregisterProducer(self) -> None: ...

    def loseWriteConnection(self) -> None: ...

    def abortConnection(self) -> None: ...
