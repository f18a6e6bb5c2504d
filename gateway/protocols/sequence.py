"""The sequence of a session's commands: each takes effect in its turn, once (PROTOCOL.md, Sequence).

- The next command in order takes effect, and so do the commands behind it that waited in the window.
- A command ahead of its turn waits in the window, within its limits and for a limited time.
- A repeated command gets the stored answer.
- FFmpeg sends a failed command again under the next number; ``retries`` recognises that.
"""

from __future__ import annotations

from gateway.errors import NotFound, UnknownSession
from gateway.protocols.commands import Kind
from gateway.protocols.downstream import INTERVALS, NONE
from gateway.protocols.interfaces import Figures, Upstream
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.retries import CLOSE_GRACE_S, Meaning, Retries
from gateway.protocols.stream_policy import Delivery, StreamPolicy
from gateway.protocols.tunnel_options import read_idle
from gateway.protocols.window import Window
from gateway.protocols.withheld_answers import WithheldAnswers

# The version bytes an RTMP or RTMPE handshake can begin with (PROTOCOL.md, The exchange).
_HANDSHAKES = (b"\x03", b"\x06", b"\x08", b"\x09")
# Looking a member up in its Enum costs as much as a call; these are looked at for each command.
_IDLE = Kind.IDLE
_CLOSE = Kind.CLOSE
_SEND = Kind.SEND
# At every 128th command, the figures count their pending values.
SETTLE_MASK = 127


