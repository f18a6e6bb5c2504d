"""Publishers by application, stream and client address: a newer session of the same replaces the older.

A publisher whose network vanished returns before its old connection is found dead, and the media server
refuses the name for as long (PROTOCOL.md, any client that vanishes). What a session publishes is read in
its stream, so that an RTMPE publisher is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Summary

# Application, stream, client address.
_Name = tuple[str, str, str]


@final
class ReplacedPublishers(SessionObserver):
    """A record of ``Sessions``. ``replace`` ends the session of an alias; it may have ended already.

    It is called before the newer session's publish command goes upstream.
    """

    def __init__(self, replace: Callable[[str], object]) -> None:
        self._replace = replace
        self._publishing: dict[_Name, str] = {}

    def stream_began(self, summary: Summary) -> None:
        if summary.action != "publish" or not summary.address:
            return
        name = _name_of(summary)
        older, self._publishing[name] = self._publishing.get(name), summary.alias
        if older is not None:
            self._replace(older)

    def ended(self, summary: Summary) -> None:
        if self._publishing.get(_name_of(summary)) == summary.alias:
            del self._publishing[_name_of(summary)]


def _name_of(summary: Summary) -> _Name:
    return summary.application, summary.stream, summary.address
