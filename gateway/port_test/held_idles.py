"""The behaviour of a tunnel's answers: held idles, cuts, and whether answers with media are buffered.

An answer with media is *streamed* if it arrives over time, and *buffered* if it arrives at once, late, and
contains as much media as the time of waiting: its first message was there long before. An answer that
comes soon, with the newest media, is *whole*: nothing shows that it waited anywhere.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from gateway.port_test.observations import Delivery, Holding

# Between the first and the last byte of an answer: more than the segments of one answer need on most paths.
_STREAMED_MS: Final = 100.0
# The least wait that counts as one: less than any server's or proxy's timeout.
_CLOSING_MS: Final = 100.0
# Longer than the interval of frames, and than servers collect media for an answer.
_LATE_MS: Final = 250.0


@frozen
class Answer:
    """One answer to an idle. Times are in ms since its request; ``media_ms``: the span of its media."""

    first_byte_ms: float
    last_byte_ms: float
    empty: bool
    media_ms: float = 0.0


class HeldIdles:
    """Collects the answers of one tunnel."""

    __slots__ = ("_answers", "_closes", "_cut_after_ms")

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._cut_after_ms: float | None = None
        self._closes = False

    def answered(self, answer: Answer) -> None:
        self._answers.append(answer)

    def lost(self, after_ms: float) -> None:
        """The connection was lost while a request of this age had no complete answer.

        One that is lost sooner than the server answers was closed after the answer before, and the request
        had left by then.
        """
        fastest_ms = min((answer.last_byte_ms for answer in self._answers), default=0.0)
        if after_ms < max(_CLOSING_MS, fastest_ms):
            self._closes = True
        elif self._cut_after_ms is None:
            self._cut_after_ms = after_ms

    def closed(self) -> None:
        """The connection cannot be used again after a complete answer."""
        self._closes = True

    def holding(self) -> Holding:
        """The summary."""
        held = [answer.last_byte_ms for answer in self._answers if answer.empty]
        return Holding(
            max(held, default=None), self._cut_after_ms, self._closes, delivery_of(self._answers)
        )


def delivery_of(answers: list[Answer]) -> Delivery | None:
    """How the answers with media arrived; None without any."""
    with_media = [answer for answer in answers if answer.media_ms > 0]
    if not with_media:
        return None
    if any(answer.last_byte_ms - answer.first_byte_ms >= _STREAMED_MS for answer in with_media):
        return Delivery.STREAMED
    if any(_is_buffered(answer) for answer in with_media):
        return Delivery.BUFFERED
    return Delivery.WHOLE


def _is_buffered(answer: Answer) -> bool:
    return answer.first_byte_ms >= _LATE_MS and answer.media_ms >= answer.first_byte_ms / 2
