"""The command, and twistd's plugin, as processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest

from gateway.client.command import main

ROOT = Path(__file__).resolve().parents[2]
_COMMAND = "from gateway.client.command import main; main()"
_TWISTD = "from twisted.scripts.twistd import run; run()"


def process(folder: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_setup_cfg_installs_the_command() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    places = dict(script.split(" = ") for script in scripts)
    module, _, function = places["rtmpt-client"].partition(":")
    assert getattr(import_module(module), function) is main


@pytest.mark.parametrize(
    ("code", "words", "name"),
    [
        (_COMMAND, ("--help",), "rtmpt-client"),
        (_TWISTD, ("rtmpt-client", "--help"), "twistd rtmpt-client"),
    ],
)
def test_the_help_text_names_the_command_and_the_defaults(
    tmp_path: Path, code: str, words: tuple[str, ...], name: str
) -> None:
    done = process(tmp_path, code, *words)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: {name} ")
    assert "rtmp:1935, rtmps:443, rtmpt:80, rtmpts:443" in done.stdout


def test_a_help_text_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, "--help"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.stderr == "rtmpt-client: standard output: No space left on device\n"
    assert done.returncode == 1


# A shell's background ignores it.
_ACCEPT_SIGINT = "signal.signal(signal.SIGINT, signal.default_int_handler)"
# The signal arrives during the imports.
_INTERRUPTED = f"""
import os, signal, sys
{_ACCEPT_SIGINT}
class Interrupting:
    def find_spec(self, name, *_):
        if name == "twisted.scripts":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
{_COMMAND}
"""


def test_ctrl_c_during_the_start_is_no_traceback(tmp_path: Path) -> None:
    done = process(tmp_path, _INTERRUPTED, "--gateway", "a.example", "--listen", "127.0.0.1:0")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 130)


# The handlers of reactor and service are there in the first iteration.
_SIGNALLED_TWICE = f"""
import os, signal
from twisted.internet import reactor
{_ACCEPT_SIGINT}
def send():
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
reactor.callWhenRunning(lambda: reactor.callLater(0, send))
{_COMMAND}
"""


def test_two_signals_at_once_stop_the_program_without_a_fault(tmp_path: Path) -> None:
    words = ("--gateway", "a.example", "--listen", "127.0.0.1:0", "--state", "none")
    done = process(tmp_path, _SIGNALLED_TWICE, *words)
    assert [line.split()[2] for line in done.stdout.splitlines()] == [
        *("listening", "ready:", "stopped"),
    ]
    assert done.returncode == -signal.SIGINT


# A name server that does not answer.
_SIGNALLED_DURING_A_LOOK_UP = f"""
import os, signal, socket, time
begun = []
socket.getaddrinfo = lambda *_, **__: (begun.append(True), time.sleep(600))
from twisted.internet import reactor
{_ACCEPT_SIGINT}
def connect():
    program = socket.socket(socket.AF_UNIX)
    program.connect("local")
    program.send(bytes([3]) + bytes(1536))
    stop(program)
def stop(program):
    if begun:
        os.kill(os.getpid(), signal.SIGINT)
    else:
        reactor.callLater(0.01, stop, program)
reactor.callWhenRunning(lambda: reactor.callLater(0, connect))
{_COMMAND}
"""


def test_a_stop_does_not_wait_for_a_name_server_that_does_not_answer(tmp_path: Path) -> None:
    words = ("--gateway", "a.example", "--listen", f"unix:{tmp_path}/local", "--state", "none")
    done = process(tmp_path, _SIGNALLED_DURING_A_LOOK_UP, *words)
    assert done.stdout.endswith("stopped\n")
    assert done.returncode == -signal.SIGINT


def test_an_address_that_cannot_be_listened_on_is_one_line_on_each_output(tmp_path: Path) -> None:
    # Of no interface: TEST-NET-1 (RFC 5737).
    words = ("--gateway", "a.example", "--listen", "192.0.2.1:1935", "--allow-remote")
    done = process(tmp_path, _COMMAND, *words)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith('rtmpt-client: "192.0.2.1:1935": this machine has no such address')


# As systemd passes a socket (sd_listen_fds(3)). This one is bound, and accepts nothing.
_ACTIVATED = f"""
import os, socket
inherited = socket.socket()
inherited.bind(("0.0.0.0", 0))
os.dup2(inherited.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="local")
{_COMMAND}
"""


def test_a_socket_of_systemds_that_other_machines_can_reach_is_refused(tmp_path: Path) -> None:
    words = ("--gateway", "a.example", "--listen", "systemd:local", "--state", "none")
    done = process(tmp_path, _ACTIVATED, *words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("rtmpt-client: systemd:local: other machines can connect there")
