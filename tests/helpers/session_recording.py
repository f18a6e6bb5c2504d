"""A session with recorded upstream and replies, and its client.

A ``Conversation`` is one session with its client, its upstream and its clock. Every command of the client
gives a ``Reply``, whether its answer arrives at once or later, so that tests of both cases look the same.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import RequestRefused
from gateway.protocols.commands import Kind
from gateway.protocols.interfaces import Figures
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.session import Session
from gateway.protocols.stream_policy import WHOLE, StreamPolicy

# The longest that a session may do nothing about a silent world: every deadline is within this.
LONGEST_S = 3600.0


class RecordingUpstream:
    """An upstream that accepts all data, until a test sets ``high_water_bytes``.

    It checks the calls of the session: ``pause`` and ``resume`` in turn, ``end`` once and nothing after it.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.written: list[bytes] = []
        self.unsent = 0
        self.high_water_bytes: int | None = None
        self.full = False
        self.paused = False
        self.pauses = 0
        self.ends: list[EndReason] = []

    @property
    def up(self) -> bytes:
        """All written data."""
        return b"".join(self.written)

    def write(self, data: bytes) -> None:
        assert not self.ends, "written to after the end"
        assert data, "an empty write"
        self.written.append(data)
        if self.high_water_bytes is None:
            return
        self.unsent += len(data)
        if self.unsent > self.high_water_bytes and not self.full:
            self.full = True
            assert self.session is not None
            self.session.upstream_full()

    def pause(self) -> None:
        assert not self.paused, "paused twice"
        assert not self.ends, "paused after the end"
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        assert self.paused, "resumed without a pause"
        assert not self.ends, "resumed after the end"
        self.paused = False

    def end(self, reason: EndReason) -> None:
        assert not self.ends, "ended twice"
        self.ends.append(reason)


class Reply:
    """The answer to one command, or the refusal, or neither yet.

    A streamed answer is in ``streamed``, whole or not; ``takes`` is False while the connection is full.
    """

    def __init__(self, may_stream: bool = True, round_trip_s: float = 0.0) -> None:
        self.body: bytes | None = None
        self.refusal: RequestRefused | None = None
        self.may_stream = may_stream
        self.round_trip_s = round_trip_s
        self.streamed: bytes | None = None
        self.length: int | None = None
        self.pieces = 0
        self.is_direct = False
        self.takes = True
        self.finished: bool | None = None
        # How often the connection was marked as idle after the end.
        self.idle_marks = 0

    @property
    def waits(self) -> bool:
        return self.body is None and self.refusal is None and self.streamed is None

    @property
    def status(self) -> int | None:
        if self.refusal is not None:
            return self.refusal.status
        return None if self.body is None else 200

    def answer(self, body: bytes) -> None:
        assert self.waits, "answered twice"
        self.body = body

    def refuse(self, error: RequestRefused) -> None:
        assert self.waits, "refused after an answer"
        self.refusal = error

    def begin(self, first: bytes, length: int | None, is_direct: bool = False) -> bool:
        assert self.waits, "begun after an answer"
        assert self.may_stream
        self.streamed, self.length, self.pieces = first, length, 1
        self.is_direct = is_direct
        self._check_length()
        return self.takes

    def more(self, data: bytes) -> bool:
        assert self.streamed is not None
        assert self.finished is None, "more after the end"
        assert data, "an empty chunk would end the answer"
        self.streamed += data
        self.pieces += 1
        self._check_length()
        return self.takes

    def finish(self, is_whole: bool, last: bytes = b"") -> None:
        assert self.streamed is not None
        assert self.finished is None, "finished twice"
        self.streamed += last
        self._check_length()
        assert is_whole == (self.length is None or self.length == len(self.streamed))
        self.finished = is_whole

    def mark_idle(self) -> None:
        assert self.finished is not None, "marked as idle before the end"
        self.idle_marks += 1

    def _check_length(self) -> None:
        assert self.streamed is not None
        assert self.length is None or len(self.streamed) <= self.length, "past the declared length"


class Conversation:
    """One session, and time as a number that ``later`` moves on."""

    def __init__(
        self,
        limits: Limits | None = None,
        hold_s: float = 0.25,
        tries_again: bool = False,
        figures: Figures | None = None,
        policy: StreamPolicy = WHOLE,
    ) -> None:
        self.now = 1000.0
        # Whether new connections can take streamed answers, and their round trip time.
        self.may_stream = True
        self.round_trip_s = 0.0
        self.limits = limits or Limits()
        self.upstream = RecordingUpstream()
        self.session = Session(
            self.limits, self.upstream, hold_s, self.now, tries_again, figures, policy
        )
        # The connection that the client's commands come on.
        self.source = 1
        self.upstream.session = self.session

    # The client

    def send(self, number: int, body: bytes = b"x") -> Reply:
        return self.command(Kind.SEND, number, body)

    def idle(self, number: int, body: bytes = b"\x00", may_hold: bool = True) -> Reply:
        return self.command(Kind.IDLE, number, body, may_hold)

    def close(self, number: int | None = None) -> Reply:
        if number is not None:
            return self.command(Kind.CLOSE, number, b"\x00")
        return self._ask(lambda: self.session.close(self.now), None)

    def command(self, kind: Kind, number: int, body: bytes, may_hold: bool = True) -> Reply:
        return self._ask(
            lambda: self.session.receive(kind, number, body, self.now, may_hold, self.source),
            number,
        )

    def cut(self, reply: Reply) -> None:
        """Lose the connection that waits for ``reply``."""
        self.session.forget(reply, self.now)

    def reconnect(self) -> None:
        """Lose the client's connection; its next command arrives on a new connection."""
        self.session.source_lost(self.source)
        self.source += 1

    # The upstream

    def say(self, data: bytes) -> None:
        self.session.upstream_data(data, self.now)

    def fill(self) -> None:
        """The upstream accepts no more data."""
        self.upstream.high_water_bytes = 0
        self.upstream.full = True
        self.session.upstream_full()

    def drain(self) -> None:
        """The upstream has accepted all data, and accepts more."""
        self.upstream.unsent, self.upstream.full = 0, False
        self.upstream.high_water_bytes = None
        self.session.upstream_drained(self.now)

    def upstream_ends(self, reason: EndReason = EndReason.UPSTREAM_CLOSED) -> None:
        self.session.upstream_ended(reason, self.now)

    # The clock

    def later(self, seconds: float) -> None:
        """Advance the time; each deadline runs exactly when it expires, as in a sweep without delay."""
        until = self.now + seconds
        for _ in range(100):
            if self.session.ended or self.session.deadline > until:
                self.now = until
                return
            self.now = max(self.now, self.session.deadline)
            self.session.expire(self.now)
        raise AssertionError("a deadline that passes without an end and without progress")

    @property
    def ended(self) -> EndReason | None:
        return self.session.ended

    def _ask(self, ask: Callable[[], bytes | None], number: int | None) -> Reply:
        reply = Reply(self.may_stream, self.round_trip_s)
        try:
            answer = ask()
        except RequestRefused as error:
            reply.refuse(error)
            return reply
        if answer is not None:
            reply.answer(answer)
        elif number is not None:
            self.session.wait(number, reply, self.now)
        return reply
