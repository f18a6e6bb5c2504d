"""Observer of Twisted's logger that writes one line for each event, as text or JSON, up to a number a
second.

A text line has the time, level and message. Under journald, which adds the time, it has a priority instead
(sd-daemon(3)). A JSON line is one object: time, level, namespace, message, and the event's own fields. Line
ends and terminal control characters are escaped in both; a traceback is one line too.

The number of lines is limited by a token bucket: ``BURST`` lines at once, then ``lines_per_s``, for all
levels, because clients can cause lines of any level. The bucket has a reserve for errors, and half of it
for lines above debug. The number of omitted lines is logged as soon as there are tokens again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, final

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

BURST: Final = 1000
# The number of tokens reserved for errors, and for lines above debug.
_FOR_ERRORS: Final = 100
_NOT_FOR_DEBUG: Final = _FOR_ERRORS + BURST // 2
# Longer lines are truncated; those in JSON have only the beginning of their message then. Text from clients
# is truncated before.
_LINE_CHARACTERS: Final = 16 * 1024
# A character takes up to twelve in JSON.
_MESSAGE_CHARACTERS: Final = 1000
_PRIORITIES: Final = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}
_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)
} | {0x5C: "\\\\", 9: "\\t", 10: "\\n", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def one_line(text: str) -> str:
    """``text`` with line ends and terminal control characters escaped."""
    return text.translate(_CONTROLS)


@final
class Bucket:
    """A token bucket."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()
        self.left_out = 0

    def take(self, reserve: int = 0) -> bool:
        """Take a token if more than ``reserve`` are left. Returns whether one was taken; counts
        refusals."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < reserve + 1:
            self.left_out += 1
            return False
        self._tokens -= 1
        return True

    def take_refusals(self) -> int:
        """The number of refusals since the last call."""
        count, self.left_out = self.left_out, 0
        return count


class Output(Protocol):
    """The output for lines."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


@final
@implementer(ILogObserver)
class LineObserver:
    """``layout`` formats an event as a line, without its end."""

    def __init__(self, output: Output, layout: Callable[[LogEvent], str], bucket: Bucket) -> None:
        self._output = output
        self._layout = layout
        self._bucket = bucket

    def __call__(self, event: LogEvent) -> None:
        reserve = _RESERVES.get(event.get("log_level", LogLevel.info), _FOR_ERRORS)
        if not self._bucket.take(reserve):
            return
        left_out = self._bucket.take_refusals()
        if left_out:
            self._write({**event, **_left_out(left_out)})
        self._write(event)

    def _write(self, event: LogEvent) -> None:
        try:
            self._output.write(self._layout(event)[:_LINE_CHARACTERS] + "\n")
            self._output.flush()
        except (OSError, ValueError):
            # A full disk or a closed pipe, which cannot be reported.
            return


_RESERVES: Final = {LogLevel.debug: _NOT_FOR_DEBUG, LogLevel.error: 0, LogLevel.critical: 0}


def _left_out(count: int) -> dict[str, Any]:
    return {
        "log_format": "{left_out} log lines were left out: more came than the bound allows",
        "log_level": LogLevel.warn,
        "log_namespace": __name__,
        "left_out": count,
    }


def text_line(event: LogEvent) -> str:
    """Format an event as text, with time and level."""
    return f"{_time_of(event)} {_level_of(event):8} {one_line(_message_of(event))}"


def journal_line(event: LogEvent) -> str:
    """Format an event as text for journald."""
    priority = _PRIORITIES.get(event.get("log_level", LogLevel.info), 6)
    return f"<{priority}>{one_line(_message_of(event))}"


def json_line(event: LogEvent) -> str:
    """Format an event as a JSON object."""
    line: dict[str, Any] = {
        "time": _time_of(event),
        "level": _level_of(event),
        "namespace": str(event.get("log_namespace", "")),
        "message": _message_of(event),
    }
    fields = {
        key: value
        for key, value in event.items()
        if key not in line and not key.startswith("log_") and key not in _LEGACY
    }
    whole = _as_json({**line, **fields})
    if len(whole) <= _LINE_CHARACTERS:
        return whole
    return _as_json({**line, "message": line["message"][:_MESSAGE_CHARACTERS]})


def _as_json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, default=str, ensure_ascii=True, separators=(",", ":"))


# Fields that Twisted's older log module adds to each event.
_LEGACY: Final = frozenset({"system", "format", "isError", "failure", "why", "traceback"})
LAYOUTS: Final[Mapping[str, Callable[[LogEvent], str]]] = {"text": text_line, "json": json_line}


def make_observer(
    layout: str,
    output: Output,
    lines_per_s: float,
    clock: Callable[[], float],
    journald: bool = False,
) -> LineObserver:
    """The observer for a configured ``layout``. ``journald``: whether ``output`` is the journal."""
    make = journal_line if journald and layout == "text" else LAYOUTS[layout]
    return LineObserver(output, make, Bucket(lines_per_s, BURST + _FOR_ERRORS, clock))


def _time_of(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level_of(event: LogEvent) -> str:
    return str(event.get("log_level", LogLevel.info).name)


def _message_of(event: LogEvent) -> str:
    return eventAsText(event, includeTimestamp=False, includeSystem=False)
