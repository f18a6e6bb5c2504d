"""The least level that is logged, to be changed while the gateway runs."""

from __future__ import annotations

from typing import final

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer


@final
@implementer(ILogObserver)
class Threshold:
    """Passes on what is at least ``level``; an event without one counts as information."""

    def __init__(self, observer: ILogObserver, level: str) -> None:
        self._observer = observer
        self.level = level

    @property
    def level(self) -> str:
        """By the name that Twisted has for it."""
        return str(self._level.name)

    @level.setter
    def level(self, name: str) -> None:
        self._level = LogLevel.levelWithName(name)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= self._level:
            self._observer(event)
