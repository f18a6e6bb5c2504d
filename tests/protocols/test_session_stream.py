"""No data is lost, doubled or reordered when connections, answers or the upstream are lost.

A model client issues commands with increasing numbers. They arrive in any order, more than once, or not
at all; answers are lost, and connections that wait for one die. The client abandons no command: it repeats
what it has no answer to, and never has more than ten numbers open at once, which is what a session
promises to repeat. A number that was refused is not repeated: real clients stop there.

Only its first send begins with a handshake.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from tests.helpers.session_recording import Conversation, Reply

# The least that Limits takes, so that every bound is reached in a few steps; replay alone has room for
# ten full answers, without which a lost answer may rightly be gone.
LIMITS = Limits(
    answer_bytes=4096,
    down_buffer_bytes=8192,
    up_buffer_bytes=8192,
    replay_bytes=10 * 4096,
)
REPEATABLE = 10
HOLD_S = 0.25
LONGEST_DEADLINE_S = 30.0
# No value twice within an answer's distance: a byte out of its place is seen.
STREAM = b"".join(b"%07x\n" % count for count in range(1 << 15))


class Wire(Conversation):
    """A conversation whose upstream sends one long known stream."""

    said = 0

    def say_more(self, size: int) -> None:
        self.say(STREAM[self.said : self.said + size])
        self.said += size


class Tunnel(RuleBasedStateMachine):
    """The client's side: its issued commands, pending replies and received answers."""

    def __init__(self) -> None:
        super().__init__()
        self.issued: dict[int, tuple[Kind, bytes]] = {}
        self.arrived: set[int] = set()
        self.waiting: list[tuple[int, Reply, bool]] = []
        self.lost: list[Reply] = []
        self.answers: dict[int, bytes] = {}
        self.refused: set[int] = set()
        self.closed_without_number = False
        self.upstream_closed = False

    @initialize(
        first=st.sampled_from((0, 1)),
        begins_with_idle=st.booleans(),
        high_water_bytes=st.sampled_from((None, 0, 500)),
        ending=st.sampled_from(("silence", "upstream ends", "client closes")),
    )
    def begin(
        self, first: int, begins_with_idle: bool, high_water_bytes: int | None, ending: str
    ) -> None:
        self.ending = ending
        self.wire = Wire(LIMITS, HOLD_S)
        self.wire.upstream.high_water_bytes = high_water_bytes
        self.high_water_bytes = high_water_bytes
        self.first = first
        self.issued[first] = (Kind.IDLE, b"") if begins_with_idle else (Kind.SEND, b"\x03begin")

    # The client

    @property
    def open(self) -> list[int]:
        """The numbers without an answer or a refusal, in order."""
        return [n for n in self.issued if n not in self.answers and n not in self.refused]

    def may_issue(self) -> bool:
        oldest = min(self.open, default=max(self.issued) + 1)
        return max(self.issued) + 1 - oldest < REPEATABLE and not self.closing()

    def closing(self) -> bool:
        return self.issued[max(self.issued)][0] is Kind.CLOSE

    @precondition(lambda self: self.may_issue())
    @rule(size=st.integers(0, 600), kind=st.sampled_from((Kind.SEND, Kind.SEND, Kind.IDLE)))
    def issue(self, size: int, kind: Kind) -> None:
        """Send a command; ``arrive`` delivers it later, if at all."""
        number = max(self.issued) + 1
        body = (b"\xc3%06d" % number + bytes(size))[:size] if kind is Kind.SEND else b"\x00"
        if kind is Kind.SEND and self._begins_late():
            kind, body = Kind.IDLE, b""
        self.issued[number] = kind, body

    @rule(
        kinds=st.lists(st.sampled_from((Kind.SEND, Kind.IDLE)), min_size=2, max_size=5),
        data=st.data(),
    )
    def issue_on_several_connections(self, kinds: list[Kind], data: st.DataObject) -> None:
        """Send commands on several connections; all arrive, in any order."""
        before = max(self.issued)
        for kind in kinds:
            if self.may_issue():
                self.issue(100, kind)
        newest = range(before + 1, max(self.issued) + 1)
        for number in data.draw(st.permutations(newest)):
            self._ask(number, True, False)

    def _begins_late(self) -> bool:
        """A client sends nothing before its handshake is answered; an idle 1 may overtake send 0."""
        return self.first in self.open and self.issued.get(1, (None,))[0] is Kind.IDLE

    @precondition(lambda self: self.may_issue())
    @rule(luck=st.integers(0, 15))
    def issue_close(self, luck: int) -> None:
        # After it the client is at its end; most runs are to be longer.
        if luck == 0 and self.first not in self.open:
            self.issued[max(self.issued) + 1] = Kind.CLOSE, b"\x00"

    @rule(data=st.data(), may_hold=st.booleans(), answer_is_lost=st.booleans())
    def arrive(self, data: st.DataObject, may_hold: bool, answer_is_lost: bool) -> None:
        """Deliver any command that the client may still repeat, for the first time or again."""
        number = data.draw(st.sampled_from(self.repeatable()))
        self._ask(number, may_hold, answer_is_lost)

    @precondition(lambda self: self.open)
    @rule(may_hold=st.booleans())
    def arrive_next(self, may_hold: bool) -> None:
        self._ask(self.open[0], may_hold, False)

    def repeatable(self) -> list[int]:
        """The last ten numbers. The client still wants the answers to those that it has none for."""
        newest = max(self.issued)
        taken = [n for n in self.issued if n > newest - REPEATABLE]
        return [n for n in taken if n not in self.refused] or [newest]

    def _ask(self, number: int, may_hold: bool, answer_is_lost: bool) -> Reply:
        kind, body = self.issued[number]
        self.arrived.add(number)
        reply = self.wire.command(kind, number, body, may_hold)
        self.waiting.append((number, reply, answer_is_lost))
        self._read_answers()
        return reply

    def _read_answers(self) -> None:
        """Read the answers; all answers to a number must be the same."""
        still: list[tuple[int, Reply, bool]] = []
        for number, reply, is_lost in self.waiting:
            if reply.waits:
                still.append((number, reply, is_lost))
            elif is_lost:
                continue
            elif reply.body is None:
                # A repetition of what is answered may be refused after the end, and nobody cares.
                if number not in self.answers:
                    self.refused.add(number)
            else:
                assert self.answers.setdefault(number, reply.body) == reply.body
        self.waiting = still

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """Lose a connection that has a pending reply."""
        cut = data.draw(st.sampled_from(range(len(self.waiting))))
        _, reply, _ = self.waiting.pop(cut)
        self.wire.cut(reply)
        self.lost.append(reply)

    @precondition(lambda self: self.waiting)
    @rule()
    def more_bytes_come_on_a_connection(self) -> None:
        self.wire.session.release(self.wire.now)

    @rule(luck=st.integers(0, 30))
    def close_without_a_number(self, luck: int) -> None:
        if luck == 0 and self.first not in self.open:
            self.closed_without_number = True
            self.wire.close()

    # The upstream

    @precondition(lambda self: not (self.wire.upstream.paused or self.wire.upstream.ends))
    @rule(size=st.sampled_from((1, 20, 700, 4094, 4095, 4096, 7000)))
    def say(self, size: int) -> None:
        if not self.upstream_closed:
            self.wire.say_more(size)

    @rule()
    def drain(self) -> None:
        self.wire.drain()
        self.wire.upstream.high_water_bytes = self.high_water_bytes

    @rule(luck=st.integers(0, 20))
    def end_upstream(self, luck: int) -> None:
        if luck == 0 and not self.upstream_closed:
            self.upstream_closed = True
            self.wire.upstream_ends(EndReason.UPSTREAM_CLOSED)

    # The clock

    @rule(seconds=st.sampled_from((0.01, 0.1, 0.25, 1.0)))
    def later(self, seconds: float) -> None:
        self.wire.later(seconds)

    # What holds at all times

    @invariant()
    def all_is_well(self) -> None:
        self._read_answers()
        self._up_is_what_was_sent_in_the_order_of_the_numbers_each_once()
        self._a_client_that_does_not_read_makes_the_upstream_wait()
        assert STREAM.startswith(self.assembled())
        assert all(reply.waits for reply in self.lost), "answered on a dead connection"
        assert self.wire.session.deadline <= self.wire.now + LONGEST_DEADLINE_S
        assert not self.waiting or self.wire.ended is None

    def _up_is_what_was_sent_in_the_order_of_the_numbers_each_once(self) -> None:
        up = self.wire.upstream.up
        assert self._all_bodies().startswith(up)
        assert self.wire.session.bytes_up == len(up)
        if self.first in self.answers and not self.upstream_closed:
            assert len(up) >= len(self._all_bodies(until=max(self.answers)))

    def _a_client_that_does_not_read_makes_the_upstream_wait(self) -> None:
        if self.upstream_closed or self.wire.ended or self.wire.upstream.paused:
            return
        unheard = self.wire.said - sum(len(answer) - 1 for answer in self.answers.values())
        lost = REPEATABLE * (LIMITS.answer_bytes - 1)
        assert unheard < self.wire.session.pause_bytes + lost

    def assembled(self) -> bytes:
        """The data that the client has read, up to the first missing answer."""
        heard = []
        number = self.first
        while number in self.answers:
            heard.append(self.answers[number][1:])
            number += 1
        return b"".join(heard)

    # In the end

    def teardown(self) -> None:
        if self.issued:
            self._come_to_an_end()
            self._be_silent()

    def _come_to_an_end(self) -> None:
        """The client repeats all unanswered commands, and polls until no data is left."""
        if self.ending == "upstream ends" and not self.upstream_closed:
            self.upstream_closed = True
            self.wire.upstream_ends(EndReason.UPSTREAM_CLOSED)
            self.all_is_well()
        elif self.ending == "client closes" and self.may_issue() and self.first not in self.open:
            self.issued[max(self.issued) + 1] = Kind.CLOSE, b"\x00"
            self._ask(max(self.issued), False, False)
        self._nobody_waits_for_what_has_its_turn()
        for _ in range(200):
            self.drain()
            for number in self.open:
                self._ask(number, False, False)
            if not self.open:
                if self.wire.ended or self.assembled() == STREAM[: self.wire.said]:
                    break
                self.issued[max(self.issued) + 1] = Kind.IDLE, b""
        assert not self.open
        assert not self.waiting
        if self.wire.ended is None:
            assert self.assembled() == STREAM[: self.wire.said]
            assert not self.refused
            assert self.wire.upstream.up == self._all_bodies()
        elif self.wire.ended is EndReason.UPSTREAM_CLOSED and self.first not in self.refused:
            # A handshake that arrives after the end is refused: nothing behind it makes a stream.
            assert self.assembled() == STREAM[: self.wire.said]
        elif self.wire.ended is EndReason.CLIENT_CLOSED and not self.closed_without_number:
            assert not self.refused
            assert self.answers[max(self.issued)] == b"\x00"
            if not self.upstream_closed:
                assert self.wire.upstream.up == self._all_bodies()

    def _nobody_waits_for_what_has_its_turn(self) -> None:
        """Once the upstream accepts all data, only a held idle or commands behind a gap may wait."""
        for _ in range(REPEATABLE):
            self.drain()
        self._read_answers()
        number = self.first
        while number + 1 in self.arrived:
            number += 1
        waiting = {waiting for waiting, _, _ in self.waiting if waiting <= number}
        assert self.first not in self.arrived or waiting <= {number}

    def _all_bodies(self, until: int | None = None) -> bytes:
        return b"".join(
            body
            for number, (kind, body) in self.issued.items()
            if kind is Kind.SEND and (until is None or number <= until)
        )

    def _be_silent(self) -> None:
        """Without commands every session ends, and notifies its upstream once."""
        self.wire.later(3 * LONGEST_DEADLINE_S)
        assert self.wire.ended is not None
        assert len(self.wire.upstream.ends) == 1


TestTunnel = Tunnel.TestCase
TestTunnel.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
