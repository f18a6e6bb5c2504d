"""Observer of the beginning and end of sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

from twisted.logger import Logger

from gateway.errors import RequestRefused
from gateway.protocols.ingress import Ingress
from gateway.telemetry.summary import Summary

_log = Logger()


class SessionObserver:
    """The base class of observers; its methods do nothing."""

    def opened(self, summary: Summary) -> None:
        """A session was opened. Its application and stream are not known yet."""

    def stream_began(self, summary: Summary) -> None:
        """A publish or play was found in the session's stream."""

    def stream_unknown(self, summary: Summary) -> None:
        """No publish or play can be found in the session's stream."""

    def ended(self, summary: Summary) -> None:
        """A session ended."""

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        """A session could not be opened for the client ``address``."""


@final
class Observers(SessionObserver):
    """Several observers as one. A fault of one is logged: the session goes on, or ends, as without it."""

    def __init__(self, observers: Iterable[SessionObserver]) -> None:
        self._observers = tuple(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def opened(self, summary: Summary) -> None:
        self._tell(lambda observer: observer.opened(summary))

    def stream_began(self, summary: Summary) -> None:
        self._tell(lambda observer: observer.stream_began(summary))

    def stream_unknown(self, summary: Summary) -> None:
        self._tell(lambda observer: observer.stream_unknown(summary))

    def ended(self, summary: Summary) -> None:
        self._tell(lambda observer: observer.ended(summary))

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self._tell(lambda observer: observer.refused(error, address, ingress))

    def _tell(self, event: Callable[[SessionObserver], None]) -> None:
        for observer in self._observers:
            try:
                event(observer)
            except Exception:
                _log.failure("An observer of sessions failed")
