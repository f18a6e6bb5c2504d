"""Standard output of the commands: a failed write is one line, and no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EBADF


@contextmanager
def failures_reported_by(program: str) -> Iterator[None]:
    """Report a failed write to standard output in one line, and exit with status 1: a full disk, a closed
    pipe, or no standard output at all, which ``print`` ignores.
    """
    try:
        try:
            yield
        finally:
            print(end="", flush=True)
        if sys.stdout is None:
            raise OSError(EBADF, os.strerror(EBADF))
    except OSError as error:
        # The interpreter would write the rest again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(f"{program}: standard output: {error.strerror}") from None
