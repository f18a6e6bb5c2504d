"""Describes how a process ended."""

from __future__ import annotations

import os
import signal


def cause_of_end(status: int) -> str:
    """``status``: of os.waitpid."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
