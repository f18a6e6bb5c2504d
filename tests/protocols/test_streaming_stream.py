"""No data is lost, doubled or reordered in a mixture of streamed and whole answers.

Model clients read as FFmpeg and librtmp do: one connection, answers in the order of the requests, the bytes
of a streamed answer as they come. FFmpeg has one request under way. librtmp sends and closes behind an
unfinished answer. The connection may be full, and may be cut at any byte, which is where both give up.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.protocols.clients import Framing
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.stream_policy import Delivery, StreamPolicy
from gateway.protocols.streaming import PLAYING_BYTES
from tests.helpers.session_recording import Conversation, Reply

LIMITS = Limits(answer_bytes=4096, down_buffer_bytes=8192, up_buffer_bytes=8192, replay_bytes=4096)
# Past what one run can say, no value twice within an answer's distance.
STREAM = b"".join(b"%07x\n" % count for count in range(1 << 17))


class Pipe(Reply):
    """An answer on the client's only connection, where answers are ordered."""

    def __init__(self, connection: list[Pipe], limit: float) -> None:
        super().__init__()
        self._connection = connection
        self.round_trip_s = limit

    @property
    def may_stream(self) -> bool:  # type: ignore[override]
        unanswered = [reply for reply in self._connection if not reply.is_over]
        return bool(unanswered) and unanswered[0] is self

    @may_stream.setter
    def may_stream(self, value: bool) -> None:
        """It follows from the answers before it."""

    @property
    def is_over(self) -> bool:
        return self.body is not None or self.refusal is not None or self.finished is not None


