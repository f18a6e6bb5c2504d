"""The protocol state of one RTMPT session: client commands, their answers, and the upstream byte stream.

Rules (PROTOCOL.md, Sequence; DESIGN.md, Rules of a session):

- Commands take effect in the order of their sequence numbers, each once. Out-of-order commands wait in the
  window; a repeated command gets the stored answer. FFmpeg's retries need rules of their own: ``retries``.
- The content of answers and held idles: ``downstream``. Streamed answers: ``streaming``.
- Back-pressure: the answer to a send is withheld while the upstream's write buffer is full, and no later
  command takes effect. It is released early if both directions are full: the client must read first then.
- When the upstream closes, the remaining data is answered first; then the session ends. An ended session
  repeats its last answers until its deadline, and refuses all other commands.

States, with the meaning of ``deadline``, at which ``expire`` must be called:

    state      condition                             deadline
    fresh      no command received yet               timeout of an unused session
    ordinary   next command expected                 timeout of a silent client
    holding    an idle is held                       end of the hold
    streaming  an answer is being streamed           pause of the upstream, or end of the answer
    keeping    the answer to a send is withheld      timeout of a stalled upstream
    waiting    out-of-order commands in the window   timeout of the gap
    ended      the end reason is set                 end of answer repetition

``receive`` returns the answer, or None if it is pending; the caller must then call ``wait``. Pure: the
upstream and the replies implement the interfaces declared in ``interfaces``.
"""

from __future__ import annotations

from typing import final

