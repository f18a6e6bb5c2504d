"""Every line of the log under twistd has the configured format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.telemetry.versions import version_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("layout", ["json", "text"])
def test_every_line_that_twistd_logs_has_the_configured_form(tmp_path: Path, layout: str) -> None:
    file = tmp_path / "gateway.toml"
    # Small limits: no word about how few files may be open here.
    file.write_text(
        f'[[listener]]\naddress = "127.0.0.1:0"\n[log]\nformat = "{layout}"\n'
        "[limits]\nconnections = 100\nsessions = 100\n"
    )
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    with subprocess.Popen(
        [*command, "-n", "--pidfile=", "rtmpt-gateway", "--config", str(file)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "the embedded origin serves" in line:
                process.terminate()
    assert f"rtmpt-gateway {version_of('rtmpt-gateway')} starts, with {file}" in lines[0]
    assert "stopped" in lines[-1]
    for noise in (
        "starting",
        "Closed)",
        "Main loop",
        "reactor class",
        "Stopping",
        "SIGTERM",
        "Shut",
    ):
        assert noise not in "".join(lines)
    for line in lines:
        if layout == "json":
            assert {"time", "level", "namespace", "message"} <= json.loads(line).keys()
        else:
            time, level, message = line.split(maxsplit=2)
            assert (time[-1], level, bool(message)) == ("Z", "info", True)
