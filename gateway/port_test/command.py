"""The entry point of the command ``rtmpt-port-test``.

Exit statuses: 0 if some way works, 1 if none does, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.interrupts import interrupts_exit


def main(words: Sequence[str] | None = None) -> None:
    """``words`` are the arguments, by default those of the process."""
    with interrupts_exit():
        from gateway.port_test.program import run

        run(words)
