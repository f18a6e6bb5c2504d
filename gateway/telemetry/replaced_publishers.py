"""Replacement of publishers: a new session that publishes the same stream from the same address ends the
old one, in this worker or another.

A publisher whose network vanished reconnects before its old connection times out, and until then the media
server refuses the stream name (PROTOCOL.md, any client that vanishes). RTMPE publishers are not recognised,
because their streams cannot be read, unless the gateway terminates RTMPE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Summary

# Application, stream and client address.
Name = tuple[str, str, str]


def _ignore(alias: str, name: Name, since: float) -> None:
    """The ``announce`` of a worker without others."""


@final
class ReplacedPublishers(SessionObserver):
    """``replace`` ends the session of an alias, which may have ended already. ``clock``: the machine's
    monotonic clock, which all workers share.

    ``replace`` and ``announce`` are called before the publish command of the new session is sent upstream.
    """

    def __init__(self, replace: Callable[[str], object], clock: Callable[[], float]) -> None:
        self._replace = replace
        self._clock = clock
        # The newest publisher's alias, and when its stream began.
        self._publishing: dict[Name, tuple[str, float]] = {}
        # By alias: a session may publish another stream later, which is not recognised.
        self._names: dict[str, Name] = {}
        # Told the alias, name and time of each new publisher, for other workers' ``replace_older``.
        self.announce: Callable[[str, Name, float], object] = _ignore

    def stream_began(self, summary: Summary) -> None:
        if summary.action != "publish" or not summary.address:
            return
        name, now = _name_of(summary), self._clock()
        self.replace_older(name, now)
        self._publishing[name] = summary.alias, now
        self._names[summary.alias] = name
        self.announce(summary.alias, name, now)

    def replace_older(self, name: Name, since: float) -> None:
        """End the publisher of ``name``, unless its stream began later than ``since``."""
        alias, began = self._publishing.get(name, ("", since))
        if alias and began <= since:
            del self._publishing[name]
            self._replace(alias)

    def ended(self, summary: Summary) -> None:
        name = self._names.pop(summary.alias, None)
        if name is not None and self._publishing.get(name, ("", 0.0))[0] == summary.alias:
            del self._publishing[name]


def _name_of(summary: Summary) -> Name:
    return summary.application, summary.stream, summary.address
