"""The output for a worker's log lines: a socket or pipe to the supervisor. Writing never blocks."""

from __future__ import annotations

import os
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from typing import Final, final

# The most that an unprivileged process may ask for (fs.pipe-max-size).
_PIPE_BYTES: Final = 1024 * 1024


@final
class PipeOutput:
    """Lines that do not fit are dropped: a slow disk under the log must not slow a tunnel down.

    ``dropped``: their number.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.dropped = 0
        # The end of a line whose beginning has been written.
        self._rest = b""
        os.set_blocking(descriptor, False)
        with suppress(OSError):
            fcntl(descriptor, F_SETPIPE_SZ, _PIPE_BYTES)

    def write(self, text: str) -> None:
        """Write complete lines."""
        if self._rest:
            self._rest = self._put(self._rest)
        if self._rest:
            self.dropped += 1
            return
        data = text.encode("utf-8", "replace")
        rest = self._put(data)
        if rest == data:
            self.dropped += 1
        else:
            self._rest = rest

    def take_dropped(self) -> int:
        """The number of lines dropped since the last call."""
        count, self.dropped = self.dropped, 0
        return count

    def flush(self) -> None:
        """Nothing is buffered."""

    def _put(self, data: bytes) -> bytes:
        """What could not be written."""
        try:
            return data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            return data
