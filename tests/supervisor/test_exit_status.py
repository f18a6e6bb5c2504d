"""How a process ended, in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gateway.supervisor.exit_status import cause_of_end


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "killed by SIGKILL"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGRTMIN) + 5})", "killed by signal "),
    ],
)
def test_the_cause_is_named(code: str, cause: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status = os.waitpid(process.pid, 0)
    process.returncode = 0
    assert cause_of_end(status).startswith(cause)