class StreamedTunnel(RuleBasedStateMachine):
    """One client, its connection, and the data that it has read."""

    @initialize(
        framing=st.sampled_from(Framing),
        round_trip_s=st.sampled_from((0.0, 0.05, 0.3)),
        high_water_bytes=st.sampled_from((None, None, 400)),
    )
    def begin(self, framing: Framing, round_trip_s: float, high_water_bytes: int | None) -> None:
        self.talk = Conversation(LIMITS, policy=StreamPolicy(framing, Delivery.STREAMED))
        self.talk.upstream.high_water_bytes = high_water_bytes
        self.framing = framing
        self.round_trip_s = round_trip_s
        self.answers: list[Pipe] = []
        self.number = self.said = 0
        self.sent = b""
        self.takes = True
        self.is_cut = self.closed = self.upstream_closed = False
        self._command(Kind.SEND, b"\x03")

    # The client

    @property
    def unanswered(self) -> list[Pipe]:
        return [reply for reply in self.answers if not reply.is_over]

    def _command(self, kind: Kind, body: bytes) -> None:
        reply = Pipe(self.answers, self.round_trip_s)
        reply.takes = self.takes
        self.answers.append(reply)
        number, self.number = self.number, self.number + 1
        session, now = self.talk.session, self.talk.now
        if kind is Kind.SEND:
            self.sent += body
        try:
            answer = session.receive(kind, number, body, now, True, 1)
        except Exception as error:
            reply.refuse(error)  # type: ignore[arg-type]
            return
        if answer is not None:
            reply.answer(answer)
        else:
            session.wait(number, reply, now)

    def _may_ask(self) -> bool:
        if self.is_cut or self.closed:
            return False
        waiting = self.unanswered
        if self.framing is Framing.CHUNKED:
            return not waiting
        return len(waiting) < 8 and (not waiting or waiting[0].streamed is not None)

    @precondition(lambda self: self._may_ask() and not self.unanswered)
    @rule()
    def poll(self) -> None:
        self._command(Kind.IDLE, b"\x00")

    @precondition(lambda self: self._may_ask())
    @rule(size=st.integers(1, 60))
    def send(self, size: int) -> None:
        self._command(Kind.SEND, b"s" * size)

    @precondition(lambda self: self._may_ask())
    @rule(luck=st.integers(0, 30))
    def close(self, luck: int) -> None:
        if luck == 0:
            self.closed = True
            self._command(Kind.CLOSE, b"\x00")

    @rule(takes=st.booleans())
    def become_slow_or_fast(self, takes: bool) -> None:
        was, self.takes = self.takes, takes
        for reply in self.answers:
            reply.takes = takes
        if takes and not was and not self.is_cut:
            self.talk.session.stream_drained(self.talk.now)

    @rule(luck=st.integers(0, 30))
    def cut(self, luck: int) -> None:
        if luck == 0 and not self.is_cut:
            self.is_cut = True
            for reply in self.unanswered:
                self.talk.session.forget(reply, self.talk.now)

    # The upstream and the clock

    @precondition(lambda self: not self.talk.upstream.paused and not self.upstream_closed)
    @rule(size=st.sampled_from((1, 7, 500, 3000, 4095, 4096, 9000)))
    def say(self, size: int) -> None:
        self.talk.say(STREAM[self.said : self.said + size])
        self.said += size

    @rule(luck=st.integers(0, 30))
    def end_upstream(self, luck: int) -> None:
        if luck == 0 and not self.upstream_closed:
            self.upstream_closed = True
            self.talk.upstream_ends()

    @rule(seconds=st.sampled_from((0.001, 0.02, 0.06, 0.3, 1.0)))
    def later(self, seconds: float) -> None:
        self.talk.later(seconds)

    @rule()
    def drain(self) -> None:
        self.talk.drain()

    @rule()
    def more_bytes_come_on_the_connection(self) -> None:
        if not self.is_cut:
            self.talk.session.release(self.talk.now)

    # What holds

    def read(self) -> bytes:
        """The data that the client has read: all answers up to the first unfinished one."""
        got = b""
        for reply in self.answers:
            if reply.streamed is not None:
                got += reply.streamed[1:]
            elif reply.body is not None:
                got += reply.body[1:] if reply.body[:1] in b"\x01\x03\x05\x09\x11\x21" else b""
            if not reply.is_over:
                break
        return got

    @invariant()
    def what_the_client_read_is_a_prefix_of_what_the_upstream_said(self) -> None:
        if hasattr(self, "talk"):
            got = self.read()
            assert got == STREAM[: len(got)]
            assert len(got) <= self.said

    @invariant()
    def what_the_upstream_got_is_what_was_sent(self) -> None:
        if hasattr(self, "talk"):
            up = self.talk.upstream.up
            assert up == (b"\x03" + self.sent[1:])[: len(up)]

    @invariant()
    def no_command_waits_for_a_session_that_has_ended(self) -> None:
        if hasattr(self, "talk") and self.talk.ended and not self.is_cut:
            assert not self.unanswered

    @invariant()
    def buffers_are_within_their_bounds(self) -> None:
        if hasattr(self, "talk"):
            one_read = 9000
            assert self.talk.session.buffered_bytes <= LIMITS.down_buffer_bytes + 2 * one_read

    def teardown(self) -> None:
        if not hasattr(self, "talk"):
            return
        self.become_slow_or_fast(True)
        for _ in range(200):
            self.drain()
            if self.is_cut or self.closed or self.talk.ended:
                break
            if self.read() == STREAM[: self.said]:
                break
            if self._may_ask() and not self.unanswered:
                self.poll()
            self.talk.later(0.1)
        if self.is_cut or self.closed or self.talk.ended is EndReason.CLIENT_LOST:
            return
        if self.talk.ended is None or self.talk.ended is EndReason.UPSTREAM_CLOSED:
            assert self.read() == STREAM[: self.said]
        if self.upstream_closed:
            self._read_the_end()

    def _read_the_end(self) -> None:
        """The session has ended, since everything is read: it has no answer for another command."""
        assert self.talk.ended
        assert not self.unanswered
        if self.answers[-1].refusal is None and self._may_ask():
            self.poll()
            assert self.answers[-1].refusal is not None


TestStreamedTunnel = StreamedTunnel.TestCase
TestStreamedTunnel.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
assert PLAYING_BYTES < 9000
