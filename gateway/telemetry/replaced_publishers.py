"""Replacement of publishers: a new session that publishes the same stream from the same address ends the
old one.

A publisher whose network vanished reconnects before its old connection times out, and until then the media
server refuses the stream name (PROTOCOL.md, any client that vanishes). RTMPE publishers are not recognised,
because their streams cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Summary

# Application, stream and client address.
_Name = tuple[str, str, str]


@final
class ReplacedPublishers(SessionObserver):
    """``replace`` ends the session of an alias, which may have ended already.

    It is called before the publish command of the new session is sent upstream.
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
