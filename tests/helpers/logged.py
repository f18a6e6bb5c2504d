"""The log events of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from zope.interface import implementer

from gateway.logs import debugging


@contextmanager
def logged(debug: bool = False) -> Iterator[list[str]]:
    """Level and message of each event in Twisted's log inside this context."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        message = eventAsText(event, includeTimestamp=False, includeSystem=False)
        lines.append(f"{event['log_level'].name}: {message}")

    debugging.enabled = debug
    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)
        debugging.enabled = False
