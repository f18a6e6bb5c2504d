"""The system's time is set back while the gateway runs, as by NTP after a start without network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import ANY_PORT, LOOPBACK, ROOT, port_said

# Python imports it before all other modules, which then have its ``time.time``.
_SITE = """
import time
from pathlib import Path

_step = Path({step!r})
_time = time.time
time.time = lambda: _time() + float(_step.read_text())
"""
_CLIENT = """
from time import monotonic
from gateway.client.service import Options, makeService
options = Options()
options.parseOptions(["--listen", "127.0.0.1:0", "--gateway", "127.0.0.1"])
makeService(options)
from twisted.internet import reactor
assert reactor.callLater(1, int).getTime() < monotonic() + 2
"""


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """A file with the seconds by which the time of programs is moved that import from its folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    step = folder / "step"
    step.write_text("0")
    (folder / "sitecustomize.py").write_text(_SITE.format(step=str(step)))
    return step


def test_time_that_is_set_back_stops_no_timer(programs: Programs, step: Path) -> None:
    with echo_server() as upstream:
        gateway = programs.start(
            *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
            *("--nodaemon", "--pidfile=", "rtmpt-gateway", *ANY_PORT, "--workers", "1"),
            *("--upstream", f"{LOOPBACK}:{upstream}"),
            environment={"PYTHONPATH": f"{step.parent}:{ROOT}"},
        )
        gateway.says("ready: ")
        port = port_said(gateway, f"listening on {LOOPBACK}:")
        session = NumberedSession(port, keeps=True)
        session.step()
        step.write_text("-600")
        began = monotonic()
        for _ in range(3):
            session.poll()
        session.finish()
    assert monotonic() - began < 10


def test_timers_of_the_client_have_monotonic_times() -> None:
    subprocess.run([sys.executable, "-c", _CLIENT], check=True, env={"PYTHONPATH": str(ROOT)})
