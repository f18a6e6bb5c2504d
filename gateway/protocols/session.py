"""One tunnel: commands in, answers out, and the upstream's byte stream woven between them.

The rules (PROTOCOL.md, Sequence; DESIGN.md, Rules of a session):

- Commands take effect in the order of their numbers, each once. One that is early waits in the window;
  a repeated one gets the answer it got before. FFmpeg repeats in a way of its own: ``retries``.
- What an answer says, and when an idle is held before it does: ``downstream``.
- The answer to a send is kept back while the upstream takes no more; nothing after it takes effect then.
  It leaves all the same when the client has to read first for the upstream to go on.
- When the upstream has ended, what it had said is answered first; the session ends with the last byte.
  An ended session still repeats its last answers, until its deadline, and refuses everything else.

A session is in one of these positions, and ``deadline`` is when ``expire`` has something to do there:

    position   what happened                                  the deadline is that of
    fresh      no command yet                                 an open that is never used
    ordinary   the next number is awaited                     a client that went silent
    holding    an idle is held                                the hold
    streaming  an answer is streamed                          the upstream's pause or the answer's time
    keeping    a send's answer is kept back                   an upstream that takes nothing
    waiting    commands are early, one is missing             the gap
    ended      for the reason told to the upstream            repeating answers

``receive`` returns the answer, or None when it comes later; the caller then owes ``wait``. Pure: the
upstream and the replies implement the interfaces declared in ``interfaces``.
"""

from __future__ import annotations

from typing import final

from gateway.errors import BadRequest, NotFound, UnknownSession
from gateway.protocols.commands import Kind
from gateway.protocols.downstream import INTERVALS, NONE
from gateway.protocols.http import Fields
from gateway.protocols.interfaces import Figures, Reply, Upstream
from gateway.protocols.limits import LEAST_BYTES_A_S, Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.retries import CLOSE_GRACE_S, TRIED_AGAIN_BYTES, Meaning, Retries
from gateway.protocols.streaming import WHOLE, Delivery, StreamingDownstream, StreamPolicy
from gateway.protocols.window import Window

CLOSED = b"\x00"
# The version bytes an RTMP or RTMPE handshake can begin with (PROTOCOL.md, The exchange).
_HANDSHAKES = (b"\x03", b"\x06", b"\x08", b"\x09")
# Looking a member up in its Enum costs as much as a call; these are looked at for each command.
_IDLE = Kind.IDLE
_CLOSE = Kind.CLOSE
_SEND = Kind.SEND
# Every 128th command, the figures are told to count what they have put off.
_SETTLE_MASK = 127


