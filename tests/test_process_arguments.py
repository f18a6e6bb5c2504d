"""A secret is not in the list of processes any longer."""

from __future__ import annotations

import subprocess
import sys

_HIDES = """
import sys
from pathlib import Path
from gateway.process_arguments import hide_argument
for secret in ("ann:geheïm", "unknown", ""):
    hide_argument(secret)
print(sys.argv[1:] == ["http://ann:geheïm@p", "last"])
print(Path("/proc/self/cmdline").read_bytes().split(bytes(1))[3:])
"""


def test_a_secret_is_overwritten_where_the_kernel_shows_it() -> None:
    words = [sys.executable, "-c", _HIDES, "http://ann:geheïm@p", "last"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    asterisks = "*" * len("ann:geheïm".encode())
    # Python's own arguments are as they were.
    assert said.splitlines() == ["True", f"[b'http://{asterisks}@p', b'last', b'']"]
