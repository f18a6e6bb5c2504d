"""Replaces the supervisor's program in its running process, with its sockets, workers and totals.

The process executes the installed program again, under the same process id, as HAProxy's master does. The
state is a JSON document in memory whose descriptor the environment names; descriptors in it survive the
exec. Sessions are not concerned: workers run on, and clients that connect meanwhile wait in the kernel.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import cattrs
from attrs import field, frozen

from gateway.errors import GatewayError
from gateway.supervisor.datagram_sockets import HandedOverDatagramSocket
from gateway.supervisor.worker_process import HandedOver
from gateway.workers.setup import ConfigurationText

_VARIABLE: Final = "RTMPT_GATEWAY_STATE"
# Options of twistd that act before the successor runs, and cannot be repeated without root's rights.
_NOT_REPEATABLE: Final = ("uid", "gid", "chroot")


def _working_folder() -> Path | None:
    """None if it has been removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


# The working directory at the program's start, because its arguments can have relative paths. twistd
# changes it later, for --rundir.
_FOLDER: Final = _working_folder()


@frozen
class HandedOverSocket:
    """A listening socket, with its key (``listening_sockets``)."""

    address: str
    congestion_control: str
    number: int
    descriptor: int


@frozen
class HandedOverGeneration:
    """The workers of one configuration."""

    text: ConfigurationText
    is_current: bool
    workers: list[HandedOver]
    version: str = ""


@frozen
class State:
    """The supervisor's state. ``admin``: the descriptor of the admin server's socket; -1 for none.

    ``totals``: of ended workers, as plain families. ``checks``: the durations of health checks.
    """

    memory: int
    folder: str
    number: int
    draining: bool
    level: str
    restarts: int
    reloads: dict[str, int]
    totals: list[Any]
    admin: int
    sockets: list[HandedOverSocket] = field(factory=list)
    generations: list[HandedOverGeneration] = field(factory=list)
    drained_upstreams: list[str] = field(factory=list)
    downed_upstreams: list[str] = field(factory=list)
    datagram_sockets: list[HandedOverDatagramSocket] = field(factory=list)
    unanswered: int = 0
    checks: dict[str, dict[str, list[int]]] = field(factory=dict)

    @property
    def current(self) -> HandedOverGeneration:
        """The workers that accept clients."""
        return next(each for each in self.generations if each.is_current)

    @property
    def text(self) -> ConfigurationText:
        """Their configuration."""
        return self.current.text


def take_state(environment: MutableMapping[str, str]) -> State | None:
    """The state of the program that ran in this process before; None after an ordinary start.

    It is removed from the environment: workers that are started later have no use for it.
    """
    text = environment.pop(_VARIABLE, None)
    if text is None:
        return None
    with open(int(text), "rb") as file:  # noqa: PTH123  # a descriptor
        file.seek(0)
        return cattrs.structure(json.load(file), State)


def obstacle(twistd: Mapping[str, Any] | None) -> str:
    """Why the program cannot be replaced with these options of twistd; "" if it can."""
    if twistd is None or not twistd.get("nodaemon"):
        return "twistd runs as a daemon"
    for option in _NOT_REPEATABLE:
        if twistd.get(option):
            return f"twistd was started with --{option}"
    return ""


def execute_successor(state: State, pid_file: str) -> None:
    """Execute the program anew. Does not return. Raises GatewayError if it cannot be executed."""
    text = json.dumps(cattrs.unstructure(state)).encode()
    before = _working_folder()
    descriptor = os.memfd_create("rtmpt-gateway-state", 0)
    environment = {**os.environ, _VARIABLE: str(descriptor)}
    try:
        os.write(descriptor, text)
        _flush_outputs()
        if pid_file:
            # twistd refuses to start if the process in the file runs, even if it is its own.
            Path(pid_file).unlink(missing_ok=True)
        _enter(_FOLDER)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError as error:
        _enter(before)
        os.close(descriptor)
        if pid_file:
            with suppress(OSError):
                Path(pid_file).write_text(str(os.getpid()), encoding="ascii")
        raise GatewayError(f"{error.filename or sys.executable}: {error.strerror}") from None


def _flush_outputs() -> None:
    """A disk that is full, or a closed pipe, is no reason to keep the program."""
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError):
            output.flush()


def _enter(folder: Path | None) -> None:
    """Raises OSError."""
    if folder is not None:
        os.chdir(folder)
