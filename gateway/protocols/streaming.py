"""Streamed answers: an answer begins with the upstream's first bytes and is filled as more arrive.

The rules (PROTOCOL.md, Streamed answers):

- Only a client that uses bytes as they arrive gets them, on a direct connection, once its play is under
  way: some kilobytes have gone down, and far more than went up. During handshake, connect and play the two
  sides wait for each other.
- Chunked, for FFmpeg: the answer ends after its time, when the upstream pauses, or when a command arrives,
  since FFmpeg sends nothing while an answer is unfinished.
- Declared, for librtmp: the answer ends when its length is filled. Commands behind it take effect at once.
  Their own answers carry nothing, except the newest one, which becomes the next streamed answer.
- An answer lasts twelve round trips of the client's connection, within 0.4 and 4 times ``answer_s``:
  the poll between two answers costs a round trip in which data waits, a thirteenth of the time then. If
  more data waits in that time than a network takes at once, sending it takes further round trips, and an
  answer lasts thirty-six.
- While data waits for the poll, each new piece of it marks the connection as idle (``Reply.mark_idle``).
- A streamed answer is not kept for repetition. Both programs give up when a connection is cut in an answer,
  so the session ends then, after the commands that were already received.
- A client that does not read makes the answer ``full``. What the upstream says then waits in the backlog,
  with its bounds.

A send of librtmp behind an unfinished answer proves that nothing between buffers it: librtmp sends only
when data arrived. After two proofs the declared length is ``MOST_BYTES``: most answers then have an
acknowledgement of librtmp (one each 250 kB) behind them, whose own answer follows without a poll, but never
two: librtmp takes a head that straddles the end of its buffer of 16 KiB for the connection's end, and small
answers right behind a full one got there. For the same reason the next answer begins ``REST_S`` later, when
librtmp has emptied its buffer, and its head is short. A rtmpdump that is stopped for longer just then can
still fail: about one time in 400, by the ratio of the head to the buffer.

Not known here: whose turn a command is, and when the session ends.
"""

from __future__ import annotations

from typing import Final, final

from gateway.protocols.clients import Framing
from gateway.protocols.downstream import NONE, Downstream
from gateway.protocols.interfaces import Reply
from gateway.protocols.stream_policy import Delivery, StreamPolicy

# More than handshake (3,073), connect, createStream and play are answered with by any server seen.
PLAYING_BYTES: Final = 8 * 1024
# A player is sent this many times what it sends. A publisher is sent far less than it sends.
PLAYING_RATIO: Final = 2
# An upstream that says nothing for so long pauses: longer than the distance of two frames at 25 a second,
# shorter than what a person notices of a seek or stop that waits for it.
PAUSE_S: Final = 0.05
# Between a declared answer's end and the next one that follows without a poll. rtmpdump has read what its
# kernel holds by then; measured without it, bursts of 50 MB broke off at the end of an answer.
REST_S: Final = 0.05
_ROUND_TRIPS: Final = 12
_ROUND_TRIPS_AFTER_BURST: Final = 36
# A client that polls after a round trip finds this much of the stream at most; more, and it is behind.
_BEHIND_ROUND_TRIPS: Final = 2
_BEHIND_S: Final = 0.1
# More than a network takes at once (ten segments, RFC 6928): it needs many round trips to catch up.
_BURST_BYTES: Final = 16 * 1024
_SHORTEST: Final = 0.4
_LONGEST: Final = 4.0
# The first declared length, before the session's rate is known, and the largest: less than the 250 kB that
# librtmp acknowledges, so that one send at most is behind an answer. Answers to several would stand behind
# its last bytes, where a head may not fit into librtmp's buffer (``REST_S``): bursts broke off so.
_FIRST_BYTES: Final = 16 * 1024
MOST_BYTES: Final = 192 * 1024
# A burst fills an answer in no time, which says little about the rate of what follows.
_GROWTH: Final = 4
_PROOFS: Final = 2
# A shorter time is none.
_CLOCK_S: Final = 1e-6
_CHUNKED: Final = -1


@final
class StreamedAnswer:
    """One answer while it is streamed. ``left`` is how much of a declared length is not written yet."""

    __slots__ = ("began_at", "ends_at", "full", "left", "reply", "said_at", "size_bytes")

    def __init__(self, reply: Reply, now: float, duration_s: float) -> None:
        self.reply = reply
        self.began_at = self.said_at = now
        self.ends_at = now + duration_s
        self.left = _CHUNKED
        self.size_bytes = 0
        self.full = False


@final
class StreamedTotals:
    """What the streamed answers of one session came to."""

    __slots__ = ("answers", "last_bytes", "proofs", "rate", "seconds", "size_bytes")

    def __init__(self) -> None:
        self.answers = self.size_bytes = self.proofs = 0
        self.seconds = 0.0
        # Of the last answer: its bytes, and bytes a second.
        self.last_bytes = _FIRST_BYTES // _GROWTH
        self.rate = 0.0

    @property
    def is_direct(self) -> bool:
        """Whether it is proven that nothing between buffers the answers."""
        return self.proofs >= _PROOFS


