"""Interfaces between a session and its collaborators: upstream, replies, figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.errors import RequestRefused
from gateway.protocols.reasons import EndReason
from gateway.protocols.tunnel_options import ClientFigures


class Upstream(Protocol):
    """The session's RTMP connection."""

    @property
    def unsent(self) -> int:
        """The number of bytes written that the upstream's socket has not accepted yet."""

    def write(self, data: bytes) -> None: ...

    def pause(self) -> None:
        """Stop reading until ``resume``."""

    def resume(self) -> None: ...

    def end(self, reason: EndReason) -> None:
        """The session has ended for this reason. Called once."""


class Reply(Protocol):
    """The pending response to one command. Its methods must not call the session.

    Either ``answer`` or ``refuse`` is called, once; or, if ``may_stream``, ``begin``, ``more`` and
    ``finish``.
    """

    @property
    def may_stream(self) -> bool:
        """Whether the answer can be streamed now."""

    @property
    def round_trip_s(self) -> float:
        """The round trip time of its connection; 0.0 if it is not known."""

    def answer(self, body: bytes) -> None: ...

    def refuse(self, error: RequestRefused) -> None: ...

    def begin(self, first: bytes, length: int | None, is_direct: bool = False) -> bool:
        """Write the head and the first bytes of a streamed answer.

        ``length`` is that of the whole body; None makes it chunked. ``is_direct``: the connection is known
        to have no buffering proxy. Returns False if the transport's buffer is full; ``stream_drained`` is
        called once it has drained.
        """

    def more(self, data: bytes) -> bool:
        """Write more of a streamed answer. The return value is that of ``begin``."""

    def finish(self, is_whole: bool, last: bytes = b"") -> None:
        """End a streamed answer, a chunked one with ``last`` in the same write. If a declared length is not
        filled, the connection is closed.
        """

    def mark_idle(self) -> None:
        """Called after ``finish`` when data waits for the next command, and not for the network."""


class Figures(Protocol):
    """Observer of the events that a session's latencies are measured from."""

    # Upstream data that no answer has carried yet: byte count and arrival time.
    waiting: list[tuple[int, float]]
    # Called with the seconds from the last answer to a command; an attribute, because every poll calls it.
    polled: Callable[[float], None]
    # To be called after every 128th command.
    settle: Callable[[], None]

    def downstream_waits(self, received_bytes: int, now: float) -> None: ...

    def downstream_answered(self, answered_bytes: int, answers: int, now: float) -> None: ...

    def upstream_delayed(self, delay_s: float, sends: int) -> None: ...

    def carried_by(self, transport: object, via: bytes | None) -> None: ...

    def client_measured(self, figures: ClientFigures) -> None:
        """The client has said what it has measured."""
