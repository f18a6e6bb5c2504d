"""New sessions while something fails."""

from __future__ import annotations

from threading import Event, Thread
from time import monotonic
from typing import final

from tests.helpers.interop.light_sessions import LightSessions, SessionFailed


@final
class Opens:
    """Opens a session every tenth of a second, and ends it, until it is closed."""

    def __init__(self, sessions: LightSessions, port: int, path: str) -> None:
        self.number = 0
        self.slowest_s = 0.0
        # When each began.
        self.failures: list[float] = []
        self._ended = Event()
        self._thread = Thread(target=self._run, args=(sessions, port, path))
        self._thread.start()

    def __str__(self) -> str:
        return (
            f"{self.number} opens, {len(self.failures)} failed, the slowest took"
            f" {self.slowest_s:.2f} s"
        )

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self, sessions: LightSessions, port: int, path: str) -> None:
        while not self._ended.wait(0.1):
            self.number += 1
            began = monotonic()
            try:
                sessions.play(port, path).close()
            except SessionFailed:
                self.failures.append(began)
            self.slowest_s = max(self.slowest_s, monotonic() - began)
