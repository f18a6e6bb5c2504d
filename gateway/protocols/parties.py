"""Whom a session deals with, as far as it needs to know them: its upstream, who waits, who counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.errors import RequestRefused
from gateway.protocols.reasons import EndReason


class Upstream(Protocol):
    """The session's RTMP connection."""

    @property
    def unsent(self) -> int:
        """How many bytes were written that the upstream has not taken yet."""

    def write(self, data: bytes) -> None: ...

    def pause(self) -> None:
        """Read no more until ``resume``."""

    def resume(self) -> None: ...

    def end(self, reason: EndReason) -> None:
        """The session has ended, just now and for this reason; called once."""


class Reply(Protocol):
    """Where the answer to one command goes; it must not call the session back before it returns.

    It gets ``answer`` or ``refuse``, once; or, if it ``may_stream``, ``begin``, ``more`` and ``finish``.
    """

    @property
    def may_stream(self) -> bool:
        """Whether the answer can be written now, piece by piece."""

    @property
    def round_trip_s(self) -> float:
        """The round trip time of its connection; 0.0 if it is not known."""

    def answer(self, body: bytes) -> None: ...

    def refuse(self, error: RequestRefused) -> None: ...

    def begin(self, first: bytes, length: int | None) -> bool:
        """Write the head and the first bytes of a streamed answer.

        ``length`` is that of the whole body; None makes it chunked. Returns False when the connection has
        not taken everything; the session is told by ``stream_drained`` when it has.
        """

    def more(self, data: bytes) -> bool:
        """Write more of a streamed answer; returns as ``begin`` does."""

    def finish(self, is_whole: bool) -> None:
        """End a streamed answer. One that is not whole ends with its connection."""


class Figures(Protocol):
    """Who is told of the moments that make a session's latencies; without one, none are made."""

    # Pieces of the upstream's stream that no answer has taken; empty while there are none.
    waiting: list[tuple[int, float]]
    # Told how long after the last answer a command came; an attribute, being called for each one.
    polled: Callable[[float], None]
    # Owed after every 128th command.
    settle: Callable[[], None]

    def downstream_waits(self, received_bytes: int, now: float) -> None: ...

    def downstream_answered(self, answered_bytes: int, answers: int, now: float) -> None: ...

    def upstream_delayed(self, delay_s: float, sends: int) -> None: ...

    def carried_by(self, transport: object, via: bytes | None) -> None: ...
