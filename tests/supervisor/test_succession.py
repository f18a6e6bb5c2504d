"""The replacement of the supervisor's program, if it cannot be executed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from gateway.errors import GatewayError
from gateway.supervisor.succession import State, execute_successor

STATE = State(
    *(0, "/run/rtmpt-gateway", 1, False, "info", 0),
    reloads={},
    totals=[],
    admin=-1,
)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_program_that_cannot_be_executed_leaves_the_pid_file_and_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> NoReturn:
        assert not pid_file.exists()
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "execve", fail)
    pid_file = tmp_path / "twistd.pid"
    pid_file.write_text(str(os.getpid()), encoding="ascii")
    before = open_descriptors()
    with pytest.raises(GatewayError, match="No such file"):
        execute_successor(STATE, str(pid_file))
    assert pid_file.read_text(encoding="ascii") == str(os.getpid())
    assert open_descriptors() == before


def test_a_pid_file_that_cannot_be_removed_keeps_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def execute(*_: object) -> NoReturn:
        pytest.fail("the successor would refuse to start")

    monkeypatch.setattr(os, "execve", execute)
    # A folder cannot be removed as a file.
    with pytest.raises(GatewayError):
        execute_successor(STATE, str(tmp_path))