class CommandSequence(WithheldAnswers):
    """The base of ``Session`` that processes commands by their numbers.

    ``commands`` counts all, of which ``repeats`` and out-of-order ones (``early``).
    """

    __slots__ = (
        "_ended",
        "_first",
        "_next",
        "_retries",
        "_window",
        "commands",
        "early",
        "repeats",
    )

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        hold_s: float,
        now: float,
        tries_again: bool,
        figures: Figures | None,
        policy: StreamPolicy,
    ) -> None:
        super().__init__(limits, upstream, hold_s, now, figures, policy)
        self._retries = Retries() if tries_again else None
        self._first = self._next = NONE
        self._window = Window(limits)
        self._ended: EndReason | None = None
        self.commands = self.repeats = self.early = 0

    @property
    def is_keeping(self) -> bool:
        """Whether an answer is withheld because the upstream's write buffer is full, and no command is
        missing. A connection's later commands have to wait then: none of them can be the missing one.
        """
        return self._withheld != NONE and not self._window.has_gap(self._next)

    def has_room_for(self, body_bytes: int) -> bool:
        """Whether the next command, with a body of this size, takes effect or can wait for that."""
        return self._withheld == NONE or self._window.has_room_for(body_bytes)

    # ``Session`` ends

    def end(self, reason: EndReason, now: float) -> None:
        raise NotImplementedError

    def _take_close(self, number: int, now: float) -> bytes:
        raise NotImplementedError

    def _conclude(self, now: float) -> None:
        raise NotImplementedError

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
        if self._policy.resumes:
            self._make_room(kind, number, body)
        holds = kind is _IDLE
        if kind is _CLOSE:
            return self._take_close(number, now)
        if kind is _SEND:
            self._write(body)
            if self._choked and not self._must_read_first():
                self._withhold(number, now)
                return None
            holds = self._policy.resumes
        if holds and may_hold and not self._backlog.size_bytes and self._hold_s:
            self._held = number
            self.holds += 1
            self.deadline = now + self._hold_s
            return None
        if (
            may_hold
            and self._policy.framing is not None
            and self._hold_to_stream(kind, number, now)
        ):
            return None
        self.deadline = now + self._silent_s
        return self._answer(number, now)

    def _make_room(self, kind: Kind, number: int, body: bytes) -> None:
        """Forget the answers that have arrived, and limit the next one, so that all others are kept."""
        replay = self._replay
        if kind is _IDLE:
            said = read_idle(body)
            if said.figures is not None and self._figures is not None:
                self._figures.client_measured(said.figures)
            if said.whole:
                self.read_whole(Delivery.BUFFERED)
            if said.open is not None:
                arrived = number - said.open
                for each in range(max(self._arrived, arrived - len(replay)), arrived):
                    replay.forget(each)
                self._arrived = max(self._arrived, arrived)
        # Its place holds the answer to a number that the client can no longer repeat.
        replay.forget(number)
        self._most_bytes = min(self._limits.answer_bytes, self._room_bytes) - 1

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
                self._withhold(number, now)
                return
        self._replay.store(number, INTERVALS[0])

    # Out of order

    def _take_out_of_order(
        self, kind: Kind, number: int, body: bytes, now: float, may_hold: bool
    ) -> bytes | None:
        if not self.commands & SETTLE_MASK:
            self._settle()
        if self._cut:
            return self._take_after_cut(kind, number, body, now)
        if self._next == NONE and not self._ended and self._is_first(kind, number, body):
            self._first = self._next = number
        if number == self._next and self._withheld == NONE and not self._ended:
            answer = self._take(kind, number, body, now, may_hold and not self._window)
            self._advance(now)
            self._conclude(now)
            return answer
        if number < self._next:
            return self._repeat(kind, number, body, now)
        if self._ended:
            raise UnknownSession(self._ended.value)
        self._put_in_window(kind, number, body, now)
        self._conclude(now)
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

    def _is_first(self, kind: Kind, number: int, body: bytes) -> bool:
        """Whether ``number`` is the first of the session: 0, or 1 if the client starts there.

        A 1 that has overtaken a 0 is recognised by its body: the stream begins with a handshake.
        """
        if number == 1:
            return kind is not _SEND or body[:1] in _HANDSHAKES
        return number == 0

    def _put_in_window(self, kind: Kind, number: int, body: bytes, now: float) -> None:
        if number in self._window:
            return
        if not self._window.has_room_for(len(body)):
            self.end(EndReason.WINDOW_FULL, now)
            raise UnknownSession("too many commands before their turn")
        if self._held != NONE:
            self._release(now)
        if self._stream is not None:
            self._interrupt(self._stream, now)
        is_first = not self._window
        self._window.put(number, kind, body, now)
        if is_first and self._withheld == NONE:
            self._await_gap(now)
        self.early += 1
        self._ordinary = False

    def _advance(self, now: float) -> None:
        """Process the commands in the window up to the next gap."""
        while self._withheld == NONE and self._next in self._window:
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
                self._report_delay(number, since, now)
        self._ordinary = not (
            self._window or self._ended or self._upstream_end or self._cut or self._withheld != NONE
        )
        if self._window and self._withheld == NONE:
            self._await_gap(now)

    def _await_gap(self, now: float) -> None:
        """Set the deadline of the gap. It does not move when part of the gap is filled: no command waits
        longer than ``gap_s``, not counting the time in which the upstream's write buffer was full."""
        if self._gave_up:
            self.deadline = now + CLOSE_GRACE_S
        else:
            self.deadline = max(self._window.oldest_at, self._drained_at) + self._limits.gap_s

    @property
    def _gave_up(self) -> bool:
        """Whether the newest command in the window is a close behind commands that were given up."""
        return self._retries is not None and self._window.latest is _CLOSE

    def _repeat(self, kind: Kind, number: int, body: bytes, now: float) -> bytes | None:
        """Process a repeated command: return the stored answer."""
        self.repeats += 1
        if self._ordinary and self._held == NONE:
            self.deadline = now + self._silent_s
        if number == self._withheld:
            if not self._must_read_first():
                return None
            self._release_withheld(now)
        if number == self._held:
            answer = self._repeat_held(number, now)
            self._conclude(now)
            return answer
        if self._stream is not None and number == self._streamed and self._policy.resumes:
            # The loss of its connection has not been noticed here yet.
            self._finish(self._stream, now)
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
        if meaning is Meaning.AGAIN and last != self._withheld:
            self._take_back(last, now)
        return (kind, body) if meaning is Meaning.ITSELF else (_IDLE, b"")

    def _skip(self, now: float) -> None:
        """Skip the next command: it was lost, and will not be sent again."""
        if self._held != NONE:
            self._release(now)
        if self._withheld == NONE:
            self._replay.store(self._next, INTERVALS[0])
            self._next += 1
        else:
            # Its turn comes when the kept answer has left.
            self._window.put(self._next, _IDLE, b"", now)