@final
class Session(StreamingDownstream):
    """The state of one tunnel. Times are seconds on one clock that never goes back.

    Its counts are plain attributes: ``commands`` with their ``repeats`` and those that came ``early``,
    ``sends`` among those that took effect, ``bytes_up``, and what its bases count.
    """

    __slots__ = (
        "_choked",
        "_closed_by_number",
        "_ended",
        "_first",
        "_kept",
        "_kept_since",
        "_kept_unsent",
        "_last_words",
        "_let_go_at",
        "_next",
        "_ordinary",
        "_polled",
        "_retries",
        "_source",
        "_window",
        "bytes_up",
        "commands",
        "early",
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
        policy: StreamPolicy = WHOLE,
    ) -> None:
        super().__init__(limits, upstream, hold_s, now, figures)
        self._set_up_streaming(policy)
        self._polled = None if figures is None else figures.polled
        self._retries = Retries() if tries_again else None
        self._first = self._next = NONE
        self._ordinary = False
        self._window = Window(limits)
        self._kept = NONE
        self._kept_since = now
        self._kept_unsent = 0
        # When the upstream last took again what a kept answer had waited for.
        self._let_go_at = 0.0
        # The connection that the last command came on.
        self._source = NONE
        self._closed_by_number = False
        self._choked = False
        self._last_words: EndReason | None = None
        self._ended: EndReason | None = None
        self.commands = self.repeats = self.early = self.sends = self.bytes_up = 0

    @property
    def ended(self) -> EndReason | None:
        """Why the session has ended; None while it lives."""
        return self._ended

    @property
    def position(self) -> str:
        """Where the session is: a row of the table at the head of this module."""
        if self._ended:
            return "ended"
        if self._stream is not None:
            return "streaming"
        if self._held != NONE:
            return "holding"
        if self._kept != NONE:
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
        return max(0, self._next - self._first - self.sends - self._closed_by_number)

    @property
    def closes(self) -> int:
        """Whether a close took effect, as a count."""
        return int(self._ended is EndReason.CLIENT_CLOSED)

    @property
    def is_keeping(self) -> bool:
        """Whether the upstream takes no more for now: whoever sends is to wait for its answers."""
        return self._kept != NONE

    @property
    def moments(self) -> tuple[int, int]:
        """How many sends went up, and in how many pieces data went down: what can be late."""
        return self.sends, self.filled_pieces

    def share(self, buffer_bytes: int) -> None:
        """Take this session's equal part of all buffers, half of it for each direction."""
        self.pause_bytes = min(buffer_bytes, self._limits.down_buffer_bytes) // 2
        self._window.most_bytes = min(buffer_bytes // 2, self._limits.up_buffer_bytes)

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
        self._source = source
        held = self._held
        if self._retries is not None:
            retries, last_body = self._retries, body[:TRIED_AGAIN_BYTES]
            if source != retries.source:
                kind, body = self._recognise(retries, kind, number, body, now)
                retries.source = source
                retries.source_lost = False
            retries.last_body = last_body
        if number == self._next and self._ordinary:
            if self._polled is not None:
                if held == NONE and self._stream is None:
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

    def wait(self, number: int, reply: Reply, now: float) -> None:
        """Have ``reply`` get the answer to ``number``, or the refusal, when there is one."""
        self._add_waiter(number, reply)
        if number == self._held and self._backlog.size_bytes:
            self._begin_or_release(now)

    def forget(self, reply: Reply, now: float) -> None:
        """The connection that ``reply`` was for is gone.

        A held idle becomes an orphan. In a streamed answer the client gives up: the session ends, after the
        commands that had already arrived.
        """
        stream = self._stream
        if stream is not None and stream.reply is reply:
            self._cut_off(stream, now)
            self._ordinary = False
            self.deadline = now + CLOSE_GRACE_S
            return
        self._waiters = [waiter for waiter in self._waiters if waiter[1] is not reply]
        if self._held != NONE and not self._waiters and stream is None and not self._cut:
            self.deadline = now + self._silent_s

    def release(self, now: float) -> None:
        """More bytes have come on the connection of a held command or a streamed answer."""
        if self._held != NONE:
            self._release(now)
        if self._stream is not None:
            self._interrupt(self._stream, now)

    def carried_by(self, transport: object, fields: Fields, is_shared: bool = False) -> None:
        """A connection that did not carry the last command carries this one.

        ``is_shared``: it carried commands of other sessions before.
        """
        if self._carried or is_shared:
            self.read_whole(Delivery.CONNECTIONS)
        self._carried = True
        if self._figures is not None:
            self._figures.carried_by(transport, fields.value(b"via"))

    def client_vanished(self, source: int, now: float) -> None:
        """The connection ``source`` is gone, since its peer acknowledged nothing for too long."""
        if source == self._source:
            self.end(EndReason.CLIENT_VANISHED, now)

    def source_lost(self, source: int) -> None:
        """The connection ``source`` is gone, and it was not we who ended it."""
        if self._retries is not None and self._retries.source == source:
            self._retries.source_lost = True

    # From the upstream

    def upstream_data(self, data: bytes, now: float) -> None:
        """Take what the upstream has said: to the held idle, or kept for the next answer."""
        self.bytes_down += len(data)
        if self._ended or self._cut:
            return
        if self._stream is not None:
            self._stream_more(self._stream, data, now)
            return
        self._backlog.append(data)
        if self._held != NONE and self._waiters and self._held != self._resting:
            if self._policy.framing is None or not self._begin(now):
                self._release(now)
            return
        if self._figures is not None:
            self._figures.downstream_waits(self.bytes_down, now)
        if self._backlog.size_bytes >= self.pause_bytes:
            self._pause()
            if self._kept != NONE and self._must_read_first():
                self._let_go(now)

    def upstream_full(self) -> None:
        """The upstream takes no more: the answers to sends are kept back from now on."""
        self._choked = True

    def upstream_drained(self, now: float) -> None:
        """The upstream has taken all: the kept answer leaves, and what waited behind it goes on."""
        self._choked = False
        if self._kept != NONE:
            self._let_go(now)

    def upstream_ended(self, reason: EndReason, now: float) -> None:
        """The upstream says no more; what it had said is still delivered before the session ends."""
        if self._ended:
            return
        self._stop_streaming(self._policy.cause)
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
        if self._stream is not None:
            self._expire_stream(self._stream, now)
        elif self._held != NONE and self._held == self._resting:
            self._expire_rest(now)
        elif self._held != NONE and self._waiters:
            self._release(now)
        elif self._kept != NONE and not self._last_words and self._must_read_first():
            self._let_go(now)
        elif self._kept != NONE and not self._last_words and self._still_takes():
            self._await_upstream(now)
        elif not self._ended:
            self.end(self._overdue(), now)

    def end(self, reason: EndReason, now: float) -> None:
        """End the session, once: everybody who waits is refused and the upstream is told."""
        if self._ended:
            return
        self._ended = reason
        self._ordinary = False
        if self._held != NONE or self._kept != NONE:
            # Its place still holds an older answer.
            self._replay.forget(max(self._held, self._kept))
        self._held = self._kept = NONE
        if self._stream is not None:
            self._write_rest(self._stream, now)
            self._finish(self._stream, now)
        self._backlog.clear()
        self._window.clear()
        self._replay.keep_newest(self._next - 1)
        self.deadline = now + self._silent_s
        waiters, self._waiters = self._waiters, []
        try:
            for _, reply in waiters:
                reply.refuse(UnknownSession(reason.value))
        finally:
            self._upstream.end(reason)

    # In order

    def _take(
        self, kind: Kind, number: int, body: bytes, now: float, may_hold: bool
    ) -> bytes | None:
        """The command whose turn it is takes effect."""
        if self._held != NONE:
            self._release(now)
        if self._stream is not None:
            self._interrupt(self._stream, now)
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
        if (
            may_hold
            and self._policy.framing is not None
            and self._hold_to_stream(kind, number, now)
        ):
            return None
        self.deadline = now + self._silent_s
        return self._answer(number, now)

    def _hold_to_stream(self, kind: Kind, number: int, now: float) -> bool:
        """Whether a command is held until its answer can be streamed: at once, when there is data.

        A send is held as an idle is: behind an unfinished answer because its own may be the next streamed
        one, and else because FFmpeg would sleep for 50 ms after an empty answer.
        """
        if self._stream is not None:
            if kind is _SEND:
                self._prove()
        elif not self._is_playing() or not (self._backlog.size_bytes or self._hold_s):
            return False
        self._held = number
        self.deadline = now + self._hold_s
        return True

    def _take_unawaited(self, kind: Kind, number: int, body: bytes, now: float) -> None:
        """As ``_take``, for a command whose connection is gone: nothing is spent on its answer."""
        if self._held != NONE:
            self._release(now)
        if self._stream is not None:
            self._interrupt(self._stream, now)
        self._next = number + 1
        self.deadline = now + self._silent_s
        if kind is _CLOSE:
            self._take_close(number, now)
            return
        if kind is _SEND:
            self._write(body)
            if self._choked and not self._must_read_first():
                self._keep(number, now)
                return
        self._replay.store(number, INTERVALS[0])

    # Out of order

    def _take_out_of_order(
        self, kind: Kind, number: int, body: bytes, now: float, may_hold: bool
    ) -> bytes | None:
        if not self.commands & _SETTLE_MASK:
            self._settle()
        if self._cut:
            return self._take_after_cut(kind, number, body, now)
        if self._next == NONE and not self._ended and self._begins(kind, number, body):
            self._first = self._next = number
        if number == self._next and self._kept == NONE and not self._ended:
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

    def _take_after_cut(self, kind: Kind, number: int, body: bytes, now: float) -> bytes:
        """A command that arrived before or after its connection was cut in a streamed answer."""
        if self._ended or number != self._next or kind is _IDLE:
            raise UnknownSession("the connection was cut in an answer")
        self._next = number + 1
        if kind is _CLOSE:
            return self._take_close(number, now)
        self._write(body)
        return INTERVALS[0]

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
        if self._held != NONE:
            self._release(now)
        if self._stream is not None:
            self._interrupt(self._stream, now)
        is_first = not self._window
        self._window.put(number, kind, body, now)
        if is_first and self._kept == NONE:
            self._await_gap(now)
        self.early += 1
        self._ordinary = False

    def _advance(self, now: float) -> None:
        """Let the window's commands take effect as far as there is no gap."""
        while self._kept == NONE and self._next in self._window:
            number = self._next
            kind, body, since = self._window.take(number)
            if self._is_waited_for(number):
                answer = self._take(kind, number, body, now, not self._window)
                if answer is not None:
                    self._deliver(number, answer)
                elif number == self._held and self._backlog.size_bytes:
                    self._begin_or_release(now)
            else:
                self._take_unawaited(kind, number, body, now)
            if kind is _SEND:
                self._tell_delay(number, since, now)
        self._ordinary = not (
            self._window or self._ended or self._last_words or self._cut or self._kept != NONE
        )
        if self._window and self._kept == NONE:
            self._await_gap(now)

    def _await_gap(self, now: float) -> None:
        """The deadline does not move when a part of the gap fills: no command waits longer than ``gap_s``,
        the time aside in which the upstream took nothing."""
        if self._gave_up:
            self.deadline = now + CLOSE_GRACE_S
        else:
            self.deadline = max(self._window.oldest_at, self._let_go_at) + self._limits.gap_s

    @property
    def _gave_up(self) -> bool:
        """Whether the window ends in the close of a client that leaves out what it gave up."""
        return self._retries is not None and self._window.latest is _CLOSE

    def _repeat(self, kind: Kind, number: int, body: bytes, now: float) -> bytes | None:
        """A number that had its turn: the same answer again."""
        self.repeats += 1
        if self._ordinary and self._held == NONE:
            self.deadline = now + self._silent_s
        if number == self._kept:
            if not self._must_read_first():
                return None
            self._let_go(now)
        if number == self._held:
            answer = self._repeat_held(number, now)
            self._conclude(now)
            return answer
        if self._next - number > len(self._replay):
            raise NotFound("the answer is no longer kept")
        if number < self._first and not self._ended:
            return self._take_overtaken(kind, number, body, now)
        answer = self._replay.answer_to(number)
        if answer is None:
            raise NotFound("the answer is no longer kept")
        return answer

    def _take_overtaken(self, kind: Kind, number: int, body: bytes, now: float) -> bytes:
        """Number 0 after 1 had begun the session: it took part in nothing yet, and gets nothing."""
        if kind is _SEND and body:
            if self.bytes_up:
                raise NotFound("the stream has begun without it")
            self._write(body)
        self._first = number
        self._replay.store(number, INTERVALS[0])
        return INTERVALS[0]

    def _recognise(
        self, retries: Retries, kind: Kind, number: int, body: bytes, now: float
    ) -> tuple[Kind, bytes]:
        """What a command that came on another connection than the last one is meant to be."""
        last, left_out = self._next - 1, number - self._next
        if (
            kind is not _SEND
            or left_out not in (0, 1)
            or self._window
            or self._first == NONE
            or self._ended
        ):
            return kind, body
        meaning = retries.meaning(left_out, body)
        if meaning is Meaning.AGAIN and last == self._streamed:
            # What the client did not read of that answer is not kept.
            self.end(EndReason.CLIENT_LOST, now)
            raise UnknownSession("a streamed answer was lost")
        if left_out:
            self._skip(now)
        if meaning is Meaning.AGAIN and last != self._kept:
            self._take_back(last, now)
        return (kind, body) if meaning is Meaning.ITSELF else (_IDLE, b"")

    def _skip(self, now: float) -> None:
        """The command whose turn it is was lost on its way, and will not come."""
        if self._held != NONE:
            self._release(now)
        if self._kept == NONE:
            self._replay.store(self._next, INTERVALS[0])
            self._next += 1
        else:
            # Its turn comes when the kept answer has left.
            self._window.put(self._next, _IDLE, b"", now)

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

    def _keep(self, number: int, now: float) -> None:
        self._kept = number
        self._kept_since = now
        self._ordinary = False
        self._await_upstream(now)

    def _await_upstream(self, now: float) -> None:
        self._kept_unsent = self._upstream.unsent
        self.deadline = now + self._limits.stalled_write_s

    def _still_takes(self) -> bool:
        """Whether the upstream is slow, and does not stand still."""
        taken = self._kept_unsent - self._upstream.unsent
        return taken >= LEAST_BYTES_A_S * self._limits.stalled_write_s

    def _let_go(self, now: float) -> None:
        """The kept answer leaves."""
        number, self._kept = self._kept, NONE
        self._let_go_at = now
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

    # Ends

    def _take_close(self, number: int, now: float) -> bytes:
        self._closed_by_number = True
        self._replay.forget_large()
        self._replay.store(number, CLOSED)
        self._deliver(number, CLOSED)
        self.end(EndReason.CLIENT_CLOSED, now)
        return CLOSED

    def stream_drained(self, now: float) -> None:
        super().stream_drained(now)
        self._conclude(now)

    def _conclude(self, now: float) -> None:
        """End the session when the upstream has, and all that it had said is answered."""
        if self._last_words and not self._backlog.size_bytes:
            self.end(self._last_words, now)

    def _overdue(self) -> EndReason:
        if self._cut:
            return EndReason.CLIENT_LOST
        if self._last_words:
            return self._last_words
        if self._kept != NONE:
            return EndReason.UPSTREAM_STALLED
        if self._window:
            return EndReason.CLIENT_CLOSED if self._gave_up else EndReason.SEQUENCE_GAP
        return EndReason.CLIENT_SILENT if self.commands else EndReason.ABANDONED
