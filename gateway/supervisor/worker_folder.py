"""The folder of the workers' sockets, on which they receive each other's commands.

No other user may enter it. In systemd's runtime directory it has a fixed name, so that workers whose
supervisor was killed are found by its successor's.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, final

_MODE: Final = 0o700


@final
class WorkerFolder:
    """``path``: the folder, which exists."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def make(cls, environment: Mapping[str, str]) -> WorkerFolder:
        """Make the folder, or use the one that an earlier supervisor has left. Raises OSError."""
        given = environment.get("RUNTIME_DIRECTORY")
        if not given:
            return cls(mkdtemp(prefix="rtmpt-gateway-"))
        folder = Path(given.partition(":")[0], "workers")
        folder.mkdir(exist_ok=True)
        folder.chmod(_MODE)
        return cls(str(folder))

    def is_used(self, prefix: str) -> bool:
        """Whether a worker with this prefix listens. A socket that was left behind is removed."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(Path(self.path, prefix)))
            except FileNotFoundError:
                return False
            except ConnectionRefusedError:
                self.remove_sockets(prefix)
                return False
            except OSError:
                return True
        return True

    def remove_sockets(self, prefix: str) -> None:
        """Remove the sockets of a worker that has ended, unless it has done that itself.

        Those that cannot be removed now are removed before their names are used again.
        """
        with suppress(OSError):
            for path in Path(self.path).glob(f"{prefix}*"):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder, unless workers of a killed supervisor still use it."""
        with suppress(OSError):
            Path(self.path).rmdir()