class StreamingDownstream(Downstream):
    """The answers of one session, whole or streamed.

    ``policy`` says what the session may get; ``_stream`` is the answer that is streamed now.
    """

    __slots__ = ("_carried", "_cut", "_finished", "_policy", "_resting", "_streamed", "_totals")
    _stream: StreamedAnswer | None
    bytes_up: int

    def _set_up_streaming(self, policy: StreamPolicy) -> None:
        self._policy = policy
        self._totals: StreamedTotals | None = None
        # The number whose answer was streamed last.
        self._streamed = NONE
        # Whether a connection carried a command, and whether one was cut in a streamed answer.
        self._carried = self._cut = False
        # The reply of the streamed answer that ended last, until the next one begins.
        self._finished: Reply | None = None
        # The held number whose answer waits for a moment, since a declared one has just ended.
        self._resting = NONE

    @property
    def streaming(self) -> str:
        """``Delivery``'s value: "streamed", or why not."""
        if self._policy.framing is not None and not self._is_playing():
            return Delivery.NOT_PLAYING.value
        return self._policy.cause.value

    @property
    def streamed_answers(self) -> int:
        """How many streamed answers have ended."""
        return self._totals.answers if self._totals is not None else 0

    @property
    def streamed_bytes(self) -> int:
        """What those carried."""
        return self._totals.size_bytes if self._totals is not None else 0

    @property
    def streamed_s(self) -> float:
        """How long those took together."""
        return self._totals.seconds if self._totals is not None else 0.0

    def read_whole(self, cause: Delivery) -> None:
        """Stream no more answers of this session, unless the operator wants them always."""
        if not self._policy.always:
            self._stop_streaming(cause)

    def _stop_streaming(self, cause: Delivery) -> None:
        self._finished = None
        if self._policy.framing is not None:
            self._policy = StreamPolicy(None, cause, self._policy.answer_s)

    # Called by the client's connection

    def stream_drained(self, now: float) -> None:
        """The connection of the streamed answer has taken everything."""
        stream = self._stream
        if stream is not None:
            stream.full = False
            self._pour(stream, now)
            if self._stream is stream:
                self._set_stream_deadline(stream, now)

    # Begin

    def _is_playing(self) -> bool:
        return self.bytes_down >= PLAYING_BYTES and self.bytes_down > PLAYING_RATIO * self.bytes_up

    def _may_stream(self) -> bool:
        """Whether the next answer may be streamed, as far as the session knows."""
        return self._policy.framing is not None and self._stream is None and self._is_playing()

    def _begin(self, now: float) -> bool:
        """Begin a streamed answer to the held command, for which there is data; whether that is done."""
        if not self._may_stream() or len(self._waiters) != 1:
            return False
        number, reply = self._waiters[0]
        if number != self._held or not reply.may_stream:
            return False
        self._waiters.clear()
        self._held = NONE
        totals = self._totals
        if totals is None:
            totals = self._totals = StreamedTotals()
        duration_s = self._duration_s(totals, reply.round_trip_s)
        stream = self._stream = StreamedAnswer(reply, now, duration_s)
        self._finished = None
        # Its place in the replay still holds an older answer.
        self._replay.forget(number)
        self._streamed = number
        self.filled_answers += 1
        self.filled_pieces += 1
        self._empty_before = self.empty_answers
        first = self._spend()
        stream.size_bytes = len(first) - 1
        length = None
        if self._policy.framing is Framing.DECLARED:
            length = max(len(first), 1 + self._declared_bytes(totals, stream))
            stream.left = length - len(first)
        stream.full = not reply.begin(first, length, totals.is_direct)
        self._note_written(now)
        self._pour(stream, now)
        if self._stream is stream:
            self._set_stream_deadline(stream, now)
        return True

    def _begin_or_release(self, now: float) -> None:
        """There is data for a held command: stream its answer, or else give it a whole one."""
        if self._stream is None and not self._begin(now):
            self._release(now)

    def _duration_s(self, totals: StreamedTotals, round_trip_s: float) -> float:
        answer_s = self._policy.answer_s
        if (
            self._backlog.size_bytes
            > totals.rate * (_BEHIND_ROUND_TRIPS * round_trip_s + _BEHIND_S)
            > 0
        ):
            # The network is slower than the stream: fewer gaps let it catch up.
            return _LONGEST * answer_s
        is_burst = self._backlog.size_bytes > _BURST_BYTES
        round_trips = _ROUND_TRIPS_AFTER_BURST if is_burst else _ROUND_TRIPS
        return min(max(round_trips * round_trip_s, _SHORTEST * answer_s), _LONGEST * answer_s)

    def _declared_bytes(self, totals: StreamedTotals, stream: StreamedAnswer) -> int:
        """A length that the session's own rate fills in the answer's time."""
        filled = int(totals.rate * (stream.ends_at - stream.began_at)) or _FIRST_BYTES
        grown = min(filled, totals.last_bytes * _GROWTH, MOST_BYTES)
        return max(grown, MOST_BYTES if totals.is_direct else stream.size_bytes)

    # Fill

    def _stream_more(self, stream: StreamedAnswer, data: bytes, now: float) -> None:
        """The upstream has said ``data`` while an answer is streamed."""
        left, size = stream.left, len(data)
        if stream.full or self._backlog.size_bytes or 0 <= left <= size:
            self._backlog.append(data)
            if not stream.full:
                self._pour(stream, now)
            if self._backlog.size_bytes:
                self._note_waiting(now)
            return
        stream.said_at = now
        stream.size_bytes += size
        self.filled_pieces += 1
        if left > 0:
            stream.left = left - size
        stream.full = not stream.reply.more(data)
        if left < 0 and now >= stream.ends_at:
            self._finish(stream, now)

    def _pour(self, stream: StreamedAnswer, now: float) -> None:
        """Write of the backlog what the client takes; end the answer when its time or length is over."""
        most_bytes = self._limits.answer_bytes
        while self._backlog.size_bytes and not stream.full and stream.left:
            most = most_bytes if stream.left < 0 else min(most_bytes, stream.left)
            self._write_piece(stream, self._backlog.take(b"", most), now)
        self._resume_upstream()
        if not stream.left or (stream.left < 0 and now >= stream.ends_at and not stream.full):
            self._finish(stream, now)

    def _write_piece(self, stream: StreamedAnswer, data: bytes, now: float) -> None:
        stream.said_at = now
        stream.size_bytes += len(data)
        if stream.left > 0:
            stream.left -= len(data)
        self.filled_pieces += 1
        stream.full = not stream.reply.more(data)
        self._note_written(now)

    def _note_written(self, now: float) -> None:
        if self._figures is not None and self._figures.waiting:
            written = self.bytes_down - self._backlog.size_bytes
            self._figures.downstream_answered(written, self.filled_pieces, now)

    def _note_waiting(self, now: float) -> None:
        if self._figures is not None:
            self._figures.downstream_waits(self.bytes_down, now)
        if self._backlog.size_bytes >= self.pause_bytes:
            self._pause()

    # End

    def _set_stream_deadline(self, stream: StreamedAnswer, now: float) -> None:
        if stream.left >= 0 or stream.full:
            # Nothing to do for as long as the client's connection stands: its loss is told.
            self.deadline = now + self._silent_s
        else:
            self.deadline = min(stream.said_at + PAUSE_S, stream.ends_at)

    def _expire_stream(self, stream: StreamedAnswer, now: float) -> None:
        """The session's deadline has passed while an answer is streamed."""
        is_over = now >= stream.ends_at or now >= stream.said_at + PAUSE_S
        if stream.left < 0 and not stream.full and is_over:
            self._finish(stream, now)
        else:
            self._set_stream_deadline(stream, now)

    def _interrupt(self, stream: StreamedAnswer, now: float) -> None:
        """A command has arrived while an answer is streamed: it ends if it can."""
        if stream.left < 0:
            self._finish(stream, now)

    def _prove(self) -> None:
        """A send arrived behind an unfinished answer of declared length."""
        if self._totals is not None:
            self._totals.proofs += 1

    def _write_rest(self, stream: StreamedAnswer, now: float) -> None:
        """Write what the upstream had said, whether or not the client takes it now."""
        size = (
            self._backlog.size_bytes
            if stream.left < 0
            else min(self._backlog.size_bytes, stream.left)
        )
        if size:
            self._write_piece(stream, self._backlog.take(b"", size), now)

    def _finish(self, stream: StreamedAnswer, now: float) -> None:
        """End the streamed answer; one that has not its declared length ends with its connection."""
        self._stream = None
        self._answered_at = now
        self.deadline = now + self._silent_s
        totals, seconds = self._totals, now - stream.began_at
        if totals is not None:
            totals.answers += 1
            totals.size_bytes += stream.size_bytes
            totals.seconds += seconds
            totals.last_bytes = max(stream.size_bytes, _FIRST_BYTES // _GROWTH)
            totals.rate = stream.size_bytes / max(seconds, _CLOCK_S)
        self._finished = stream.reply
        stream.reply.finish(stream.left <= 0)
        if self._held != NONE:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        """A command is held behind the answer that has ended: it gets the next one, after a moment.

        librtmp reads into a buffer of 16 KiB, and takes an answer's head that does not fit behind what is
        left there for the end of the connection: its buffer has to be empty when the head arrives.
        """
        self._resting = self._held
        self.deadline = now + REST_S

    def _expire_rest(self, now: float) -> None:
        self._resting = NONE
        self.deadline = now + self._hold_s
        if self._backlog.size_bytes and self._waiters:
            self._begin_or_release(now)

    def _cut_off(self, stream: StreamedAnswer, now: float) -> None:
        """The streamed answer's connection is gone, and the client will give up."""
        self._stream = None
        self._cut = True
        self._backlog.clear()
        totals = self._totals
        if totals is not None:
            totals.answers += 1
            totals.size_bytes += stream.size_bytes
            totals.seconds += now - stream.began_at
