"""The upstream direction of a session: writes to the upstream, and answers withheld while it is full.

- The answer to a send is withheld while the upstream's write buffer is full, and no later command takes
  effect: the client of a tunnel waits for it, as it would for TCP.
- It is released when the buffer has drained; or if both directions are full, because then the client must
  read first.
- An upstream that is too slow while an answer is withheld has stalled (``limits.is_slow``).

The order of the commands is not decided here (``sequence``).
"""

from __future__ import annotations

from gateway.protocols.downstream import INTERVALS, NONE
from gateway.protocols.interfaces import Figures, Upstream
from gateway.protocols.limits import Limits, is_slow
from gateway.protocols.reasons import EndReason
from gateway.protocols.stream_policy import StreamPolicy
from gateway.protocols.streaming import StreamingDownstream


class WithheldAnswers(StreamingDownstream):
    """The base of ``Session`` that writes to the upstream. ``sends``: how many have taken effect."""

    __slots__ = (
        "_choked",
        "_drained_at",
        "_ordinary",
        "_upstream_end",
        "_withheld",
        "_withheld_since",
        "_withheld_unsent",
        "bytes_up",
        "sends",
    )

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        hold_s: float,
        now: float,
        figures: Figures | None,
        policy: StreamPolicy,
    ) -> None:
        super().__init__(limits, upstream, hold_s, now, figures)
        self._set_up_streaming(policy)
        # Whether the next command in order can be processed without further checks.
        self._ordinary = False
        # Whether the upstream's write buffer is full.
        self._choked = False
        # The number whose answer is withheld, when its command was received, and the unsent bytes at the
        # last check.
        self._withheld = NONE
        self._withheld_since = now
        self._withheld_unsent = 0
        # When a withheld answer was last released.
        self._drained_at = 0.0
        # The upstream has closed for this reason, and some of its data is not answered yet.
        self._upstream_end: EndReason | None = None
        self.sends = self.bytes_up = 0

    def _advance(self, now: float) -> None:
        """Process the commands that were waiting for the withheld answer."""
        raise NotImplementedError

    def upstream_full(self) -> None:
        """The upstream's write buffer is full: withhold the answers to sends from now on."""
        self._choked = True

    def upstream_drained(self, now: float) -> None:
        """The upstream's write buffer has drained: release the withheld answer, then process further
        commands.
        """
        self._choked = False
        if self._withheld != NONE:
            self._release_withheld(now)

    def _write(self, body: bytes) -> None:
        self.sends += 1
        if body and self._upstream_end is None:
            self.bytes_up += len(body)
            self._upstream.write(body)

    def _report_delay(self, number: int, since: float, now: float) -> None:
        """Report the delay of a send received at ``since``, or note it while the send is withheld."""
        if number == self._withheld:
            self._withheld_since = since
        elif self._figures is not None:
            self._figures.upstream_delayed(now - since, self.sends)

    def _withhold(self, number: int, now: float) -> None:
        self._withheld = number
        self._withheld_since = now
        self._ordinary = False
        self._await_upstream(now)

    def _await_upstream(self, now: float) -> None:
        self._withheld_unsent = self._upstream.unsent
        self.deadline = now + self._limits.stalled_write_s

    def _upstream_is_slow(self) -> bool:
        """Whether the upstream has made too little progress since the last check."""
        taken_bytes = self._withheld_unsent - self._upstream.unsent
        return is_slow(taken_bytes, self._limits.stalled_write_s)

    def _release_withheld(self, now: float) -> None:
        """Release the withheld answer."""
        number, self._withheld = self._withheld, NONE
        self._drained_at = now
        self._report_delay(number, self._withheld_since, now)
        self.deadline = now + self._silent_s
        if self._is_waited_for(number):
            self._deliver(number, self._answer(number, now))
        else:
            self._replay.store(number, INTERVALS[0])
        self._advance(now)

    def _must_read_first(self) -> bool:
        """Whether both directions are full: the server may not read before its output is read."""
        return self._paused and self._upstream.unsent <= self._limits.up_buffer_bytes
