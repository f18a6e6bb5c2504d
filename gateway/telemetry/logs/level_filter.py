"""Filter for log events below a level, which can be changed at run time.

Events of other packages at level info (such as Twisted's start and stop of ports) count as debug.
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
    """Passes events of at least ``level`` to ``observer``. Events without a level count as info.

    ``is_on_output``: whether the observer writes to standard output.
    """

    def __init__(self, observer: ILogObserver, level: str, is_on_output: bool = False) -> None:
        self._observer = observer
        self.is_on_output = is_on_output
        self.level = level

    @property
    def level(self) -> str:
        """The name of the level in Twisted."""
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
