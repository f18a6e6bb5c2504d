"""Interfaces between the client of a session and its collaborators, and the ends of a session."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class End(Enum):
    """How a session ended, seen from its client."""

    # Ended by a close that was answered, or by the server after all of its data.
    CLOSED = "closed"
    # Ended by this side, without waiting for an answer.
    ABORTED = "aborted"
    # A connection was lost, or no answer came in time, and recovery failed.
    LOST = "lost"
    # The same, because the peer stopped acknowledging data.
    VANISHED = "vanished"


class Links(Protocol):
    """The connections to the server, by number. Their events are methods of the client, which must not be
    called from within these.
    """

    def connect_link(self, link: int) -> None:
        """Connect. ``connected`` or ``lost`` follows."""

    def write_link(self, link: int, first: bytes, second: bytes) -> None: ...

    def unacknowledged_on(self, link: int) -> int:
        """How many of the bytes written the peer has not acknowledged."""

    def close_link(self, link: int) -> None:
        """Close the connection after what was written. No event of it follows."""


class Receiver(Protocol):
    """The user of a session."""

    def opened(self) -> None:
        """The session is open: data is exchanged from now on."""

    def received(self, data: bytes) -> None: ...

    def drained(self) -> None:
        """All data that was written is under way, or has arrived. Called after each event for which this
        is true.
        """

    def ended(self, end: End, cause: str) -> None:
        """The session has ended. Called once, last."""
