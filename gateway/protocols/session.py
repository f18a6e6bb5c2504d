"""One tunnel: commands in, answers out, and the upstream's byte stream woven between them.

The rules (PROTOCOL.md, Sequence and Held idle; DESIGN.md, Rules of a session):

- Commands take effect in the order of their numbers, each once. One that is early waits in the window;
  a repeated one gets the answer it got before.
- An answer is one interval byte and what the upstream has said since the last answer. An idle that would
  get nothing is held until there is something, or until any other command of the session arrives.
- The answer to a send is kept back while the upstream takes no more; nothing after it takes effect then.
  It leaves all the same when the client has to read first for the upstream to go on.
- When the upstream has ended, what it had said is answered first; the session ends with the last byte.
  An ended session still repeats its last answers, until its deadline, and refuses everything else.

A session is in one of these positions, and ``deadline`` is when ``expire`` has something to do there:

    position   what happened                                  the deadline is that of
    fresh      no command yet                                 an open that is never used
    ordinary   the next number is awaited                     a client that went silent
    holding    an idle is held                                the hold
    keeping    a send's answer is kept back                   an upstream that takes nothing
    waiting    commands are early, one is missing             the gap
    ended      for the reason told to the upstream            repeating answers

A held idle whose connection died is an orphan: data is not spent on it, and waits for the repetition or
for the next command.

FFmpeg never repeats a number. An exchange that failed before it had read the answer's whole head is tried
again on a new connection, under the next number, as a *send* of the same body; for an idle that is one byte
``00``, which would corrupt the stream upstream (captured with FFmpeg 5.1, cut at every stage). So from a
client that ``tries_again``, on another connection than its last command:

- a send with the body of the command before it is that command again: its body is not sent upstream, and
  the answer that was lost is given again;
- one that leaves out exactly one number says that the command of that number was lost on its way;
- a close that leaves one out is FFmpeg giving up: it waits for a moment, not for the gap.

``receive`` returns the answer, or None when it comes later; the caller then owes ``wait``. Pure: the
upstream and those who wait for answers are whoever has the methods declared here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

from gateway.errors import BadRequest, NotFound, RequestRefused, UnknownSession
from gateway.protocols.backlog import Backlog
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.replay import Replay
from gateway.protocols.window import Window

# PROTOCOL.md, Interval byte: 1 + 0, 2, 4, 8, 16, 32, one step up after ten empty answers in a row.
INTERVALS = (b"\x01", b"\x03", b"\x05", b"\x09", b"\x11", b"\x21")
EMPTY_ANSWERS_A_STEP = 10
CLOSED = b"\x00"
# The version bytes an RTMP or RTMPE handshake can begin with (PROTOCOL.md, The exchange).
_HANDSHAKES = (b"\x03", b"\x06", b"\x08", b"\x09")
_IDLE_BODY = b"\x00"
# A body longer than this is a publisher's, and FFmpeg gives up when publishing fails.
_TRIED_AGAIN_BYTES = 1024
# For what is still in the old connection's socket to be read first; two sweeps.
_CLOSE_GRACE_S = 0.1
# Looking a member up in its Enum costs as much as a call; these are looked at for each command.
_IDLE = Kind.IDLE
_CLOSE = Kind.CLOSE
_SEND = Kind.SEND
# Every 128th command, the figures are told to count what they have put off.
_SETTLE_MASK = 127
_NONE = -1


class Upstream(Protocol):
    """The session's RTMP connection, as far as the session needs to know it."""

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
    """Where the answer to one command goes; it must not call the session back before it returns."""

    def answer(self, body: bytes) -> None: ...

    def refuse(self, error: RequestRefused) -> None: ...


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


