"""Real programs: found (or the test is skipped), started, watched, and stopped by process id.

No function sleeps for a fixed time: each wait names its condition and its timeout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar, final

import pytest

_Value = TypeVar("_Value")

# Debian has servers where a user's PATH may not look, and ./test puts tools of its own beside Python.
_PATH = os.pathsep.join(
    (
        os.environ.get("PATH", os.defpath),
        *("/usr/local/sbin", "/usr/sbin"),
        str(Path(sys.executable).parent),
    )
)
# More than any of them takes on a busy machine: a server that is killed leaves its worker behind.
_STOP_S = 20.0
# A look can cost the gateway a scrape of its metrics, and the programs that are waited for need the
# processor: the pause grows with the time that has passed.
_LEAST_PAUSE_S, _LONGEST_PAUSE_S, _PAUSE_SHARE = 0.005, 0.05, 0.1
_AGAIN_S = 0.5


_squids = count()


def squid_folder(programs: Programs) -> Path:
    """A new folder that squid can use after it has given up root for a user of its own."""
    folder = programs.new_folder("squid")
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    return folder


def needs(program: str) -> str:
    """The path of ``program``; the test is skipped if the program is not installed."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def squid(configuration: Path) -> tuple[str, ...]:
    """The command of squid in the foreground, with a name of its own for its shared memory."""
    name = f"squid{os.getpid()}n{next(_squids)}"
    return (needs("squid"), "-N", "-n", name, "-f", str(configuration))


def until(condition: Callable[[], _Value], what: str, deadline_s: float = 30.0) -> _Value:
    """Wait for ``condition`` to be true, and return its result."""
    began = monotonic()
    while not (value := condition()):
        passed_s = monotonic() - began
        if passed_s > deadline_s:
            pytest.fail(f"not within {deadline_s} s: {what}")
        sleep(min(max(_LEAST_PAUSE_S, _PAUSE_SHARE * passed_s), _LONGEST_PAUSE_S))
    return value


@final
class Program:
    """A running program. Its output goes to files: a full pipe would block it."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        pass_fds: Sequence[int],
    ) -> None:
        self.name = Path(command[0]).name
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
            )

    @property
    def log(self) -> str:
        """The output so far, standard output and standard error."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def children(self) -> list[int]:
        """The ids of its child processes, such as a gateway's workers."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def ends(self, deadline_s: float) -> int:
        """Wait for the program's end, and return its exit status."""
        until(lambda: not self.running, f"{self.name} ends; it said:\n{self.log}", deadline_s)
        return self._process.wait()

    def says(self, words: str, deadline_s: float = 30.0) -> str:
        """Wait for ``words`` in its log, and return the rest of their line."""
        until(
            lambda: words in self.log or not self.running,
            f"{self.name} says {words!r}",
            deadline_s,
        )
        assert words in self.log, f"{self.name} ended before {words!r}:\n{self.log}"
        return self.log.partition(words)[2].partition("\n")[0]

    def send(self, signal: int) -> None:
        self._process.send_signal(signal)

    def stop(self) -> None:
        """Stop the program with SIGTERM, and repeat this: a gateway with sessions then stops at once."""
        end = monotonic() + _STOP_S
        while monotonic() < end:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_AGAIN_S)
                return
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@final
class Programs:
    """The programs of one test, each in a folder of its own; ``stop`` ends those that still run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._started: list[Program] = []

    def start(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Program:
        """Start ``command``; its first word is a program that is needed."""
        program, *words = command
        path = needs(program)
        folder = self.new_folder(Path(program).name)
        started = Program([path, *words], folder, environment or {}, pass_fds)
        self._started.append(started)
        return started

    def new_folder(self, name: str) -> Path:
        """A new folder."""
        folder = self._folder / f"{next(self._numbers)}-{name}"
        folder.mkdir()
        return folder

    def stop(self) -> None:
        while self._started:
            self._started.pop().stop()
