"""Hook for exceptions that Python cannot raise, from callbacks and finalizers: counts and logs them.

Python's own hook writes a traceback to standard error for each, and clients may be able to cause them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, final

from twisted.logger import Logger

from gateway.logs import repeated

_log = Logger()


@final
class UnraisableExceptions:
    """``count``: the number of such exceptions in this process."""

    def __init__(self, warn: Callable[..., None] = repeated.warn) -> None:
        self._warn = warn
        self.count = 0

    def install(self) -> None:
        """Replace Python's hook."""
        sys.unraisablehook = self.report

    def report(self, found: Any, /) -> None:
        """The ``sys.unraisablehook``. Keeps no reference to the exception or its object."""
        self.count += 1
        self._warn(
            _log,
            "unraisable",
            "a callback failed: {error} in {where}",
            error=repr(found.exc_value)[:200],
            where=repr(found.object)[:200],
        )


unraisable: Final = UnraisableExceptions()
