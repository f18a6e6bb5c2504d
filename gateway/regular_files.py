"""Reading of regular files at configured paths. FIFOs and devices, which could block, are refused."""

from __future__ import annotations

import os
from errno import EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG


def read_regular_file(path: str | Path, most_bytes: int) -> bytes:
    """The first ``most_bytes`` bytes. Raises OSError, also for a FIFO, a socket or a device.

    Opening a FIFO without a writer blocks unless O_NONBLOCK is set. It has no effect on regular files.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        # Reading a directory raises IsADirectoryError, which is more specific.
        if not S_ISREG(mode) and not S_ISDIR(mode):
            raise OSError(EINVAL, "not a regular file", str(path))
        return file.read(most_bytes)
