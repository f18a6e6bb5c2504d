"""Sessions of servers that work, while another one fails.

Some sessions beside them do not pass through the gateway. They are at the same servers, and are measured
by the same thread; many of them pass through a plain relay, which waits for the processor as the gateway
does. So their gaps are those of the machine and the servers. Sessions through the gateway may have the
longest gap of the reference run, or that of the others at the same time, and 50 ms more.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep
from typing import Final, final

from tests.helpers.interop.light_sessions import LightSession, forget_gaps, longest_gap_s

STALL_S: Final = 0.05
# As long as a fault is watched at least: longer times have longer gaps.
REFERENCE_S: Final = 4.0


@final
class Bystanders:
    """``through``: sessions through the gateway. ``direct`` and ``relayed``: without it. The reference run
    is made at once.
    """

    def __init__(
        self,
        through: Sequence[LightSession],
        direct: Sequence[LightSession],
        relayed: Sequence[LightSession],
    ) -> None:
        self._through, self._direct, self._relayed = through, direct, relayed
        self.begin()
        sleep(REFERENCE_S)
        self._reference_s, _ = self._measure("\nreference")

    def begin(self) -> None:
        """Measure from now on."""
        forget_gaps((*self._through, *self._direct, *self._relayed))

    def check(self, what: str) -> None:
        """No session has waited for longer than it may since ``begin``, and none has ended."""
        own_s, machine_s = self._measure(what)
        assert not any(each.has_ended for each in self._through), what
        assert own_s <= max(self._reference_s, machine_s) + STALL_S, what

    def _measure(self, what: str) -> tuple[float, float]:
        """The longest gaps of sessions through the gateway, and of the others."""
        own_s, direct_s, relayed_s = map(
            longest_gap_s, (self._through, self._direct, self._relayed)
        )
        print(f"{what}: {own_s:.3f} s; direct {direct_s:.3f} s, through a relay {relayed_s:.3f} s")
        return own_s, max(direct_s, relayed_s)
