"""Whether another supervisor has started after this worker's was killed.

Its workers make their sockets in the same folder. One that was not there before shows that they accept
clients.
"""

from __future__ import annotations

from pathlib import Path
from typing import final


@final
class Successor:
    """``folder``: of the workers' sockets. Must be made when the supervisor has ended."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._before = self._sockets()

    def has_started(self) -> bool:
        """Whether there is a socket that was not there at first."""
        return bool(self._sockets() - self._before)

    def _sockets(self) -> set[tuple[str, int]]:
        """Names, and times of their making: a name can be used again by another worker."""
        found = set()
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            try:
                found.add((path.name, path.stat().st_ctime_ns))
            except FileNotFoundError:
                continue
        return found
