"""The memory of a session, in a worker with real sockets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
# A session takes 5.0 to 5.1 KiB with Python 3.11 to 3.13. An empty deque, for example, takes 0.7.
_MOST_BYTES = 5.5 * 1024


def test_a_session_with_a_held_idle_takes_little_memory() -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "tests.helpers.session_memory"],
        cwd=_CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert int(measured.stdout) < _MOST_BYTES
