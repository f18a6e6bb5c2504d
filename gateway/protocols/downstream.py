"""The downstream half of a session: answers to commands, and held idles (long polling).

Rules (PROTOCOL.md, Interval byte and Held idle):

- An answer is one interval byte and the upstream data received since the last answer. It is stored, and
  repeated unchanged if its command is repeated.
- An idle without data is held until data arrives, or any other command of the session. If the connection of
  a held idle is lost, the idle is orphaned: data is kept for its repetition or for the next command.
- Reading from the upstream is paused while more than ``pause_bytes`` are unanswered.

Command order, upstream writes and the end of the session are implemented in the subclass ``Session``. It
inherits from this class instead of containing it because of the cost of the additional attribute lookups at
100,000 commands a second.
"""

from __future__ import annotations

from gateway.errors import UnknownSession
from gateway.protocols.backlog import Backlog
from gateway.protocols.interfaces import Figures, Reply, Upstream
from gateway.protocols.limits import Limits
from gateway.protocols.replay import Replay

# PROTOCOL.md, Interval byte: 1 + 0, 2, 4, 8, 16, 32, one step up after ten empty answers in a row.
INTERVALS = (b"\x01", b"\x03", b"\x05", b"\x09", b"\x11", b"\x21")
EMPTY_ANSWERS_A_STEP = 10
# Stands for no sequence number.
NONE = -1
# The 32 commands of the window, each repeated once on another connection. More repetitions are abuse.
_MOST_WAITERS = 64


class Downstream:
    """The answers of one session. Times are seconds of one monotonic clock.

    ``deadline`` is when ``expire`` must be called. Counters are plain attributes: held idles (``holds``),
    ``empty_answers`` and ``filled_answers``, the writes that carried upstream data (``filled_pieces``), and
    the ``bytes_down`` received from the upstream.
    """

    __slots__ = (
        "_answered_at",
        "_backlog",
        "_empty_before",
        "_figures",
        "_held",
        "_hold_s",
        "_limits",
        "_most_bytes",
        "_paused",
        "_replay",
        "_silent_s",
        "_stream",
        "_upstream",
        "_waiters",
        "bytes_down",
        "deadline",
        "empty_answers",
        "filled_answers",
        "filled_pieces",
        "holds",
        "pause_bytes",
    )

    def __init__(
        self, limits: Limits, upstream: Upstream, hold_s: float, now: float, figures: Figures | None
    ) -> None:
        self._limits = limits
        self._upstream = upstream
        self._figures = figures
        self._hold_s = hold_s
        self._silent_s = limits.silent_session_s
        self._held = NONE
        # The answer that is streamed now, if any (``streaming``): the backlog is for it alone then.
        self._stream: object | None = None
        self._waiters: list[tuple[int, Reply]] = []
        self._backlog = Backlog()
        self._replay = Replay(limits.replay_answers, limits.replay_bytes)
        # The most data of the next answer.
        self._most_bytes = limits.answer_bytes - 1
        self._paused = False
        self._answered_at = now
        self._empty_before = 0
        self.deadline = now + limits.unused_session_s
        self.pause_bytes = limits.down_buffer_bytes // 2
        self.holds = self.empty_answers = self.filled_answers = self.bytes_down = 0
        self.filled_pieces = 0

    # Pending replies

    def _add_waiter(self, number: int, reply: Reply) -> None:
        """Add a pending reply. If there are too many, refuse the oldest."""
        self._waiters.append((number, reply))
        if len(self._waiters) > _MOST_WAITERS:
            self._waiters.pop(0)[1].refuse(UnknownSession("too many wait for an answer"))

    def _is_waited_for(self, number: int) -> bool:
        return any(waited == number for waited, _ in self._waiters)

    def _deliver(self, number: int, answer: bytes) -> None:
        waiters = self._waiters
        if len(waiters) == 1 and waiters[0][0] == number:
            waiters.pop()[1].answer(answer)
            return
        self._waiters = [waiter for waiter in waiters if waiter[0] != number]
        for waited, reply in waiters:
            if waited == number:
                reply.answer(answer)

    # Held idles. ``Session._take`` begins a hold inline, which saves a call for each idle.

    def _release(self, now: float) -> None:
        """Answer the held idle with the data there is. An orphaned idle gets none."""
        number, self._held = self._held, NONE
        self.deadline = now + self._silent_s
        if self._waiters:
            self._deliver(number, self._answer(number, now))
        else:
            self._replay.store(number, INTERVALS[0])

    def _repeat_held(self, number: int, now: float) -> bytes | None:
        """A repetition of the held idle, after its connection was lost or the client timed out."""
        if self._waiters:
            self._release(now)
            return self._replay.answer_to(number)
        if self._backlog.size_bytes:
            self._held = NONE
            self.deadline = now + self._silent_s
            return self._answer(number, now)
        self.deadline = now + self._hold_s
        return None

    # Answers

    def _answer(self, number: int, now: float) -> bytes:
        """Create the answer to ``number``, and store it for repetition."""
        self._answered_at = now
        if self._backlog.size_bytes and self._stream is None:
            self.filled_answers += 1
            self.filled_pieces += 1
            self._empty_before = self.empty_answers
            answer = self._spend()
            if self._figures is not None and self._figures.waiting:
                answered_bytes = self.bytes_down - self._backlog.size_bytes
                self._figures.downstream_answered(answered_bytes, self.filled_pieces, now)
        else:
            step = (self.empty_answers - self._empty_before) // EMPTY_ANSWERS_A_STEP
            answer = INTERVALS[min(step, len(INTERVALS) - 1)]
            self.empty_answers += 1
        self._replay.store(number, answer)
        return answer

    def _spend(self, interval: bytes = INTERVALS[0]) -> bytes:
        """Take the content of the next answer: the interval byte, and data up to its size limit."""
        answer = self._backlog.take(interval, self._most_bytes)
        self._resume_upstream()
        return answer

    def _resume_upstream(self) -> None:
        """Resume reading from the upstream if the backlog is small enough."""
        if self._paused and self._backlog.size_bytes < self.pause_bytes // 2:
            self._paused = False
            self._upstream.resume()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._upstream.pause()

    def _take_back(self, number: int, now: float) -> None:
        """The client did not receive the answer to ``number``: return its data to the backlog."""
        if self._held != NONE:
            self._release(now)
        answer = self._replay.answer_to(number)
        if answer is not None and len(answer) > 1:
            self._backlog.put_back(answer[1:])
            self._replay.store(number, INTERVALS[0])
