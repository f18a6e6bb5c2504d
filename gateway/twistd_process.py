"""The process of twistd: its log, its standard error, and its exit status."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

from twisted.python.logfile import LogFile

from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.logs.line_observer import Output, make_observer


class _LogFile(LogFile):
    """One that is opened again after a rotation that has failed, as on a full disk: Twisted's stays closed,
    and would log nothing until the next start.
    """

    def write(self, data: str | bytes) -> None:
        """Raises OSError."""
        if self._file.closed:
            self._openFile()  # type: ignore[no-untyped-call]
        super().write(data)  # type: ignore[no-untyped-call]


def output_of(twistd: Mapping[str, Any] | None) -> Output | None:
    """The output for the program's log; None if twistd's options select another log, or syslog."""
    if twistd is None or twistd.get("logger") or twistd.get("syslog"):
        return None
    name = twistd.get("logfile")
    if name == "-" or (not name and twistd.get("nodaemon")):
        # twistd replaces ``sys.stdout`` later; this is the real one.
        return sys.stdout
    file: Output = _LogFile.fromFullPath(name or "twistd.log")  # type: ignore[no-untyped-call]
    return file


def observer_of(output: Output, layout: str, level: str, lines_per_s: float) -> LevelFilter:
    """Twisted's log observer for ``output``: lines of ``layout``, from ``level`` on."""
    is_on_output = output is sys.stdout
    lines = make_observer(layout, output, lines_per_s, monotonic, is_on_output and is_journal())
    return LevelFilter(lines, level, is_on_output=is_on_output)


def is_one_output() -> bool:
    """Whether standard output and standard error are the same file, terminal or socket."""
    try:
        output, error = os.fstat(1), os.fstat(2)
    except OSError:
        return False
    return (output.st_dev, output.st_ino) == (error.st_dev, error.st_ino)


def is_journal() -> bool:
    """Whether standard output goes to journald (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(1)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def exit_with(status: int) -> None:
    """Exit with ``status`` after twistd has returned, which would exit with 0.

    ``atexit`` runs the last entry first, so functions registered earlier are skipped. twistd's log loses
    nothing, because it is flushed after every line.
    """
    atexit.register(_exit, status)


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def print_error(program: str, message: str) -> None:
    """Print to the real standard error: twistd has replaced ``sys.stderr`` with its log."""
    if sys.__stderr__ is not None:
        print(lines_of(program, message), file=sys.__stderr__, flush=True)


def lines_of(program: str, message: str) -> str:
    """Each line of a message, with the program's name."""
    return "\n".join(f"{program}: {line}" for line in message.splitlines())
