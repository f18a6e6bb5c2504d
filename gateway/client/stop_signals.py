"""SIGINT and SIGTERM: the first one stops the program as the reactor does, each further one hurries it.

The reactor's own handlers log a fault if it is stopping already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from signal import SIGINT, SIGTERM, getsignal, signal
from typing import Any, Final

_SIGNALS: Final = (SIGINT, SIGTERM)


def hurry_when_repeated(hurry: Callable[[], object]) -> None:
    """Call ``hurry`` at each signal but the first. To be called when the reactor has its handlers.

    A signal that is ignored, such as SIGINT in a shell's background, stays ignored.
    """
    is_stopping = False

    def handle(stop: Callable[[int, Any], object], number: int, frame: Any) -> None:
        nonlocal is_stopping
        if is_stopping:
            hurry()
        else:
            is_stopping = True
            stop(number, frame)

    for number in _SIGNALS:
        stop = getsignal(number)
        if callable(stop):
            signal(number, partial(handle, stop))