from gateway.errors import BadRequest, NotFound, UnknownSession
from gateway.protocols.commands import Kind
from gateway.protocols.downstream import INTERVALS, NONE
from gateway.protocols.http import Fields
from gateway.protocols.interfaces import Figures, Reply, Upstream
from gateway.protocols.limits import Limits, is_slow
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
    """The state of one session. Times are seconds of one monotonic clock.

    Counters are plain attributes: ``commands``, of which ``repeats`` and out-of-order ones (``early``);
    ``sends`` that took effect; ``bytes_up``; and those of the base classes.
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
        """The end reason; None while the session is active."""
        return self._ended

    @property
    def position(self) -> str:
        """The state, as named in the table at the head of this module."""
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
        """Total size of the session's buffers."""
        return self._backlog.size_bytes + self._window.size_bytes + self._replay.size_bytes

    @property
    def idles(self) -> int:
        """The number of idles that took effect: all commands that did, without sends and closes."""
        return max(0, self._next - self._first - self.sends - self._closed_by_number)

    @property
    def closes(self) -> int:
        """The number of closes that took effect: 0 or 1."""
        return int(self._ended is EndReason.CLIENT_CLOSED)

    @property
    def is_keeping(self) -> bool:
        """Whether the answer to a send is withheld because the upstream's write buffer is full."""
        return self._kept != NONE

    @property
    def moments(self) -> tuple[int, int]:
        """The number of sends and of writes with upstream data: the events whose delay is measured."""
        return self.sends, self.filled_pieces

    def share(self, buffer_bytes: int) -> None:
        """Set the buffer limit to an equal share of the total, half of it for each direction."""
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
        """Process a send, idle or close. Returns the answer, or None if the caller must call ``wait`` next.

        ``may_hold`` is False if more bytes have already arrived on the command's connection. ``source``
        identifies the connection.
        Raises UnknownSession if the session has ended, NotFound if the number is too old for a repetition,
        BadRequest if the body of an idle or close exceeds one byte.
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
        """Process a close without a sequence number. It takes effect immediately, and can be repeated."""
        self.commands += 1
        if self._ended not in (None, EndReason.CLIENT_CLOSED):
            raise UnknownSession("the session has ended")
        self.end(EndReason.CLIENT_CLOSED, now)
        return CLOSED

    def wait(self, number: int, reply: Reply, now: float) -> None:
        """Register the pending reply to ``number``. It is answered or refused later."""
        self._add_waiter(number, reply)
        if number == self._held and self._backlog.size_bytes:
            self._begin_or_release(now)

    def forget(self, reply: Reply, now: float) -> None:
        """The connection of ``reply`` was lost.

        A held idle becomes orphaned. If the answer was being streamed, the client gives up: the session
        ends, after the commands received before the loss.
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
        """More bytes have arrived on the connection of a held command or a streamed answer."""
        if self._held != NONE:
            self._release(now)
        if self._stream is not None:
            self._interrupt(self._stream, now)

    def carried_by(self, transport: object, fields: Fields, is_shared: bool = False) -> None:
        """The next command comes on another connection than the last one.

        ``is_shared``: that connection has carried commands of other sessions.
        """
        if self._carried or is_shared:
            self.read_whole(Delivery.CONNECTIONS)
        self._carried = True
        if self._figures is not None:
            self._figures.carried_by(transport, fields.value(b"via"))

    def client_vanished(self, source: int, now: float) -> None:
        """The connection ``source`` was lost because its peer stopped acknowledging data."""
        if source == self._source:
            self.end(EndReason.CLIENT_VANISHED, now)

    def source_lost(self, source: int) -> None:
        """The connection ``source`` was closed by the peer."""
        if self._retries is not None and self._retries.source == source:
            self._retries.source_lost = True

    # From the upstream

    def upstream_data(self, data: bytes, now: float) -> None:
        """Process upstream data: answer the held idle with it, or keep it for the next answer."""
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
        if self._finished is not None:
            self._finished.mark_idle()
        if self._figures is not None:
            self._figures.downstream_waits(self.bytes_down, now)
        if self._backlog.size_bytes >= self.pause_bytes:
            self._pause()
            if self._kept != NONE and self._must_read_first():
                self._let_go(now)

    def upstream_full(self) -> None:
        """The upstream's write buffer is full: withhold the answers to sends from now on."""
        self._choked = True

    def upstream_drained(self, now: float) -> None:
        """The upstream's write buffer has drained: release the withheld answer, then go on."""
        self._choked = False
        if self._kept != NONE:
            self._let_go(now)

    def upstream_ended(self, reason: EndReason, now: float) -> None:
        """The upstream has closed. The session ends once the remaining data is answered."""
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
        """``deadline`` has passed. Not called for ended sessions, which the session table removes."""
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
        """End the session, once: refuse all pending replies and notify the upstream."""
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
        self._finished = None
        self._backlog.clear()
        self._window.clear()
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
        """Process the next command in order."""
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
        """Hold a command if its answer can be streamed. Returns whether it is held.

        Sends are held like idles: behind an unfinished answer because theirs can be the next streamed one,
        and otherwise because FFmpeg sleeps for 50 ms after an empty answer.
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
        """As ``_take``, for a command whose connection was lost: its answer carries no data."""
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
        """Process a command after a connection was lost during a streamed answer."""
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
        """Whether ``number`` is the first of the session: 0, or 1 if the client starts there.

        A 1 that has overtaken a 0 is recognised by its body: the stream begins with a handshake.
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
        """Process the commands in the window up to the next gap."""
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
        """Set the deadline of the gap. It does not move when part of the gap is filled: no command waits
        longer than ``gap_s``, not counting the time in which the upstream's write buffer was full."""
        if self._gave_up:
            self.deadline = now + CLOSE_GRACE_S
        else:
            self.deadline = max(self._window.oldest_at, self._let_go_at) + self._limits.gap_s

    @property
    def _gave_up(self) -> bool:
        """Whether the newest command in the window is a close behind commands that were given up."""
        return self._retries is not None and self._window.latest is _CLOSE

    def _repeat(self, kind: Kind, number: int, body: bytes, now: float) -> bytes | None:
        """Process a repeated command: return the stored answer."""
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
        """Process number 0 after number 1 has begun the session. Its answer carries no data."""
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
        """Interpret a command that arrived on another connection than the last one (``retries``)."""
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
        """Skip the next command: it was lost, and will not be sent again."""
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
        """Report the delay of a send received at ``since``, or note it while the send is withheld."""
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
        """Whether the upstream has made sufficient progress since the last check."""
        taken_bytes = self._kept_unsent - self._upstream.unsent
        return not is_slow(taken_bytes, self._limits.stalled_write_s)

    def _let_go(self, now: float) -> None:
        """Release the withheld answer."""
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
        """Whether both directions are full: the server may not read before its output is read."""
        return self._paused and self._upstream.unsent <= self._limits.up_buffer_bytes

    # Ends

    def _take_close(self, number: int, now: float) -> bytes:
        self._closed_by_number = True
        self._replay.store(number, CLOSED)
        self._deliver(number, CLOSED)
        self.end(EndReason.CLIENT_CLOSED, now)
        return CLOSED

    def stream_drained(self, now: float) -> None:
        super().stream_drained(now)
        self._conclude(now)

    def _conclude(self, now: float) -> None:
        """End the session if the upstream has closed and all of its data is answered."""
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
