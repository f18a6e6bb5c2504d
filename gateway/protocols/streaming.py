"""Streamed answers: an answer begins with the first upstream data, and is filled as more arrives.

Rules (PROTOCOL.md, Streamed answers):

- Answers are streamed to clients that use an answer's bytes as they arrive, on direct connections
  (``stream_policy``), once the client plays: several kilobytes have been sent down, and much less up.
  During the handshake, connect and play, client and server wait for each other's messages.
- Chunked answers, for FFmpeg, end with the first data after their duration, when the upstream pauses, or
  when a command arrives: FFmpeg sends nothing while an answer is unfinished.
- Answers of a declared length, for librtmp, end when the length is filled. Commands that arrive earlier
  take effect at once. Their own answers carry no data, except the newest, which is the next to be streamed.
- The duration is twelve round trips of the client's connection, between 0.4 and 4 times ``answer_s``. The
  poll between two answers costs one round trip in which data waits: a thirteenth of the time. If the data
  that waits exceeds an initial window, sending it takes further round trips, and the duration is
  thirty-six.
- Data that waits for the poll marks the connection as idle (``Reply.mark_idle``).
- A streamed answer is not stored for repetition. FFmpeg and librtmp give up if a connection is lost during
  an answer, so the session then ends, after the commands received before.
- That of a client that resumes is stored, and its size is limited (``tunnel_options``). If its connection
  is lost, the answer ends with what was written. It is streamed through proxies too, since the client
  notices if one keeps it until its end. It does not end while the upstream pauses for less than a hold:
  the client sends the next command during the answer.
- If the client does not read, the answer is ``full``, and upstream data waits in the backlog.

A send of librtmp that arrives before its answer is complete proves that no proxy buffers it, because
librtmp sends only in response to data. After two proofs the declared length is ``MOST_BYTES``. Most answers
are then followed by one acknowledgement of librtmp, sent every 250 kB, whose own answer needs no poll.
More than one must not follow: librtmp reads into a buffer of 16 KiB, and treats a response head that does
not fit into its rest as the end of the connection. For the same reason the next answer begins ``REST_S``
later, when librtmp has emptied its buffer, and with a short head. An rtmpdump process that is stopped at
that moment can still fail, with a probability of 1 in 400: the size of the head over that of the buffer.

This module does not decide the order of commands, or when the session ends.
"""

from __future__ import annotations

from math import inf
from typing import Final

from gateway.protocols.clients import Framing
from gateway.protocols.downstream import INTERVALS, NONE, Downstream
from gateway.protocols.interfaces import Reply
from gateway.protocols.replay import Replay
from gateway.protocols.stream_policy import Delivery, StreamPolicy
from gateway.protocols.streamed_answer import (
    FIRST_BYTES,
    GROWTH,
    MOST_BYTES,
    StreamedAnswer,
    StreamedTotals,
)
from gateway.protocols.tunnel_options import STREAMED, most_commands, next_answer_bytes

# More than any tested server answers to the handshake (3,073 bytes), connect, createStream and play.
PLAYING_BYTES: Final = 8 * 1024
# The least ratio of bytes down to bytes up of a player. A publisher sends far more than it receives.
PLAYING_RATIO: Final = 2
# An upstream that sends nothing for this long pauses. Longer than the interval of frames at 25 a second,
# and shorter than a person notices when a seek or stop waits for it.
PAUSE_S: Final = 0.05
# The interval between an answer of declared length and the next one that needs no poll. rtmpdump has
# emptied its receive buffer by then. Without it, downloads of 50 MB broke off at the end of an answer.
REST_S: Final = 0.05
_ROUND_TRIPS: Final = 12
_ROUND_TRIPS_AFTER_BURST: Final = 36
# The most data, in time, that waits for a client that polls after one round trip. With more, it is behind.
_BEHIND_ROUND_TRIPS: Final = 2
_BEHIND_S: Final = 0.1
# Above an initial window (ten segments, RFC 6928), sending takes more than one round trip.
_BURST_BYTES: Final = 16 * 1024
_SHORTEST: Final = 0.4
_LONGEST: Final = 4.0
# Lower bound of a duration, for the division.
_CLOCK_S: Final = 1e-6

