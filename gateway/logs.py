"""Log lines that clients can cause: at level debug alone, or one a minute for each cause.

A caller tests ``debugging.enabled`` before it makes a debug line: at other levels, the line costs no more
than that. Warnings that clients can repeat go through ``repeated``. The observer bounds the number of all
lines (telemetry/logs/line_observer.py).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final, final

from attrs import define
from twisted.logger import Logger

_PERIOD_S: Final = 60.0


@final
class Debugging:
    """Whether lines of level debug are logged."""

    enabled = False


@define
class _Cause:
    """The last warning of a cause, when the next may be logged, and how many were not."""

    due_at: float
    logger: Logger
    text: str
    fields: dict[str, Any]
    count: int = 0


@final
class RepeatedWarnings:
    """Logs the first warning of a cause at once, then one a minute with the count of the others.

    Causes are from a closed set: what a client sent belongs into the fields.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._causes: dict[str, _Cause] = {}

    def warn(self, logger: Logger, cause: str, text: str, /, **fields: Any) -> None:
        """``text`` is the format of a line that ``fields`` fill."""
        known = self._causes.get(cause)
        if known is None:
            self._causes[cause] = _Cause(self._clock() + _PERIOD_S, logger, text, fields)
            logger.warn(text, **fields)
            return
        known.text, known.fields = text, fields
        known.count += 1

    def flush(self) -> None:
        """Log the counts that are due. Owed every few seconds."""
        now = self._clock()
        for cause, known in tuple(self._causes.items()):
            if known.due_at > now:
                continue
            if not known.count:
                del self._causes[cause]
                continue
            known.logger.warn(
                known.text + " (the last of {count} in the last minute)",
                count=known.count,
                **known.fields,
            )
            known.count, known.due_at = 0, now + _PERIOD_S


debugging: Final = Debugging()
repeated: Final = RepeatedWarnings()
