"""The protocol state of one RTMPT session: client commands, their answers, and the upstream byte stream.

Each file is the base class of the next one:

    downstream        held idles, and the content of answers
    streaming         answers that are streamed
    withheld_answers  writes to the upstream, and answers withheld while its buffer is full
    sequence          the order of commands, their repetition, and FFmpeg's retries
    session           the interface for connections and upstream, the states, and the end

When the upstream closes, the remaining data is answered first; then the session ends. An ended session
repeats its last answers until its deadline, and refuses all other commands (DESIGN.md, Rules of a session).

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

from gateway.errors import BadRequest, UnknownSession
from gateway.protocols.commands import Kind
from gateway.protocols.downstream import NONE
from gateway.protocols.interfaces import Figures, Reply, Upstream
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.retries import CLOSE_GRACE_S, TRIED_AGAIN_BYTES
from gateway.protocols.sequence import SETTLE_MASK, CommandSequence
from gateway.protocols.stream_policy import WHOLE, Delivery, StreamPolicy
from gateway.protocols.tunnel_options import MOST_IDLE_BYTES

CLOSED = b"\x00"
# Looking a member up in its Enum costs as much as a call.
_SEND = Kind.SEND


@final
class Session(CommandSequence):
    """The state of one session. Times are seconds of one monotonic clock.

    Counters are plain attributes: ``commands``, of which ``repeats`` and out-of-order ones (``early``);
    ``sends`` that took effect; ``bytes_up``; and those of the base classes.
    """

    __slots__ = ("_closed_by_number", "_polled", "_source")

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
        super().__init__(limits, upstream, hold_s, now, tries_again, figures, policy)
        self._polled = None if figures is None else figures.polled
        # The connection that the last command came on.
        self._source = NONE
        self._closed_by_number = False

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
        if self._withheld != NONE:
            return "keeping"
        if self._window:
            return "waiting"
        return "ordinary" if self.commands else "fresh"

    @property
    def buffered_bytes(self) -> int:
        """Total size of the session's buffers."""
        size = self._backlog.size_bytes + self._window.size_bytes + self._replay.size_bytes
        stream = self._stream
        if stream is None or stream.kept is None:
            return size
        return size + self.written_bytes - stream.from_bytes

    @property
    def idles(self) -> int:
        """The number of idles that took effect: all commands that did, without sends and closes."""
        return max(0, self._next - self._first - self.sends - self._closed_by_number)

    @property
    def closes(self) -> int:
        """The number of closes that took effect: 0 or 1."""
        return int(self._ended is EndReason.CLIENT_CLOSED)

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
        BadRequest if the body of an idle or close is too long.
        """
        if len(body) > 1 and kind is not _SEND:
            self._check_length(kind, body)
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
                if not self.commands & SETTLE_MASK:
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
        """Register the pending reply to ``number``. It is answered or refused later; at once if the command
        has ended the session.
        """
        if self._ended:
            reply.refuse(UnknownSession(self._ended.value))
            return
        self._add_waiter(number, reply)
        if number == self._held and self._backlog.size_bytes:
            self._begin_or_release(now)

    def forget(self, reply: Reply, now: float) -> None:
        """The connection of ``reply`` was lost.

        A held idle becomes orphaned. If the answer was being streamed, a client that resumes repeats its
        command. Any other gives up: the session ends, after the commands received before.
        """
        stream = self._stream
        if stream is not None and stream.reply is reply:
            if self._policy.resumes:
                self._break_off(stream, now)
                return
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
        self._conclude(now)

    def carried_by(self, transport: object, via: bytes | None, is_shared: bool = False) -> None:
        """The next command comes on another connection than the last one.

        ``via``: the field of its first request. ``is_shared``: that connection has carried commands of
        other sessions.
        """
        if (self._carried or is_shared) and not self._policy.resumes:
            self.read_whole(Delivery.CONNECTIONS)
        self._carried = True
        if self._figures is not None:
            self._figures.carried_by(transport, via)

    def client_vanished(self, source: int, now: float) -> None:
        """The connection ``source`` was lost because its peer stopped acknowledging data."""
        if source == self._source:
            self.end(EndReason.CLIENT_VANISHED, now)

    def source_lost(self, source: int) -> None:
        """The connection ``source`` was closed by the peer."""
        if self._retries is not None and self._retries.source == source:
            self._retries.source_lost = True

    # From the upstream

    def _take_data(self, data: bytes, now: float) -> None:
        """Answer the held command with upstream data, or keep it for the next answer."""
        if self._ended or self._cut:
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
            if self._withheld != NONE and self._must_read_first():
                self._release_withheld(now)

    def upstream_ended(self, reason: EndReason, now: float) -> None:
        """The upstream has closed. The session ends once the remaining data is answered."""
        if self._ended:
            return
        self._stop_streaming(self._policy.cause)
        if not self._backlog.size_bytes:
            self.end(reason, now)
            return
        self._upstream_end = reason
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
            self._conclude(now)
        elif self._held != NONE and self._waiters:
            self._release(now)
        elif self._withheld != NONE and not self._upstream_end and self._must_read_first():
            self._release_withheld(now)
        elif self._withheld != NONE and not self._upstream_end and not self._upstream_is_slow():
            self._await_upstream(now)
        elif not self._ended:
            self.end(self._overdue(), now)

    def end(self, reason: EndReason, now: float) -> None:
        """End the session, once: refuse all pending replies and notify the upstream."""
        if self._ended:
            return
        self._ended = reason
        self._ordinary = False
        if self._held != NONE or self._withheld != NONE:
            # Its place still holds an older answer.
            self._replay.forget(max(self._held, self._withheld))
        self._held = self._withheld = NONE
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

    # Ends

    def _check_length(self, kind: Kind, body: bytes) -> None:
        """Raises BadRequest if an idle or close has a longer body than it can have."""
        if kind is not Kind.IDLE or not self._policy.resumes or len(body) > MOST_IDLE_BYTES:
            raise BadRequest("an idle or close carries at most one byte")

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
        if self._upstream_end and not self._backlog.size_bytes:
            self.end(self._upstream_end, now)

    def _overdue(self) -> EndReason:
        if self._cut:
            return EndReason.CLIENT_LOST
        if self._upstream_end:
            return self._upstream_end
        if self._withheld != NONE:
            return EndReason.UPSTREAM_STALLED
        if self._window:
            return EndReason.CLIENT_CLOSED if self._gave_up else EndReason.SEQUENCE_GAP
        return EndReason.CLIENT_SILENT if self.commands else EndReason.ABANDONED
