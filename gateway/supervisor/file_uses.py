"""Uses of the configuration's files that are repeated until they succeed.

The files were valid when the configuration was checked, and the workers run with them; but a file can be in
the middle of a renewal when the supervisor reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

from twisted.logger import Logger

from gateway.errors import GatewayError
from gateway.logs import repeated

_log = Logger()


@final
class FileUses:
    """Those that have not succeeded yet."""

    def __init__(self) -> None:
        self._due: list[Callable[[], object]] = []

    def begin(self, uses: Iterable[Callable[[], object]]) -> None:
        """Make these calls, which may raise GatewayError and OSError, instead of those before."""
        self._due = list(uses)
        self.look()

    def look(self) -> None:
        """Make the calls that have failed again. Must be called every second."""
        for use in tuple(self._due):
            try:
                use()
            except (GatewayError, OSError) as error:
                repeated.warn(
                    *(_log, "file_uses", "{fault}; it is read again every second"),
                    fault=str(error),
                )
            else:
                self._due.remove(use)
