"""The least level that is logged, to be changed while the gateway runs.

What other packages say at level info (Twisted's ports and factories that start and stop) counts as debug.
"""

from __future__ import annotations

from typing import final

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from gateway.logs import debugging

_OWN = "gateway."


@final
@implementer(ILogObserver)
class LevelFilter:
    """Passes on what is at least ``level``; an event without one counts as information.

    ``is_on_output`` says whether the observer writes to standard output.
    """

    def __init__(self, observer: ILogObserver, level: str, is_on_output: bool = False) -> None:
        self._observer = observer
        self.is_on_output = is_on_output
        self.level = level

    @property
    def level(self) -> str:
        """By the name that Twisted has for it."""
        return str(self._level.name)

    @level.setter
    def level(self, name: str) -> None:
        self._level = LogLevel.levelWithName(name)
        debugging.enabled = self._level is LogLevel.debug

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        if level is LogLevel.info and not event.get("log_namespace", _OWN).startswith(_OWN):
            level = LogLevel.debug
            event = {**event, "log_level": level}
        if level >= self._level:
            self._observer(event)
