"""A warning at startup for media servers that see all publishers as 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE = "a rule of the media server that lets 127.0.0.1 publish lets all clients publish"


def log_of_start(folder: Path, *words: str) -> str:
    """The log of a gateway from its start to its end."""
    path = folder / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
                *("-n", "--pidfile=", "rtmpt-gateway", "--listen", "127.0.0.1:0", *words),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 20
    while "media servers: " not in path.read_text() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    process.wait(20)
    return path.read_text()


@pytest.mark.parametrize(
    ("upstreams", "named"),
    [
        (["127.0.0.1:1"], "127.0.0.1:1"),
        (["localhost:1", "192.0.2.1:1", "[::1]:1"], "localhost:1, [::1]:1"),
    ],
)
def test_an_upstream_on_loopback_causes_a_warning_at_startup(
    tmp_path: Path, upstreams: list[str], named: str
) -> None:
    log = log_of_start(tmp_path, *(word for each in upstreams for word in ("--upstream", each)))
    assert log.count(LINE) == 1
    assert f"publishers reach {named} from a loopback address" in log


@pytest.mark.parametrize("words", [[], ["--upstream", "192.0.2.1:1"]])
def test_the_embedded_origin_and_upstreams_on_other_machines_cause_no_warning(
    tmp_path: Path, words: list[str]
) -> None:
    log = log_of_start(tmp_path, *words)
    assert "media servers: " in log
    assert LINE not in log
