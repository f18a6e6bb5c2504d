"""Reading of regular files at configured paths. FIFOs and devices, which could block, are refused."""

from __future__ import annotations

import os
from errno import EINVAL
from pathlib import Path
from stat import S_IROTH, S_ISDIR, S_ISREG, S_IWOTH

from gateway.errors import ConfigurationError


def read_private_file(path: Path, most_bytes: int) -> bytes:
    """The content of a file with secrets, at most one byte more than ``most_bytes``.

    Raises ConfigurationError if it cannot be read, or if all users of this machine can.
    """
    try:
        mode = path.stat().st_mode
        content = read_regular_file(path, most_bytes + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & (S_IROTH | S_IWOTH):
        raise ConfigurationError(f"{path}: open to everybody on this machine; chmod o-rw it")
    return content


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