_ANY_ROOM: Final = 1 << 62
# With less room for a streamed answer, whole ones are better until the client says that some have arrived.
_LEAST_ROOM_BYTES: Final = 16 * 1024


class StreamingDownstream(Downstream):
    """The base of ``Session`` that streams answers. ``_stream`` is the one that is being streamed."""

    __slots__ = (
        *("_arrived", "_carried", "_cut", "_finished", "_pause_s", "_policy", "_resting"),
        *("_streamed", "_totals"),
    )
    _stream: StreamedAnswer | None
    bytes_up: int

    def _set_up_streaming(self, policy: StreamPolicy) -> None:
        self._policy = policy
        self._totals: StreamedTotals | None = None
        # The number of the last command whose answer was streamed.
        self._streamed = NONE
        # Whether a connection has carried a command, and whether one was lost during a streamed answer.
        self._carried = self._cut = False
        # The reply of the last streamed answer, until the next one begins.
        self._finished: Reply | None = None
        # Of a client that resumes: all answers to lower numbers have arrived.
        self._arrived = 0
        self._pause_s = PAUSE_S
        if policy.resumes:
            self._pause_s = max(PAUSE_S, self._hold_s)
            # Its answers are limited when they are made.
            self._replay = Replay(most_commands(self._limits), inf)
        # The held number whose answer begins ``REST_S`` after the last one.
        self._resting = NONE

    @property
    def streaming(self) -> str:
        """The value of ``Delivery``: "streamed", or the reason why not."""
        if self._policy.framing is not None and not self._is_playing():
            return Delivery.NOT_PLAYING.value
        return self._policy.cause.value

    @property
    def streamed_answers(self) -> int:
        """The number of complete streamed answers."""
        return self._totals.answers if self._totals is not None else 0

    @property
    def streamed_bytes(self) -> int:
        """Their total size."""
        return self._totals.size_bytes if self._totals is not None else 0

    @property
    def streamed_s(self) -> float:
        """Their total duration."""
        return self._totals.seconds if self._totals is not None else 0.0

    def read_whole(self, cause: Delivery) -> None:
        """Use whole answers from now on, unless the configuration says ``always``."""
        if not self._policy.always:
            self._stop_streaming(cause)

    def _stop_streaming(self, cause: Delivery) -> None:
        self._finished = None
        if self._policy.framing is not None:
            self._policy = self._policy.without_streaming(cause)

    @property
    def written_bytes(self) -> int:
        """How much of the upstream's data answers have carried."""
        return self.bytes_down - self._backlog.size_bytes

    # Called by the client's connection

    def stream_drained(self, now: float) -> None:
        """The write buffer of the streamed answer's connection has drained."""
        stream = self._stream
        if stream is not None:
            stream.full = False
            self._pour(stream, now)
            if self._stream is stream:
                self._set_stream_deadline(stream, now)

    # Begin

    def _is_playing(self) -> bool:
        return self.bytes_down >= PLAYING_BYTES and self.bytes_down > PLAYING_RATIO * self.bytes_up

    @property
    def _room_bytes(self) -> int:
        """The most of the next answer, for a client that resumes."""
        return next_answer_bytes(self.pause_bytes, len(self._replay), self._replay.size_bytes)

    def _may_stream(self) -> bool:
        """Whether the state of the session permits the next answer to be streamed."""
        return (
            self._policy.framing is not None
            and self._stream is None
            and (not self._policy.resumes or self._room_bytes >= _LEAST_ROOM_BYTES)
            and self._is_playing()
        )

    def _begin(self, now: float) -> bool:
        """Begin to stream the answer to the held command. Returns whether it was possible."""
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
        stream = self._stream = StreamedAnswer(reply, now, duration_s, self.written_bytes)
        self._finished = None
        # Its place in the replay still holds an older answer.
        self._replay.forget(number)
        self._streamed = number
        self.filled_answers += 1
        self.filled_pieces += 1
        self._empty_before = self.empty_answers
        first = self._spend(STREAMED if self._policy.resumes else INTERVALS[0])
        if self._policy.resumes:
            stream.is_limited = True
            stream.kept = [first]
            stream.room = self._room_bytes - len(first)
        length = None
        if self._policy.framing is Framing.DECLARED:
            stream.is_limited = True
            length = max(len(first), 1 + self._declared_bytes(totals, stream))
            stream.left = length - len(first)
        stream.full = not reply.begin(first, length, totals.is_direct)
        self._note_written(now)
        self._pour(stream, now)
        if self._stream is stream:
            self._set_stream_deadline(stream, now)
        return True

    def _begin_or_release(self, now: float) -> None:
        """Answer the held command with the waiting data: streamed if possible, else whole."""
        if self._stream is None and not self._begin(now):
            self._release(now)

    def _duration_s(self, totals: StreamedTotals, round_trip_s: float) -> float:
        answer_s = self._policy.answer_s
        if (
            self._backlog.size_bytes
            > totals.rate * (_BEHIND_ROUND_TRIPS * round_trip_s + _BEHIND_S)
            > 0
        ):
            # The client is behind: it catches up faster with fewer polls.
            return _LONGEST * answer_s
        is_burst = self._backlog.size_bytes > _BURST_BYTES
        round_trips = _ROUND_TRIPS_AFTER_BURST if is_burst else _ROUND_TRIPS
        return min(max(round_trips * round_trip_s, _SHORTEST * answer_s), _LONGEST * answer_s)

    def _declared_bytes(self, totals: StreamedTotals, stream: StreamedAnswer) -> int:
        """The length that the session's recent rate fills in the answer's duration."""
        filled = int(totals.rate * (stream.ends_at - stream.began_at)) or FIRST_BYTES
        grown = min(filled, totals.last_bytes * GROWTH, MOST_BYTES)
        begun = self.written_bytes - stream.from_bytes
        return max(grown, MOST_BYTES if totals.is_direct else begun)

    # Fill

    def upstream_data(self, data: bytes, now: float) -> None:
        """Process upstream data: add it to the answer that is being streamed, answer the held command with
        it, or keep it for the next answer.
        """
        self.bytes_down += len(data)
        stream = self._stream
        if stream is None:
            self._take_data(data, now)
        elif stream.is_limited or stream.full:
            self._stream_what_fits(stream, data, now)
        elif now < stream.ends_at:
            # Nothing waits in the backlog: the connection had room for all of it.
            self.filled_pieces += 1
            # Otherwise the deadline of every session that streams would expire at every sweep, only to be
            # set again. The next data ends the answer after ``ends_at``, or the pause without any.
            self.deadline = now + self._pause_s
            stream.full = not stream.reply.more(data)
        else:
            self.filled_pieces += 1
            self._finish(stream, now, data)

    def _take_data(self, data: bytes, now: float) -> None:
        """Process upstream data while no answer is being streamed."""
        raise NotImplementedError

    def _stream_what_fits(self, stream: StreamedAnswer, data: bytes, now: float) -> None:
        """Add upstream data to an answer that may not take all of it now."""
        left, size = stream.left, len(data)
        if stream.full or self._backlog.size_bytes or 0 <= left <= size or stream.room <= size:
            self._backlog.append(data)
            if not stream.full:
                self._pour(stream, now)
            if self._backlog.size_bytes:
                self._note_waiting(now)
            return
        self._write_piece(stream, data, now)
        if left < 0 and now >= stream.ends_at:
            self._finish(stream, now)
        else:
            self._set_stream_deadline(stream, now)

    def _pour(self, stream: StreamedAnswer, now: float) -> None:
        """Write the backlog as far as the client reads; end the answer if its time or length is used up."""
        most_bytes = self._limits.answer_bytes
        while self._backlog.size_bytes and not stream.full and stream.left and stream.room:
            most = min(most_bytes, stream.room if stream.left < 0 else stream.left)
            self._write_piece(stream, self._backlog.take(b"", most), now)
        self._resume_upstream()
        is_over = now >= stream.ends_at and not stream.full
        if not stream.left or not stream.room or (stream.left < 0 and is_over):
            self._finish(stream, now)

    def _write_piece(self, stream: StreamedAnswer, data: bytes, now: float) -> None:
        if stream.left > 0:
            stream.left -= len(data)
        if stream.kept is not None:
            stream.kept.append(data)
            stream.room -= len(data)
        self.filled_pieces += 1
        stream.full = not stream.reply.more(data)
        self._note_written(now)

    def _note_written(self, now: float) -> None:
        if self._figures is not None and self._figures.waiting:
            self._figures.downstream_answered(self.written_bytes, self.filled_pieces, now)

    def _note_waiting(self, now: float) -> None:
        if self._figures is not None:
            self._figures.downstream_waits(self.bytes_down, now)
        if self._backlog.size_bytes >= self.pause_bytes:
            self._pause()

    # End

    def _set_stream_deadline(self, stream: StreamedAnswer, now: float) -> None:
        if stream.left >= 0 or stream.full:
            # Nothing is due until the connection drains or is lost, which are reported.
            self.deadline = now + self._silent_s
        else:
            self.deadline = min(now + self._pause_s, stream.ends_at)

    def _expire_stream(self, stream: StreamedAnswer, now: float) -> None:
        """The session's deadline has passed while an answer is streamed."""
        if stream.left < 0 and not stream.full:
            self._finish(stream, now)
        else:
            self._set_stream_deadline(stream, now)

    def _interrupt(self, stream: StreamedAnswer, now: float) -> None:
        """A command has arrived while an answer is being streamed: end it if it is chunked."""
        if stream.left < 0:
            self._finish(stream, now)

    def _prove(self) -> None:
        """A send has arrived before an answer of declared length was complete."""
        if self._totals is not None:
            self._totals.proofs += 1

    def _write_rest(self, stream: StreamedAnswer, now: float) -> None:
        """Write the rest of the backlog, even if the client's write buffer is full."""
        size = (
            self._backlog.size_bytes
            if stream.left < 0
            else min(self._backlog.size_bytes, stream.left)
        )
        if size:
            self._write_piece(stream, self._backlog.take(b"", size), now)

    def _finish(self, stream: StreamedAnswer, now: float, last: bytes = b"") -> None:
        """End the streamed answer, a chunked one with ``last``, which has been counted. If its declared
        length is not filled, its connection is closed.
        """
        self._break_off(stream, now)
        self._answered_at = now
        totals, seconds = self._totals, now - stream.began_at
        if totals is not None:
            size_bytes = self.written_bytes - stream.from_bytes
            totals.last_bytes = max(size_bytes, FIRST_BYTES // GROWTH)
            totals.rate = size_bytes / max(seconds, _CLOCK_S)
        self._finished = stream.reply
        stream.reply.finish(stream.left <= 0, last)
        if self._held != NONE:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Begin the answer to the command that is held already, after ``REST_S``."""
        self._resting = self._held
        self.deadline = now + REST_S

    def _expire_rest(self, now: float) -> None:
        self._resting = NONE
        self.deadline = now + self._hold_s
        if self._backlog.size_bytes and self._waiters:
            self._begin_or_release(now)

    def _cut_off(self, stream: StreamedAnswer, now: float) -> None:
        """The connection of the streamed answer was lost, and the client will give up."""
        self._break_off(stream, now)
        self._cut = True
        self._backlog.clear()

    def _break_off(self, stream: StreamedAnswer, now: float) -> None:
        """The answer has no more than was written."""
        self._stream = None
        self.deadline = now + self._silent_s
        if stream.kept is not None:
            self._replay.store(self._streamed, b"".join(stream.kept))
        totals = self._totals
        if totals is not None:
            totals.answers += 1
            totals.size_bytes += self.written_bytes - stream.from_bytes
            totals.seconds += now - stream.began_at
