"""Live progress on a terminal: the table, drawn again in place until all trials have ended.

Only the cursor is moved, by ANSI sequences that every terminal since the VT100 has. A terminal with fewer
lines than the table gets one line with the number of trials that have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TextIO, final

from gateway.port_test.observations import Trial
from gateway.port_test.table import table_of

REDRAW_S: Final = 0.1
_UP: Final = "\x1b[{}A"
_ERASE_BELOW: Final = "\r\x1b[J"


@final
class Progress:
    """``columns`` and ``lines`` are the terminal's size."""

    __slots__ = ("_columns", "_drawn", "_lines", "_terminal")

    def __init__(self, terminal: TextIO, columns: int, lines: int) -> None:
        self._terminal = terminal
        self._columns = columns
        self._lines = lines
        self._drawn = 0

    def draw(self, trials: Sequence[Trial]) -> None:
        """Replace what was drawn before."""
        lines = table_of(trials)
        if len(lines) >= self._lines:
            ended = sum(trial.step is None for trial in trials)
            lines = [f"{ended} of {len(trials)} ways have been tried ..."]
        # A line that wraps would be two, and the next drawing would begin too low.
        text = "".join(f"{line[: self._columns - 1]}\n" for line in lines)
        self._write(self._erasure() + text)
        self._drawn = len(lines)

    def erase(self) -> None:
        """Remove what was drawn."""
        self._write(self._erasure())
        self._drawn = 0

    def _erasure(self) -> str:
        return _UP.format(self._drawn) + _ERASE_BELOW if self._drawn else ""

    def _write(self, text: str) -> None:
        self._terminal.write(text)
        self._terminal.flush()
