"""Ctrl-C before a program handles it: exit status 130, and no traceback.

Commands import the rest of the program within ``interrupts_exit``, since the imports take most of the time
of the start.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_INTERRUPTED: Final = 130


@contextmanager
def interrupts_exit() -> Iterator[None]:
    """Exit with status 130 at KeyboardInterrupt."""
    try:
        yield
    except KeyboardInterrupt:
        # Another one would be a traceback of the interpreter's own end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(_INTERRUPTED) from None
