"""The memory of ways as a file: read at the start, replaced in one step at each change.

Several clients can use one file: each changes its own entry of it. Two that write at the same moment can
lose one of the entries, which costs a race.

A file that cannot be read or written is logged once, and costs nothing but a race at the next start. A file
with other content is left as it is: its name was given by mistake.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EINVAL
from pathlib import Path
from tempfile import mkstemp
from typing import Final, final

from twisted.logger import Logger

from gateway.protocols.way_memory import Remembered, WayMemory
from gateway.regular_files import read_regular_file

_log = Logger()

# A hundred bytes for each network.
_MOST_BYTES: Final = 64 * 1024
_NAME: Final = "ways.json"


def default_state_file(environment: Mapping[str, str]) -> Path | None:
    """In systemd's state directory (systemd.exec(5), StateDirectory=), or in the user's (XDG Base Directory
    Specification); None without either.
    """
    of_service = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if of_service:
        return Path(of_service) / _NAME
    of_user = Path(environment.get("XDG_STATE_HOME", ""))
    if of_user.is_absolute():
        return of_user / "rtmpt-client" / _NAME
    home = Path(environment.get("HOME", ""))
    return home / ".local/state/rtmpt-client" / _NAME if home.is_absolute() else None


@final
class StateFile:
    """``path``: None to remember ways only while the program runs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory = WayMemory()
        self._is_usable = path is not None

    def read(self) -> None:
        """Read the file, if it exists."""
        if self._path is None:
            return
        try:
            self._memory = _stored(self._path) or self._memory
        except OSError as error:
            self._warn("read", error)

    def recall(self, network: str) -> Remembered | None:
        """As ``WayMemory``."""
        return self._memory.recall(network)

    def remember(self, network: str, way: str, took_s: float) -> None:
        """As ``WayMemory``. The file is written if the way is another one than before."""
        known = self._memory.recall(network)
        self._memory.remember(network, way, took_s)
        if known is None or known.way != way:
            self._write(lambda memory: memory.remember(network, way, took_s))

    def forget(self, network: str, way: str) -> None:
        """As ``WayMemory``."""
        if self._memory.forget(network, way):
            self._write(lambda memory: memory.forget(network, way))

    def _write(self, change: Callable[[WayMemory], object]) -> None:
        """Change the entries of the file."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            memory = _stored(self._path) or self._memory
            change(memory)
            _replace(self._path, memory.to_json())
        except OSError as error:
            self._warn("written", error)

    def _warn(self, verb: str, error: OSError) -> None:
        if self._is_usable:
            self._is_usable = False
            _log.warn(
                "{path}: cannot be {verb}: {cause}; ways are not remembered after the end of this program",
                path=str(self._path),
                verb=verb,
                cause=error.strerror,
            )


def _stored(path: Path) -> WayMemory | None:
    """The entries of the file, None if there is none. Raises OSError, also for a file of something else."""
    try:
        text = read_regular_file(path, _MOST_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return None
    memory = WayMemory()
    if text and not memory.read_json(text):
        raise OSError(
            EINVAL, "it holds something else; name another file with --state, or delete it"
        )
    return memory


def _replace(path: Path, text: str) -> None:
    """Replace the file in one step. Raises OSError, and leaves no other file."""
    descriptor, name = mkstemp(dir=path.parent, prefix=f".{path.name}-")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