@final
class Session:
    """The state of one tunnel. Times are seconds on one clock that never goes back.

    Its counts are plain attributes: ``commands`` with their ``repeats`` and those that came ``early``,
    ``sends`` among those that took effect, ``holds``, and answers by whether they carried anything.
    """

    __slots__ = (
        "_answered_at",
        "_backlog",
        "_choked",
        "_empty_before",
        "_ended",
        "_figures",
        "_first",
        "_held",
        "_hold_s",
        "_kept",
        "_kept_since",
        "_last_body",
        "_last_words",
        "_limits",
        "_next",
        "_ordinary",
        "_paused",
        "_polled",
        "_replay",
        "_silent_s",
        "_source",
        "_tries_again",
        "_upstream",
        "_waiters",
        "_window",
        "bytes_down",
        "bytes_up",
        "commands",
        "deadline",
        "early",
        "empty_answers",
        "filled_answers",
        "holds",
        "pause_bytes",
        "repeats",
        "sends",
    )

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        hold_s: float,
        now: float,
        tries_again: bool = False,
        figures: Figures | None = None,
    ) -> None:
        self._limits = limits
        self._upstream = upstream
        self._hold_s = hold_s
        self._silent_s = limits.silent_session_s
        self._first = self._next = _NONE
        self._ordinary = False
        self._held = self._kept = _NONE
        self._tries_again = tries_again
        self._source = _NONE
        self._last_body = b""
        self._window = Window(limits)
        self._waiters: list[tuple[int, Reply]] = []
        self._backlog = Backlog()
        self._empty_before = 0
        self._answered_at = self._kept_since = now
        self._figures = figures
        self._polled = None if figures is None else figures.polled
        self._replay = Replay(limits)
        self._choked = self._paused = False
        self._last_words: EndReason | None = None
        self._ended: EndReason | None = None
        self.deadline = now + limits.unused_session_s
        self.pause_bytes = limits.down_buffer_bytes // 2
        self.commands = self.repeats = self.early = self.sends = self.holds = 0
        self.empty_answers = self.filled_answers = 0
        self.bytes_up = self.bytes_down = 0

    @property
    def ended(self) -> EndReason | None:
        """Why the session has ended; None while it lives."""
        return self._ended

    @property
    def position(self) -> str:
        """Where the session is: a row of the table at the head of this module."""
        if self._ended:
            return "ended"
        if self._held != _NONE:
            return "holding"
        if self._kept != _NONE:
            return "keeping"
        if self._window:
            return "waiting"
        return "ordinary" if self.commands else "fresh"

    @property
    def buffered_bytes(self) -> int:
        """What the session's own buffers hold."""
        return self._backlog.size_bytes + self._window.size_bytes + self._replay.size_bytes

    @property
    def idles(self) -> int:
        """How many idles took effect: of all the numbers that had their turn, what no other took."""
        return max(0, self._next - self._first - self.sends - self.closes)

    @property
    def closes(self) -> int:
        """Whether a close took effect, as a count."""
        return int(self._ended is EndReason.CLIENT_CLOSED)

    @property
    def moments(self) -> tuple[int, int]:
        """How many sends went up and how many answers carried something: what can be late."""
        return self.sends, self.filled_answers

    # From the client

    def receive(
        self,
        kind: Kind,
        number: int,
        body: bytes,
        now: float,
        may_hold: bool = True,
        source: int = 0,
    ) -> bytes | None:
        """Take one send, idle or close; the answer, or None when the caller owes ``wait`` at once.

        ``may_hold`` is False when more bytes have already come on the command's connection, which
        ``source`` tells from others.
        Raises UnknownSession when there is no session any more, NotFound when the number is too old
        to be repeated, BadRequest when an idle or close has a body it cannot have.
        """
        if len(body) > 1 and kind is not _SEND:
            raise BadRequest("an idle or close carries at most one byte")
        self.commands += 1
        if self._tries_again:
            last_body, self._last_body = self._last_body, body[:_TRIED_AGAIN_BYTES]
            if source != self._source:
                kind, body = self._recognise(kind, number, body, body == last_body, now)
                self._source = source
        if number == self._next and self._ordinary:
            if self._polled is not None:
                if self._held == _NONE:
                    self._polled(now - self._answered_at)
                if not self.commands & _SETTLE_MASK:
                    self._settle()
            return self._take(kind, number, body, now, may_hold)
        return self._take_out_of_order(kind, number, body, now, may_hold)

    def close(self, now: float) -> bytes:
        """Take a close that has no number: it takes effect at once, and again if repeated."""
        self.commands += 1
        if self._ended not in (None, EndReason.CLIENT_CLOSED):
            raise UnknownSession("the session has ended")
        self.end(EndReason.CLIENT_CLOSED, now)
        return CLOSED

    def wait(self, number: int, reply: Reply) -> None:
        """Have ``reply`` get the answer to ``number``, or the refusal, when there is one."""
        self._waiters.append((number, reply))

    def forget(self, reply: Reply, now: float) -> None:
        """The connection that ``reply`` was for is gone; a held idle becomes an orphan."""
        self._waiters = [waiter for waiter in self._waiters if waiter[1] is not reply]
        if self._held != _NONE and not self._waiters:
            self.deadline = now + self._silent_s

    def carried_by(self, transport: object, via: bytes | None) -> None:
        """Commands come on a connection that carried none before; ``via`` names proxies on its way."""
        if self._figures is not None:
            self._figures.carried_by(transport, via)

    def release(self, now: float) -> None:
        """Answer a held idle now: more bytes have come on its connection."""
        if self._held != _NONE:
            self._release(now)

    # From the upstream

    def upstream_data(self, data: bytes, now: float) -> None:
        """Take what the upstream has said: to the held idle, or kept for the next answer."""
        self.bytes_down += len(data)
        if self._ended:
            return
        self._backlog.append(data)
        if self._held != _NONE and self._waiters:
            self._release(now)
            return
        if self._figures is not None:
            self._figures.downstream_waits(self.bytes_down, now)
        if self._backlog.size_bytes >= self.pause_bytes:
            self._pause(now)

    def upstream_full(self) -> None:
        """The upstream takes no more: the answers to sends are kept back from now on."""
        self._choked = True

    def upstream_drained(self, now: float) -> None:
        """The upstream has taken all: the kept answer leaves, and what waited behind it goes on."""
        self._choked = False
        if self._kept != _NONE:
            self._let_go(now)

    def upstream_ended(self, reason: EndReason, now: float) -> None:
        """The upstream says no more; what it had said is still delivered before the session ends."""
        if self._ended:
            return
        if not self._backlog.size_bytes:
            self.end(reason, now)
            return
        self._last_words = reason
        self._ordinary = False
        self.upstream_drained(now)
        self._conclude(now)

    # From the clock and the operator

    def expire(self, now: float) -> None:
        """Do what is due once ``deadline`` has passed. An ended session is the table's to drop."""
        if self._held != _NONE and self._waiters:
            self._release(now)
        elif not self._ended:
            self.end(self._overdue(), now)

    def end(self, reason: EndReason, now: float) -> None:
        """End the session, once: everybody who waits is refused and the upstream is told."""
        if self._ended:
            return
        self._ended = reason
        self._ordinary = False
        if self._held != _NONE or self._kept != _NONE:
            # Its place still holds an older answer.
            self._replay.forget(max(self._held, self._kept))
        self._held = self._kept = _NONE
        self._backlog.clear()
        self._window.clear()
        self.deadline = now + self._silent_s
        waiters, self._waiters = self._waiters, []
        try:
            for _, reply in waiters:
                reply.refuse(UnknownSession(reason.value))
        finally:
            self._upstream.end(reason)

    # Order

    def _take(
        self, kind: Kind, number: int, body: bytes, now: float, may_hold: bool
    ) -> bytes | None:
        """The command whose turn it is takes effect."""
        if self._held != _NONE:
            self._release(now)
        self._next = number + 1
        if kind is _IDLE:
            if may_hold and not self._backlog.size_bytes and self._hold_s:
                self._held = number
                self.holds += 1
                self.deadline = now + self._hold_s
                return None
        elif kind is _CLOSE:
            return self._take_close(number, now)
        else:
            self._write(body)
            if self._choked and not self._must_read_first():
                self._keep(number, now)
                return None
        self.deadline = now + self._silent_s
        return self._answer(number, now)

    def _take_unawaited(self, kind: Kind, number: int, body: bytes, now: float) -> None:
        """As ``_take``, for a command whose connection is gone: nothing is spent on its answer."""
        if self._held != _NONE:
            self._release(now)
        self._next = number + 1
        self.deadline = now + self._silent_s
        if kind is _CLOSE:
            self._take_close(number, now)
            return
        if kind is _SEND:
            self._write(body)
            if self._choked:
                self._keep(number, now)
                return
        self._replay.store(number, INTERVALS[0])

    def _conclude(self, now: float) -> None:
        """End the session when the upstream has, and all that it had said is answered."""
        if self._last_words and not self._backlog.size_bytes:
            self.end(self._last_words, now)

    def _is_waited_for(self, number: int) -> bool:
        return any(waited == number for waited, _ in self._waiters)

    def _recognise(
        self, kind: Kind, number: int, body: bytes, again: bool, now: float
    ) -> tuple[Kind, bytes]:
        """What a command that came on another connection than the last one is meant to be.

        ``again``: its body is that of the last command. See the head of this module.
        """
        missing = number - self._next
        if (
            kind is not _SEND
            or missing not in (0, 1)
            or self._window
            or self._first == _NONE
            or self._ended
        ):
            return kind, body
        if missing:
            self._skip(now)
            again = again and body != _IDLE_BODY
        if again:
            self._take_back(number - 1 - missing, now)
        return (_IDLE, b"") if again or (body == _IDLE_BODY and missing) else (kind, body)

    def _skip(self, now: float) -> None:
        """The command whose turn it is was lost on its way, and will not come."""
        if self._held != _NONE:
            self._release(now)
        if self._kept == _NONE:
            self._replay.store(self._next, INTERVALS[0])
            self._next += 1

    def _take_back(self, number: int, now: float) -> None:
        """The client read nothing of the answer to ``number``: what it carried is to be said again."""
        if self._held != _NONE:
            self._release(now)
        answer = self._replay.answer_to(number)
        if number != self._kept and answer is not None and len(answer) > 1:
            self._backlog.put_back(answer[1:])
            self._replay.store(number, INTERVALS[0])

    def _take_out_of_order(
        self, kind: Kind, number: int, body: bytes, now: float, may_hold: bool
    ) -> bytes | None:
        if not self.commands & _SETTLE_MASK:
            self._settle()
        if self._next == _NONE and not self._ended and self._begins(kind, number, body):
            self._first = self._next = number
        if number == self._next and self._kept == _NONE and not self._ended:
            answer = self._take(kind, number, body, now, may_hold and not self._window)
            self._advance(now)
            self._conclude(now)
            return answer
        if number < self._next:
            return self._repeat(kind, number, body, now)
        if self._ended:
            raise UnknownSession(self._ended.value)
        self._put_in_window(kind, number, body, now)
        return None

    def _settle(self) -> None:
        if self._figures is not None:
            self._figures.settle()

    def _begins(self, kind: Kind, number: int, body: bytes) -> bool:
        """Whether ``number`` is the session's first: 0, or 1 from a client that counts from there.

        A 1 that overtook a 0 is told from it by what it carries: the stream begins with a handshake.
        """
        if number == 1:
            return kind is not _SEND or body[:1] in _HANDSHAKES
        return number == 0

    def _put_in_window(self, kind: Kind, number: int, body: bytes, now: float) -> None:
        if number in self._window:
            return
        if not self._window.has_room_for(body):
            self.end(EndReason.WINDOW_FULL, now)
            raise UnknownSession("too many commands before their turn")
        if self._held != _NONE:
            self._release(now)
        if not self._window and self._kept == _NONE:
            gave_up = self._tries_again and kind is _CLOSE and number == self._next + 1
            self.deadline = now + (_CLOSE_GRACE_S if gave_up else self._limits.gap_s)
        self._window.put(number, kind, body, now)
        self.early += 1
        self._ordinary = False

    def _advance(self, now: float) -> None:
        """Let the window's commands take effect as far as there is no gap."""
        while self._kept == _NONE and self._next in self._window:
            number = self._next
            kind, body, since = self._window.take(number)
            if self._is_waited_for(number):
                answer = self._take(kind, number, body, now, not self._window)
                if answer is not None:
                    self._deliver(number, answer)
            else:
                self._take_unawaited(kind, number, body, now)
            if kind is _SEND:
                self._tell_delay(number, since, now)
        self._ordinary = not (
            self._window or self._ended or self._last_words or self._kept != _NONE
        )
        if self._window and self._kept == _NONE:
            self.deadline = now + self._limits.gap_s

    def _repeat(self, kind: Kind, number: int, body: bytes, now: float) -> bytes | None:
        """A number that had its turn: the same answer again."""
        self.repeats += 1
        if self._ordinary and self._held == _NONE:
            self.deadline = now + self._silent_s
        if number == self._kept:
            return None
        if number == self._held:
            return self._repeat_held(number, now)
        if self._next - number > len(self._replay):
            raise NotFound("the answer is no longer kept")
        if number < self._first and not self._ended:
            return self._take_overtaken(kind, number, body, now)
        answer = self._replay.answer_to(number)
        if answer is None:
            raise NotFound("the answer is no longer kept")
        return answer

    def _repeat_held(self, number: int, now: float) -> bytes | None:
        """A held idle again: its connection died, or its client lost patience."""
        if self._waiters:
            self._release(now)
            return self._replay.answer_to(number)
        if self._backlog.size_bytes:
            self._held = _NONE
            self.deadline = now + self._silent_s
            answer = self._answer(number, now)
            self._conclude(now)
            return answer
        self.deadline = now + self._hold_s
        return None

    def _take_overtaken(self, kind: Kind, number: int, body: bytes, now: float) -> bytes:
        """Number 0 after 1 had begun the session: it took part in nothing yet, and gets nothing."""
        if kind is _SEND and body:
            if self.bytes_up:
                raise NotFound("the stream has begun without it")
            self._write(body)
        self._first = number
        self._replay.store(number, INTERVALS[0])
        return INTERVALS[0]

    # Up

    def _write(self, body: bytes) -> None:
        self.sends += 1
        if body and self._last_words is None:
            self.bytes_up += len(body)
            self._upstream.write(body)

    def _tell_delay(self, number: int, since: float, now: float) -> None:
        """The send ``number``, which came at ``since``, went up now; if it is kept, it has not yet."""
        if number == self._kept:
            self._kept_since = since
        elif self._figures is not None:
            self._figures.upstream_delayed(now - since, self.sends)

    def _take_close(self, number: int, now: float) -> bytes:
        self._replay.forget_large()
        self._replay.store(number, CLOSED)
        self._deliver(number, CLOSED)
        self.end(EndReason.CLIENT_CLOSED, now)
        return CLOSED

    def _keep(self, number: int, now: float) -> None:
        self._kept = number
        self._kept_since = now
        self._ordinary = False
        self.deadline = now + self._limits.stalled_write_s

    def _let_go(self, now: float) -> None:
        """The kept answer leaves."""
        number, self._kept = self._kept, _NONE
        self._tell_delay(number, self._kept_since, now)
        self.deadline = now + self._silent_s
        if self._is_waited_for(number):
            self._deliver(number, self._answer(number, now))
        else:
            self._replay.store(number, INTERVALS[0])
        self._advance(now)

    def _must_read_first(self) -> bool:
        """Whether both directions are full: an upstream that waits to be read may take nothing either."""
        return self._paused and self._upstream.unsent <= self._limits.up_buffer_bytes

    def _overdue(self) -> EndReason:
        if self._last_words:
            return self._last_words
        if self._kept != _NONE:
            return EndReason.UPSTREAM_STALLED
        if self._window:
            gave_up = self._tries_again and self._window.latest is _CLOSE
            return EndReason.CLIENT_CLOSED if gave_up else EndReason.SEQUENCE_GAP
        return EndReason.CLIENT_SILENT if self.commands else EndReason.ABANDONED

    # Down

    def _pause(self, now: float) -> None:
        if not self._paused:
            self._paused = True
            self._upstream.pause()
        if self._kept != _NONE and self._must_read_first():
            self._let_go(now)

    def _release(self, now: float) -> None:
        """Answer the held idle with what there is; an orphan's data is left for who comes next."""
        number, self._held = self._held, _NONE
        self.deadline = now + self._silent_s
        if self._waiters:
            self._deliver(number, self._answer(number, now))
        else:
            self._replay.store(number, INTERVALS[0])

    def _deliver(self, number: int, answer: bytes) -> None:
        waiters = self._waiters
        if len(waiters) == 1 and waiters[0][0] == number:
            waiters.pop()[1].answer(answer)
            return
        self._waiters = [waiter for waiter in waiters if waiter[0] != number]
        for waited, reply in waiters:
            if waited == number:
                reply.answer(answer)

    def _answer(self, number: int, now: float) -> bytes:
        """The answer to ``number``, made and kept for its repetition."""
        self._answered_at = now
        if self._backlog.size_bytes:
            self.filled_answers += 1
            self._empty_before = self.empty_answers
            answer = self._spend()
            if self._figures is not None and self._figures.waiting:
                answered_bytes = self.bytes_down - self._backlog.size_bytes
                self._figures.downstream_answered(answered_bytes, self.filled_answers, now)
        else:
            step = (self.empty_answers - self._empty_before) // EMPTY_ANSWERS_A_STEP
            answer = INTERVALS[min(step, len(INTERVALS) - 1)]
            self.empty_answers += 1
        self._replay.store(number, answer)
        return answer

    def _spend(self) -> bytes:
        """The interval byte and as much of the buffer as one answer takes."""
        answer = self._backlog.take(INTERVALS[0], self._limits.answer_bytes - 1)
        if self._paused and self._backlog.size_bytes < self.pause_bytes // 2:
            self._paused = False
            self._upstream.resume()
        return answer
