"""Debug lines, and rate-limited warnings, for log lines that clients can cause.

A caller tests ``debugging.enabled`` before it logs at level debug, so that the line costs only this test at
other levels. Warnings that clients can repeat are logged with ``repeated``, once a minute for each cause.
The observer limits the number of all lines (telemetry/logs/line_observer.py).
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
    """Whether level debug is logged."""

    enabled = False


@define
class _Cause:
    """A cause's last warning, the time of the next line, and the number of warnings since the last line."""

    due_at: float
    logger: Logger
    text: str
    fields: dict[str, Any]
    count: int = 0


@final
class RepeatedWarnings:
    """Logs the first warning of a cause at once, then one a minute with the number of all since then.

    Causes must be from a closed set; text from clients goes into the fields.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._causes: dict[str, _Cause] = {}

    def warn(self, logger: Logger, cause: str, text: str, /, **fields: Any) -> None:
        """Log a warning, or count it. ``text`` is a format string for ``fields``."""
        known = self._causes.get(cause)
        if known is None:
            self._causes[cause] = _Cause(self._clock() + _PERIOD_S, logger, text, fields)
            logger.warn(text, **fields)
            return
        known.text, known.fields = text, fields
        known.count += 1

    def flush(self) -> None:
        """Log the counts that are due. Call every few seconds."""
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
